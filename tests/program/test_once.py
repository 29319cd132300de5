"""Functions of equal equations are compiled once; what is not equal is not mistaken for it."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcam.program.once import Once


def layer(kernel):
    return Once(lambda x: jnp.tanh(x @ kernel))


def test_two_layers_of_one_shape_are_compiled_once_and_keep_their_own_weights(compiled):
    x, kernels = np.ones((2, 3), np.float32), [np.full((3, 4), value, np.float32) for value in (0.1, 0.2)]
    found = [layer(kernel)(x) for kernel in kernels]
    assert compiled() == 1
    for value, kernel in zip(found, kernels, strict=True):
        np.testing.assert_allclose(value, np.tanh(x @ kernel), rtol=1e-6)


def test_another_shape_is_compiled_anew(compiled):
    layer(np.ones((3, 6), np.float32))(np.ones((2, 3), np.float32))
    layer(np.ones((3, 5), np.float32))(np.ones((2, 3), np.float32))
    assert compiled() == 2


def test_another_number_in_the_equations_is_another_function(compiled):
    x = np.ones(3, np.float32)
    assert [float(Once(lambda x, by=by: jnp.sum(by * x))(x)) for by in (2.0, 3.0)] == [6.0, 9.0]
    assert compiled() == 2


def test_what_is_not_read_is_not_handed_on():
    found = Once(lambda pair: 2 * pair[0])
    assert float(found((jnp.ones(()), np.ones(3)))) == 2
    gone = jnp.ones(3)
    gone.delete()  # whoever hands it on is told so
    assert float(found((jnp.full((), 2.0), gone))) == 4


def test_a_way_back_is_handed_on_like_an_array():
    forward, back = Once(lambda x: jax.vjp(jnp.sin, x)), Once(lambda pull, signal: jax.vmap(pull)(signal)[0])
    for at in (0.0, 1.0):
        value, pull = forward(jnp.full((), at))
        np.testing.assert_allclose(value, np.sin(at), rtol=1e-6)
        np.testing.assert_allclose(back(pull, jnp.arange(3.0)), np.cos(at) * np.arange(3), rtol=1e-6)


def test_long_constants_are_told_apart():
    many = [np.arange(2000.0, dtype=np.float32) + (np.arange(2000) == 1000) * i for i in range(2)]
    found = [Once(lambda x, a=a: x * jnp.asarray(a))(np.ones(2000, np.float32))[1000] for a in many]
    assert [float(value) for value in found] == [1000, 1001]
