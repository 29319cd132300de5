"""Equations are read in every form that a supported version of JAX writes them in, and in no other."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from program_nets import IMAGES, convolve, flax_nnx, weights

import jaxcam as jc
from jaxcam.program.equations import ScanParts, called_jaxpr, derivative_body, nested_jaxprs, operation_name, scan_parts
from jaxcam.program.trace import trace

# Settings that newer versions of JAX have, and mean to turn on; the ones at hand.
COMING = [name for name in ("jax_custom_jvp3", "jax_custom_vjp3", "jax_remat3") if hasattr(jax.config, name)]


@pytest.fixture(params=[(), tuple(COMING)] if COMING else [()], ids=lambda names: "+".join(names) or "today")
def settings(request):
    """JAX's settings of today, and all coming ones together where it has some."""
    before = {name: getattr(jax.config, name) for name in request.param}
    for name in request.param:
        jax.config.update(name, True)
    yield request.param
    for name, value in before.items():
        jax.config.update(name, value)


def _first(function, *arguments):
    return jax.make_jaxpr(function)(*arguments).jaxpr.eqns[0]


@jax.custom_vjp
def _twice(x):
    return 2 * x


_twice.defvjp(lambda x: (2 * x, None), lambda _, c: (2 * c,))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (jax.nn.relu, "custom_jvp_call"),
        (_twice, "custom_vjp_call"),
        (jax.jit(jnp.tanh), "jit"),
        (lambda x: jax.lax.scan(lambda c, _: (c, None), x, length=2)[0], "scan"),
        (jnp.tanh, "tanh"),
    ],
)
def test_an_operation_has_one_name_under_all_settings(settings, function, name):
    # Older versions say pjit; both are calls.
    assert operation_name(_first(function, jnp.ones(2))).replace("pjit", "jit") == name


def test_a_function_with_a_derivative_of_its_own_shows_what_it_computes(settings):
    for function, inside in ((jax.nn.relu, "max"), (_twice, "mul")):
        (node,) = trace(function, jnp.ones(2)).nodes
        assert node.body is not None
        assert [inner.name for inner in node.body.nodes] == [inside]
        assert derivative_body(node.equation) is not None


def test_rematerialized_blocks_are_opened(settings):
    program = trace(jax.checkpoint(lambda x: jnp.tanh(jnp.sin(x))), jnp.ones(2))
    assert [node.name for node in program.nodes] == ["sin", "tanh"]


METHODS = {
    "guided_backprop": jc.guided_backprop,
    "deep_lift": jc.deep_lift,
    "lrp": jc.lrp,
    "grad_cam": jc.grad_cam,
    "under checkpoint": lambda model, x, target: jc.guided_backprop(jax.checkpoint(model), x, target),
}


@pytest.fixture(scope="module")
def answers_of_today():
    """The maps of every method, and the layers, with JAX's settings as they are."""
    model = flax_nnx()
    names = [(layer.name, layer.shape) for layer in jc.layers(model, IMAGES)]
    return names, {name: np.asarray(method(model, IMAGES, 1)) for name, method in METHODS.items()}


def test_answers_are_the_same_under_all_settings(answers_of_today, settings):
    if not settings:
        pytest.skip("the answers of today are what the others are compared with")
    names, maps = answers_of_today
    model = flax_nnx()
    assert [(layer.name, layer.shape) for layer in jc.layers(model, IMAGES)] == names
    assert len(jc.layers(jax.checkpoint(model), IMAGES)) == len(names)
    for name, method in METHODS.items():
        right = maps[name]
        np.testing.assert_allclose(method(model, IMAGES, 1), right, atol=1e-6 * abs(right).max(), err_msg=name)


def test_a_scan_tells_its_constants_from_its_carry():
    def total(x, scale):
        return jax.lax.scan(lambda c, row: ((c[0] + row * scale, 2 * c[1]), row), (x, x), jnp.ones((3, 2)))

    jaxpr = jax.make_jaxpr(total)(jnp.ones(2), jnp.ones(2)).jaxpr
    assert [scan_parts(e) for e in jaxpr.eqns if e.primitive.name == "scan"] == [ScanParts(1, 2)]


