"""Which equations are rectifiers and which are linear, at the edges: signs, limits, orders of operands, readers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcam.program import guided, recognize
from jaxcam.program.recognize import activations, is_affine, is_piecewise_linear, number_of, uniform
from jaxcam.program.trace import trace

X = jnp.array([[-1.0, 3.0, 9.0]])


def rectifiers(function, x=X):
    """For each rectifier its kind, and the operation that makes its source ("" for the input)."""
    program = trace(function, x)
    makers = {value: node.name for node in program.nodes for value in node.outputs}
    return [(hit.kind, makers.get(hit.source, "")) for _, hit in sorted(activations(program).items())]


def kinds(function, x=X):
    return [kind for kind, _ in rectifiers(function, x)]


def passed(model, r):
    """What guided backpropagation hands back of r."""
    return jax.vjp(guided(model), X)[1](jnp.full(X.shape, r))[0].tolist()


GT, GE, LT, LE = jax.lax.gt, jax.lax.ge, jax.lax.lt, jax.lax.le
ZERO = jnp.zeros(X.shape)


@pytest.mark.parametrize("compare", [GT, GE])
def test_a_choice_by_a_comparison_is_a_relu_only_where_the_positive_side_is_kept(compare):
    other = {GT: LT, GE: LE}[compare]
    for relu in (
        lambda x: jnp.where(compare(x, ZERO), x, 0),
        lambda x: jnp.where(other(x, ZERO), 0, x),
        lambda x: jnp.where(other(ZERO, x), x, 0),
        lambda x: jnp.where(compare(ZERO, x), 0, x),
        lambda x: x * compare(x, ZERO),
        lambda x: other(ZERO, x) * x,
    ):
        assert kinds(relu) == ["relu"]
    for no_relu in (
        lambda x: jnp.where(compare(x, ZERO), 0, x),
        lambda x: jnp.where(other(x, ZERO), x, 0),
        lambda x: jnp.where(other(ZERO, x), 0, x),
        lambda x: jnp.where(compare(ZERO, x), x, 0),
        lambda x: x * compare(ZERO, x),
        lambda x: other(x, ZERO) * x,
        lambda x: jnp.where(compare(x, ZERO + 1), x, 0),
        lambda x: jnp.where(compare(x, ZERO), x, 1),
        lambda x: x * compare(x, ZERO + 1),
    ):
        assert kinds(no_relu) == []


def test_a_choice_by_another_value_is_no_relu():
    y = lambda x: x + jnp.arange(3.0)
    assert kinds(lambda x: jnp.where(y(x) > 0, x, 0)) == []
    assert kinds(lambda x: jnp.where(y(x) < 0, 0, x)) == []
    assert kinds(lambda x: jnp.where(x > 0, y(x), 0)) == []
    assert kinds(lambda x: x * (y(x) > 0)) == []
    assert kinds(lambda x: x * jnp.array([True, False, True])) == []
    assert kinds(lambda x: jnp.where(jnp.isnan(x), x, 0)) == []
    assert kinds(lambda x: jnp.where(x > 0, x, 0.5 * y(x))) == []


def test_a_choice_among_three_is_no_relu():
    def three(x):
        return jax.lax.select_n((x > 0).astype(jnp.int32) + (x > 6), ZERO, x, ZERO + 6)

    assert kinds(three) == []


@pytest.mark.parametrize("slope", [0.01, 0.25, 0.99])
def test_a_slope_below_one_is_leaky(slope):
    for leaky in (
        lambda x: jnp.maximum(x, slope * x),
        lambda x: jnp.maximum(x * slope, x),
        lambda x: jnp.maximum(x, x / (1 / slope)),
        lambda x: jnp.where(x > 0, x, slope * x),
        lambda x: jnp.where(x <= 0, x * slope, x),
        lambda x: jnp.where(x >= 0, x, x / (1 / slope)),
    ):
        assert rectifiers(leaky) == [("leaky_relu", "")]
        (hit,) = activations(trace(leaky, X)).values()
        assert hit.slope == pytest.approx(slope)
        assert (hit.limit, hit.custom) == (np.inf, False)


@pytest.mark.parametrize("slope", [1.0, 2.0, -0.5, 0.0])
def test_a_slope_of_one_and_more_or_none_at_all_is_not(slope):
    for no_leaky in (
        lambda x: jnp.maximum(x, slope * x),
        lambda x: jnp.maximum(x * slope, x),
        lambda x: jnp.maximum(x, x / (1 / slope if slope else jnp.inf)),
    ):
        assert kinds(no_leaky) == []
    if slope != 0:  # of slope 0 the negative side is 0
        assert kinds(lambda x: jnp.where(x > 0, x, x * slope)) == []


def test_a_slope_is_of_the_value_itself():
    other = jnp.arange(3.0)
    assert kinds(lambda x: jnp.maximum(x, 0.25 * (x + other))) == []
    assert kinds(lambda x: jnp.maximum(x, 0.25 * other)) == []
    assert kinds(lambda x: jnp.maximum(x, 0.25 / x)) == []
    assert kinds(lambda x: jnp.maximum(x, 4.0 / x)) == []
    assert kinds(lambda x: jnp.maximum(x, x * x)) == []
    assert kinds(lambda x: jnp.maximum(x, x * jnp.array([0.1, 0.2, 0.3]))) == []
    assert kinds(lambda x: jnp.maximum(x, x + 0.25)) == []
    assert kinds(lambda x: jnp.maximum(x, x / 0.0)) == []
    assert kinds(lambda x: jnp.maximum(x, x / jnp.array([1.0, 2.0, 3.0]))) == []


@pytest.mark.parametrize("limit", [6.0, 0.5])
def test_a_relu_is_clipped_by_a_number_above_zero(limit):
    for clipped in (
        lambda x: jnp.minimum(jnp.maximum(x, 0), limit),
        lambda x: jnp.minimum(limit, jnp.maximum(0, x)),
        lambda x: jnp.maximum(jnp.minimum(x, limit), 0),
        lambda x: jnp.maximum(0, jnp.minimum(limit, x)),
        lambda x: jax.lax.clamp(0.0, x, limit),
    ):
        assert rectifiers(clipped) == [("clipped_relu", "")]
        (hit,) = activations(trace(clipped, X)).values()
        assert (hit.slope, hit.limit, hit.custom) == (0, limit, False)


@pytest.mark.parametrize("limit", [0.0, -1.0])
def test_a_limit_of_zero_or_below_clips_nothing(limit):
    """What is left is the ReLU alone, around or inside of something that no rule knows."""
    assert rectifiers(lambda x: jnp.minimum(jnp.maximum(x, 0), limit)) == [("relu", "")]
    assert rectifiers(lambda x: jnp.maximum(jnp.minimum(x, limit), 0)) == [("relu", "min")]
    assert rectifiers(lambda x: jax.lax.clamp(0.0, x, limit)) == []


def test_limits_that_are_not_one_number_clip_nothing():
    limits = jnp.array([1.0, 2.0, 3.0])
    assert rectifiers(lambda x: jnp.minimum(jnp.maximum(x, 0), limits)) == [("relu", "")]
    assert rectifiers(lambda x: jnp.maximum(jnp.minimum(x, limits), 0)) == [("relu", "min")]
    assert rectifiers(lambda x: jax.lax.clamp(jnp.zeros(3)[None], x, limits[None])) == []
    assert rectifiers(lambda x: jax.lax.clamp(-limits[None], x, limits[None])) == []


def test_a_clamp_from_another_number_than_zero_is_no_relu():
    for low in (-1.0, 0.5, -jnp.inf):
        assert kinds(lambda x, low=low: jax.lax.clamp(low, x, 6.0)) == []
    assert kinds(lambda x: jax.lax.clamp(0.0, x, jnp.inf)) == ["relu"]


def test_only_a_relu_is_clipped():
    leaky = lambda x: jnp.maximum(x, 0.25 * x)
    assert kinds(lambda x: jnp.minimum(leaky(x), 6.0)) == ["leaky_relu"]
    assert kinds(lambda x: jnp.minimum(jax.nn.relu6(x), 3.0)) == ["clipped_relu"]
    assert kinds(lambda x: jnp.minimum(x, 6.0)) == []


@pytest.mark.parametrize("r", [1.0, -1.0])
def test_the_parts_of_a_clipped_relu_are_rectifiers_of_their_own_where_somebody_else_reads_them(r):
    """Back through max(x, 0) and its reader y: of r = −1 a guided ReLU lets nothing through."""

    def low_first(x):
        y = jnp.maximum(x, 0)
        return jnp.minimum(y, 6) + y

    def high_first(x):
        y = jnp.minimum(x, 6)
        return jnp.maximum(y, 0) + y

    assert rectifiers(low_first) == [("relu", ""), ("clipped_relu", "")]
    assert passed(low_first, r) == [[0, 2, 1] if r > 0 else [0, 0, 0]]
    assert rectifiers(high_first) == [("relu", "min")]
    with pytest.raises(ValueError, match="min"):
        guided(high_first)(X)


def test_a_part_that_is_returned_is_a_rectifier_of_its_own():
    def low_first(x):
        y = jnp.maximum(x, 0)
        return jnp.minimum(y, 6), y

    def high_first(x):
        y = jnp.minimum(x, 6)
        return jnp.maximum(y, 0), y

    assert rectifiers(low_first) == [("relu", ""), ("clipped_relu", "")]
    assert rectifiers(high_first) == [("relu", "min")]
    assert kinds(lambda x: jnp.minimum(jnp.maximum(x, 0), 6)) == ["clipped_relu"]


def test_the_values_inside_a_rectifier_are_named():
    def inner(function):
        program = trace(function, X)
        (hit,) = activations(program).values()
        makers = {value: node.name for node in program.nodes for value in node.outputs}
        return sorted(makers[value] for value in hit.inner)

    assert inner(lambda x: jnp.maximum(x, 0)) == []
    assert inner(lambda x: jnp.minimum(jnp.maximum(x, 0), 6)) == ["max"]
    assert inner(lambda x: jnp.maximum(jnp.minimum(x, 6), 0)) == ["min"]
    assert inner(lambda x: jnp.maximum(x, 0.25 * x)) == ["mul"]
    assert inner(lambda x: jax.lax.select(x > 0, x, ZERO)) == ["gt"]
    assert inner(lambda x: jax.lax.select(x > 0, x, 0.25 * x)) == ["gt", "mul"]
    assert inner(lambda x: x * (x > 0)) == ["convert_element_type", "gt"]
    assert inner(jax.nn.relu6) == inner(jax.nn.relu) == []


def custom(function):
    """A function with a derivative of its own around another."""
    wrapped = jax.custom_jvp(function)
    wrapped.defjvp(lambda primals, tangents: jax.jvp(function, primals, tangents))
    return wrapped


def test_a_derivative_of_its_own_is_a_rectifier_only_around_nothing_but_one():
    assert kinds(custom(lambda x: jnp.maximum(x, 0))) == ["relu"]
    assert kinds(custom(lambda x: jnp.clip(x, 0, 6))) == ["clipped_relu"]
    for function, expected in (
        (lambda x: jnp.maximum(x, x / 4), (0.25, np.inf)),
        (lambda x: jnp.clip(x, 0, 6), (0, 6)),
    ):
        (hit,) = activations(trace(custom(function), X)).values()
        assert ((hit.slope, hit.limit), hit.custom) == (expected, True)
    assert kinds(custom(lambda x: jnp.maximum(2 * x, 0))) == []
    assert kinds(custom(lambda x: jnp.maximum(x, 0) + 1)) == []
    assert kinds(custom(lambda x: 2 * x)) == []
    two_results = custom(lambda x: (jnp.maximum(x, 0), x))
    assert kinds(lambda x: two_results(x)[0]) == []
    two_operands = custom(lambda x, y: jnp.maximum(x, 0) + 0 * y)
    assert kinds(lambda x: two_operands(x, x)) == []
    ignored = custom(lambda y, x: jnp.maximum(x, 0))
    assert kinds(lambda x: ignored(x, x + 1)) == []
    assert kinds(lambda x: custom(lambda y: 3.0)(x)) == []


SAME = {
    "broadcast": lambda number: jnp.broadcast_to(number, X.shape),
    "reshaped": lambda number: jnp.broadcast_to(number, (3, 1)).reshape(X.shape),
    "squeezed": lambda number: jnp.squeeze(jnp.broadcast_to(number, (1, 1, 3)), 0),
    "negated": lambda number: -jnp.broadcast_to(-number, X.shape),
    "converted": lambda number: jnp.broadcast_to(number, X.shape).astype(jnp.int32).astype(jnp.float32),
    "copied": lambda number: jnp.copy(jnp.broadcast_to(number, X.shape)),
}


@pytest.mark.parametrize("way", SAME)
def test_a_number_is_followed_through_what_keeps_it(way):
    number = lambda value: SAME[way](jnp.asarray(value, jnp.float32))
    assert kinds(lambda x: jnp.maximum(x, number(0.0))) == ["relu"]
    assert kinds(lambda x: jnp.minimum(jnp.maximum(x, 0), number(6.0))) == ["clipped_relu"]
    assert kinds(lambda x: jnp.minimum(jnp.maximum(x, 0), number(-6.0))) == ["relu"]
    assert kinds(lambda x: jnp.maximum(x, number(0.25) * x)) == ([] if way == "converted" else ["leaky_relu"])


def test_a_number_that_is_converted_is_the_converted_one():
    """As an integer 0.9 is 0 and as a truth value 1: max(x, 0) is a ReLU, max(x, 1) is none."""
    convert = lambda value, dtype: jnp.full(X.shape, value).astype(dtype).astype(jnp.float32)
    assert kinds(lambda x: jnp.maximum(x, convert(0.9, jnp.int32))) == ["relu"]
    assert kinds(lambda x: jnp.maximum(x, convert(-0.9, jnp.int32))) == ["relu"]
    assert kinds(lambda x: jnp.maximum(x, convert(0.9, bool))) == []
    assert kinds(lambda x: jnp.minimum(jnp.maximum(x, 0), convert(0.9, jnp.int32))) == ["relu"]
    assert kinds(lambda x: jnp.maximum(x, x * convert(1.2, jnp.int32))) == []
    assert kinds(lambda x: jnp.maximum(x, convert(0.0, jnp.bfloat16))) == ["relu"]


CONVERTED = [
    (0.9, jnp.int32, 0),
    (-0.9, jnp.int8, 0),
    (127.0, jnp.int8, 127),
    (-128.0, jnp.int8, -128),
    (128.0, jnp.int8, None),  # out of range: every processor has its own
    (-129.0, jnp.int8, None),
    (-1.0, jnp.uint8, None),
    (np.inf, jnp.int32, None),
    (np.nan, jnp.int32, None),
    (0.5, jnp.bool_, 1),
    (0.0, jnp.bool_, 0),
    (0.1, jnp.bfloat16, float(jnp.bfloat16(0.1))),
    (1e30, jnp.float16, np.inf),
    (0.0, jnp.complex64, None),
    (None, jnp.float32, None),
]


@pytest.mark.parametrize(("number", "dtype", "expected"), CONVERTED)
def test_what_a_number_becomes_in_another_type(number, dtype, expected):
    assert recognize._converted(number, jnp.dtype(dtype)) == expected
    if number is not None:
        program = trace(lambda x: x + jnp.full(X.shape, number).astype(dtype).astype(jnp.float32), X)
        last = {node.name: node.outputs[0] for node in program.nodes[:-1]}["convert_element_type"]
        assert uniform(program).get(last) == expected


def test_a_number_that_something_else_was_done_to_is_not_known():
    assert kinds(lambda x: jnp.maximum(x, jnp.sin(jnp.zeros(3)))) == []
    program = trace(lambda x: x + jnp.cos(jnp.zeros(3)), X)
    assert all(number == 0 for number in uniform(program).values())


@pytest.mark.parametrize("size", [1, 2, 4096])
def test_a_constant_of_one_number_is_that_number(size):
    x = jnp.ones((1, size))
    for zeros in (np.zeros(size, np.float32), np.zeros(size, np.int8), np.zeros(size, bool)):
        assert kinds(lambda x, zeros=zeros: jnp.maximum(x, jnp.asarray(zeros).astype(jnp.float32)), x) == ["relu"]


def test_a_constant_of_several_numbers_a_weight_and_one_without_numbers_are_not():
    assert recognize._only_number(np.zeros(4096)) == 0
    assert recognize._only_number(np.zeros(4097)) is None
    assert recognize._only_number(np.zeros(0)) is None
    assert recognize._only_number(np.array([0.0, 1.0])) is None
    assert recognize._only_number(np.array([1.0, 0.0])) is None
    assert recognize._only_number(np.array([2.5, 2.5])) == 2.5
    assert recognize._only_number(np.array(True)) == 1
    assert recognize._only_number(np.zeros(2, complex)) is None
    assert recognize._only_number(jax.random.key(0)) is None


def test_a_zero_that_is_traced_is_not_seen():
    """Nobody can tell what it will be: the rule does not know the operation, and says so."""

    @jax.jit
    def inside(zero, x):
        return guided(lambda x: jnp.maximum(x, zero))(x)

    with pytest.raises(ValueError, match="'max'"):
        inside(jnp.zeros(X.shape), X)


def test_literals_are_numbers_if_real():
    program = trace(lambda x: (x + 2.0, x.astype(jnp.complex64) * 2j), X)
    literals = [atom for node in program.nodes for atom in node.inputs if not isinstance(atom, int)]
    known = [number_of(atom, {}) for atom in literals]
    assert 2.0 in known
    assert any(np.iscomplexobj(atom.val) for atom in literals) == (None in known)
    assert number_of(0, {0: 5.0}) == 5.0
    assert number_of(1, {0: 5.0}) is None


def linear(function, *x, live=None):
    """Whether each node that depends on the input is piecewise linear, the last first."""
    program = trace(function, *x)
    values = program.depending_on(program.inputs if live is None else [program.inputs[i] for i in live])
    return [is_piecewise_linear(node, values) for node in reversed(program.nodes)]


Y = X + 1


def test_products_and_quotients_are_linear_in_one_operand():
    assert linear(lambda x: x * Y, X) == [True]
    assert linear(lambda x: x * x, X) == [False]
    assert linear(lambda x, y: x * y, X, Y) == [False]
    assert linear(lambda x, y: x * y, X, Y, live=[1]) == [True]
    assert linear(lambda x: x / Y, X) == [True]
    assert linear(lambda x: Y / x, X) == [False]
    assert linear(lambda x: x / x, X) == [False]
    assert linear(lambda x, y: x @ y.T, X, Y)[0] is False
    assert linear(lambda x, y: x @ y, X, Y.T, live=[0]) == [True]
    assert linear(lambda x, y: x @ y, X, Y.T, live=[1]) == [True]


def test_choices_are_linear_where_the_choice_does_not_depend_on_the_input():
    assert linear(lambda x: jax.lax.select(Y > 3, x, 2 * x), X)[0] is True
    assert linear(lambda x: jax.lax.select(x > 3, x, 2 * x), X)[0] is False
    assert linear(lambda x: jax.lax.select(x > 3, Y, 2 * Y), X)[0] is False


def test_a_maximum_is_linear_of_two_values_or_with_what_never_wins():
    infinity = jnp.full(X.shape, jnp.inf)
    assert linear(lambda x, y: jnp.maximum(x, y), X, Y) == [True]
    assert linear(lambda x, y: jnp.minimum(x, y), X, Y) == [True]
    assert linear(lambda x: jax.lax.max(x, x), X) == [True]
    scalar = jnp.float32(1)
    for extreme, idle in ((jax.lax.max, -jnp.inf), (jax.lax.min, jnp.inf)):
        assert linear(lambda x, f=extreme, i=idle: f(x, jnp.float32(i)), scalar) == [True]
        assert linear(lambda x, f=extreme, i=idle: f(jnp.float32(i), x), scalar) == [True]
        assert linear(lambda x, f=extreme, i=idle: f(x, jnp.float32(-i)), scalar) == [False]
        assert linear(lambda x, f=extreme: f(x, jnp.float32(1)), scalar) == [False]
    assert linear(lambda x: jnp.maximum(x, infinity[0]), X)[0] is False


def test_what_has_no_gradient_bends_nothing():
    assert all(linear(lambda x: jnp.argmax(x, -1), X))
    assert all(linear(lambda x: (x > 0) & (x < 5), X))
    assert linear(lambda x: jnp.exp(Y) + x, X)[0] is True
    assert linear(jnp.exp, X) == [False]
    assert linear(lambda x: jax.lax.exp(x.astype(jnp.complex64)).real, X)[1] is False


def test_affine_is_a_kernel_with_exactly_one_operand_of_the_input():
    program = trace(lambda x, y: (x @ y, x @ x.T, y @ y, x + x), X, jnp.ones((3, 3)))
    live = program.depending_on([program.inputs[0]])
    products = [node for node in program.nodes if node.name == "dot_general"]
    assert [is_affine(node, live) for node in products] == [True, False, False]
    assert not any(is_affine(node, live) for node in program.nodes if node.name != "dot_general")
