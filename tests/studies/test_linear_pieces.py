"""Linear pieces: W·x + b is the network, the half-spaces are where that ends, identifiers say who shares one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxcam import studies
from jaxcam.studies import pieces

RNG = np.random.default_rng(0)


def kernel(*shape):
    return jnp.asarray(RNG.normal(size=shape) * np.sqrt(2 / np.prod(shape[:-1])))


def convolve(x, k, strides=(1, 1)):
    return jax.lax.conv_general_dilated(x, k, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


WEIGHTS = {
    "a": np.asarray(kernel(3, 3, 2, 4)),
    "b": np.asarray(kernel(3, 3, 4, 4)),
    "c": np.asarray(kernel(1, 1, 8, 3)),
    "d": np.asarray(kernel(3, 5)),
    "shift": RNG.normal(size=4) / 3,
}


def network(p, x):
    """Every operation that the study is exact for: residual, batch norm, leaky ReLU, pools, concatenation."""
    x = jax.nn.relu(convolve(x, p["a"]) + p["shift"])
    x = nnx.max_pool(x, (3, 3), (2, 2), padding="SAME")
    y = convolve(x, p["b"])
    y = (y - p["shift"]) / jnp.sqrt(1.7 + 1e-5) * (1 + p["shift"]) + 0.1
    x = jax.nn.leaky_relu(x + y, 0.1)
    x = jnp.concatenate([x, jnp.maximum(-x, 0.2)], -1)
    x = nnx.avg_pool(convolve(x, p["c"]), (2, 2), (1, 1))
    return jnp.where(x > 0, x, 0).mean((1, 2)) @ p["d"]


def model(dtype):
    return jax.tree_util.Partial(network, {name: jnp.asarray(w, dtype) for name, w in WEIGHTS.items()})


def images(n, dtype, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, 6, 6, 2)), dtype)


@pytest.fixture(scope="module")
def exact():
    """In float64, three images: the pieces, the network and the images."""
    with jax.enable_x64(True):
        net, x = model(jnp.float64), images(3, jnp.float64)
        yield studies.linear_piece(net, x), net, x


def inner(W, x):
    return np.tensordot(np.asarray(W), np.asarray(x), 3)


def test_the_piece_is_the_network_in_float64(exact):
    found, net, x = exact
    assert found.W.dtype == jnp.float64
    assert found.error.max() < 1e-13
    for W, b, image, values in zip(found.W, found.b, x, jax.jit(net)(x), strict=True):
        np.testing.assert_allclose(inner(W, image) + b, values, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_the_piece_is_the_network_in_float32():
    net, x = model(jnp.float32), images(2, jnp.float32)
    found = studies.linear_piece(net, x)
    assert found.error.max() < 1e-5
    np.testing.assert_allclose(found.values, jax.jit(net)(x), rtol=1e-5, atol=1e-6)


def test_weights_are_the_networks_derivative(exact):
    """With respect to what no two switches tie on, the derivative that JAX takes is the same."""
    found, net, x = exact
    slope = jax.jit(jax.grad(lambda z: net(z[None])[0, 3]))(x[0])
    np.testing.assert_allclose(found.W[0, 3], slope, atol=1e-14)


def test_the_piece_holds_all_over_its_polytope_and_identifiers_say_so(exact):
    """Half the way to the first facet in each of several directions: another image, the same function."""
    found, net, x = exact
    for seed in range(2):
        way = images(1, jnp.float64, 10 + seed)[0]
        reach = studies.region_size(net, x, way)
        inside = x + 0.99 * reach.distance[:, None, None, None] * way
        beyond = x + 1.01 * reach.distance[:, None, None, None] * way
        np.testing.assert_array_equal(studies.polytopes(net, inside).whole, found.polytope)
        assert (studies.polytopes(net, beyond).whole != found.polytope).all()
        expected = jnp.einsum("nkhwc,nhwc->nk", found.W, inside) + found.b
        np.testing.assert_allclose(jax.jit(net)(inside), expected, atol=1e-13)


@pytest.mark.slow
def test_the_size_of_a_region_is_what_bisection_finds(exact):
    """The first place along a line where an identifier differs, found without any half-space."""
    found, net, x = exact
    way = images(3, jnp.float64, 99)
    reach = studies.region_size(net, x, way)
    assert set(reach.layer) <= set(studies.polytopes(net, x).layers)
    low, high = np.zeros(3), 2 * reach.distance
    for _ in range(34):
        middle = (low + high) / 2
        same = studies.polytopes(net, x + middle[:, None, None, None] * way).whole == found.polytope
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    np.testing.assert_allclose(reach.distance, low, rtol=1e-8)


@pytest.fixture(scope="module")
def walls(exact):
    """The half-spaces of the first image: A (m, …), c (m,), and their layers."""
    with jax.enable_x64(True):
        parts = list(exact[0].constraints())
    A = np.concatenate([part.A.reshape(len(part.A), -1) for part in parts])
    return A, np.concatenate([part.c for part in parts]), [part.layer for part in parts for _ in part.c]


def test_the_image_fulfills_its_half_spaces_and_another_one_breaks_some(exact, walls):
    x, (A, c, _) = exact[2], walls
    assert (A @ np.ravel(x[0]) + c >= -1e-12).all()
    assert (A @ np.ravel(x[1]) + c < 0).any()


def test_half_spaces_and_the_size_along_a_line_agree(exact, walls):
    (_, net, x), (A, c, layers) = exact, walls
    way = np.asarray(images(1, jnp.float64, 7)[0])
    slopes = A @ way.ravel()
    with np.errstate(divide="ignore"):
        times = np.where(slopes < 0, (A @ np.ravel(x[0]) + c) / -slopes, np.inf)
    reach = studies.region_size(net, x, way)
    assert reach.distance[0] == pytest.approx(times.min(), rel=1e-9)
    assert reach.layer[0] == layers[times.argmin()]


def test_a_step_across_the_nearest_facet_changes_the_identifier(exact, walls):
    """Of all half-spaces the one nearest to the image: straight at it, a hair short of it and a hair beyond it."""
    (found, net, x), (A, c, _) = exact, walls
    margins, lengths = A @ np.ravel(x[0]) + c, np.linalg.norm(A, axis=1)
    nearest = (margins / lengths).argmin()
    step = -(margins[nearest] / lengths[nearest] ** 2 * A[nearest]).reshape(x[0].shape)
    near = x[:1] + jnp.stack([(1 - 1e-6) * step, (1 + 1e-6) * step, 0 * step])
    short, beyond, _ = studies.polytopes(net, near).whole
    assert short == found.polytope[0]
    assert beyond != found.polytope[0]


def test_the_pieces_on_both_sides_of_a_facet_agree_on_it(exact):
    _, net, x = exact
    same, way = jnp.stack([x[0]] * 3), images(3, jnp.float64, 7)
    reach = studies.region_size(net, same, way).distance[:, None, None, None]
    at = same + reach * way
    near = [studies.linear_piece(net, same + (reach + step) * way) for step in (-1e-9, 1e-9)]
    before, after = (jnp.einsum("nkhwc,nhwc->nk", found.W, at) + found.b for found in near)
    np.testing.assert_allclose(before, after, atol=1e-12)
    assert (near[0].polytope != near[1].polytope).all()


@pytest.mark.slow
def test_some_outputs_and_chunks_and_single_images_are_the_same(exact):
    found, net, x = exact
    some = studies.linear_piece(net, x, outputs=[4, 1], chunk=1)
    np.testing.assert_allclose(some.W, found.W[:, [4, 1]], atol=1e-14)
    np.testing.assert_allclose(some.b, found.b[:, [4, 1]], atol=1e-14)
    assert some.outputs == (4, 1)
    np.testing.assert_array_equal(some.polytope, found.polytope)


@pytest.mark.slow
def test_a_hidden_layer_is_a_model_with_pieces_of_its_own(exact):
    import jaxcam as jc

    _, net, x = exact
    hidden = jc.tap(net, "a")
    found = studies.linear_piece(hidden, x, outputs=2)
    np.testing.assert_allclose(inner(found.W[0], x[0]) + found.b[0], jax.jit(hidden)(x)[0, ..., 2].sum(), atol=1e-12)


def test_images_that_share_a_polytope_share_groups_and_deep_layers_are_shared_by_more():
    net = lambda x: jax.nn.relu(jax.nn.relu(x.reshape(len(x), -1) - 0.5) @ jnp.ones((4, 1)) - 10)
    x = jnp.asarray([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0.2], [1, 1, 0, 0], [2, 0.1, 0, 0]], jnp.float32)
    found = studies.polytopes(net, x.reshape(5, 2, 2, 1), chunk=2)
    assert found.groups().tolist() == [0, 1, 0, 2, 1]
    assert found.groups("dense_0").tolist() == [0, 0, 0, 0, 0]
    first = next(iter(found.layers))
    assert found.groups(first, above=True).tolist() == found.groups().tolist()
    whole, shallow, deep = found.table()
    assert (whole.groups, whole.sharing, whole.largest) == (3, 0.8, 0.4)
    assert (shallow.switches, shallow.groups) == (4, 3)
    assert (deep.switches, deep.groups, deep.sharing, deep.groups_above) == (1, 1, 1.0, 1)


@pytest.mark.parametrize(
    ("activation", "named"),
    [
        (jax.nn.softmax, "'exp'"),
        (jax.nn.sigmoid, "'logistic'"),
        (lambda x: x * x, "'mul'"),
        (jax.nn.gelu, "'integer_pow'"),
        (jnp.round, "'round'"),
    ],
)
def test_what_is_not_piecewise_linear_is_refused_by_name(activation, named):
    net = lambda x: activation(convolve(x, jnp.asarray(WEIGHTS["a"], jnp.float32))).mean((1, 2))
    for ask in (studies.linear_piece, studies.polytopes):
        with pytest.raises(ValueError, match="not piecewise linear") as error:
            ask(net, images(1, jnp.float32))
        assert named in str(error.value)
        assert "after layer 'conv_0'" in str(error.value)
        assert "\n" not in str(error.value)


def test_bad_input_is_said_in_one_line():
    net, x = model(jnp.float32), images(2, jnp.float32)
    for message, ask in {
        "output 7 is out of range": lambda: studies.linear_piece(net, x, outputs=7),
        "outputs are whole numbers": lambda: studies.linear_piece(net, x, outputs="cat"),
        "a direction is finite numbers": lambda: studies.region_size(net, x, jnp.ones(3)),
        "one image needs a batch axis": lambda: studies.polytopes(net, x[0]),
        "has NaN": lambda: studies.linear_piece(net, x * jnp.nan),
        "depend on the others": lambda: studies.linear_piece(lambda x: net(x - x.mean(0)), x),
        "no switch in layer 'z'": lambda: studies.polytopes(net, x).groups("z"),
        "outputs \\(n, k\\)": lambda: studies.linear_piece(lambda x: x.sum((1, 2, 3)), x),
    }.items():
        with pytest.raises(ValueError, match=message) as error:
            ask()
        assert "\n" not in str(error.value)
    with pytest.raises(TypeError, match="a model is a callable"):
        studies.linear_piece(3, x)


@pytest.mark.parametrize(("chunk", "images", "outputs"), [(1, 1, 1), (2, 1, 2), (50, 3, 2)])
def test_no_more_outputs_at_once_than_a_chunk(chunk, images, outputs, monkeypatch):
    asked = []

    def noted(static, many, arrays, batch, rows):
        asked.append((len(batch), many))
        raise InterruptedError

    monkeypatch.setattr(pieces, "_pieces", noted)
    flat = lambda x: jax.nn.relu(x.reshape(len(x), -1) @ jnp.ones((4, 5)))
    with pytest.raises(InterruptedError):
        studies.linear_piece(flat, jnp.ones((3, 2, 2, 1)), outputs=[0, 1], chunk=chunk)
    assert asked == [(images, outputs)]