class _Parts:
    """Stands for the tree that newer versions of JAX keep in `ft_in`."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def unpack(self):
        return [[None] * size for size in self.sizes]


def _scan(invars, outvars=2, **params):
    primitive = SimpleNamespace(name="scan")
    return SimpleNamespace(primitive=primitive, params=params, invars=[0] * invars, outvars=[0] * outvars)


COMMON = {"jaxpr": None, "length": 2, "reverse": False}


@pytest.mark.parametrize(
    ("invars", "params", "parts"),
    [
        (4, {"num_consts": 1, "num_carry": 2, **COMMON}, (1, 2)),
        (4, {"ft_in": _Parts(1, 2, 1), **COMMON}, (1, 2)),
        (2, {"ft_in": _Parts(0, 2, 0), **COMMON}, (0, 2)),
    ],
)
def test_both_forms_of_a_scan_are_read(invars, params, parts):
    assert scan_parts(_scan(invars, **params)) == parts


@pytest.mark.parametrize(
    "params",
    [
        {"ft_in": _Parts(1, 2), **COMMON},
        {"ft_in": _Parts(1, 2, 2), **COMMON},
        {"num_consts": 3, "num_carry": 2, **COMMON},
        {"num_consts": 1, "num_carry": 3, **COMMON},
        {"num_consts": 1, **COMMON},
        {"tree": None, **COMMON},
        {"num_consts": 1, "num_carry": 2, "jaxpr": None, "length": 2},
    ],
)
def test_a_form_of_scan_never_seen_is_an_error_that_names_the_version_of_jax(params):
    sentence = rf"JAX {re.escape(jax.__version__)} writes 'scan' in a form .*{sorted(params)[0]}"
    with pytest.raises(NotImplementedError, match=sentence):
        scan_parts(_scan(4, **params))


@pytest.mark.parametrize(("name", "reader"), [("jit", called_jaxpr), ("custom_jvp_call", derivative_body)])
def test_a_form_of_call_never_seen_is_an_error(name, reader):
    equation = SimpleNamespace(primitive=SimpleNamespace(name=name), params={"program": None}, invars=[0], outvars=[0])
    with pytest.raises(NotImplementedError, match=rf"'{name}' in a form that this jaxcam does not know .*program"):
        reader(equation)


def test_a_call_with_other_operands_than_its_jaxpr_is_an_error():
    jaxpr = jax.make_jaxpr(lambda a, b: a + b)(1.0, 2.0)
    equation = SimpleNamespace(primitive=SimpleNamespace(name="jit"), params={"jaxpr": jaxpr}, invars=[0], outvars=[0])
    with pytest.raises(NotImplementedError, match="'jit' in a form"):
        called_jaxpr(equation)


def test_branches_and_loops_show_what_is_nested():
    branch = _first(lambda x: jax.lax.cond(True, jnp.sin, jnp.cos, x), jnp.ones(2))
    assert sorted(inner.eqns[-1].primitive.name for inner in nested_jaxprs(branch)) == ["cos", "sin"]
    loop = _first(lambda x: jax.lax.while_loop(lambda c: c.sum() < 2, jnp.sin, x), jnp.ones(2))
    assert len(nested_jaxprs(loop)) == 2
    assert nested_jaxprs(_first(jnp.sin, jnp.ones(2))) == []


def test_scanned_blocks_are_layers_under_all_settings(settings):
    kernels = weights((3, 3, 3, 3, 3))

    def apply(kernels, x):
        x, _ = jax.lax.scan(jax.checkpoint(lambda x, w: (jax.nn.relu(convolve(x, w)), None)), x, kernels)
        return x.mean((1, 2))

    model = Partial(apply, kernels)
    assert [layer.kind for layer in jc.layers(model, IMAGES)] == ["conv"] * 3 + ["pool"]
    x = IMAGES
    for kernel in kernels:
        x = jax.nn.relu(convolve(x, kernel))
    np.testing.assert_allclose(jc.tap(model, jc.layers(model, IMAGES)[2].name)(IMAGES), x, atol=1e-6 * abs(x).max())


def test_a_tag_keeps_its_name_under_all_settings(settings):
    assert [layer.name for layer in jc.layers(lambda x: jc.tag(2 * x, "twice") + 1, IMAGES)] == ["twice"]
