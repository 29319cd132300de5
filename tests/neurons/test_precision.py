"""Fewer bits by option: how far the maps are from those in float32, and that it is told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from neurons_nets import NETS, chain

from jaxcam.neurons import changes, maps, similarity
from jaxcam.neurons.backward import all_replacements
from jaxcam.neurons.precision import in_bfloat16, products
from jaxcam.program.layers import study
from jaxcam.program.trace import trace_model


@pytest.mark.parametrize("name", ["chain", "residual"])
def test_bfloat16_is_near_float32_and_not_the_same(name):
    net = NETS[name]()
    layer = net.layers[-1]
    exact, rounded = (
        np.asarray(maps(net.model, net.x, layer, rule="gradient", precision=p)) for p in ("float32", "bfloat16")
    )
    error = np.abs(rounded - exact).max() / np.abs(exact).max()
    # Seven bits after the point, over a few layers; a ReLU near zero may switch.
    assert 1e-4 < error < 0.1
    assert rounded.dtype == np.float32


def test_every_product_is_rounded_in_bfloat16_and_none_in_float32():
    net = NETS["residual"]()
    anatomy, _ = study(net.model, net.x)
    outputs = {place.node.outputs[0] for place in anatomy.places if place.kind in {"conv", "dense"}}
    rounded = all_replacements(anatomy, "gradient", "bfloat16")
    assert outputs <= set(rounded)
    for output in outputs:
        operands, function = rounded[output]
        values = [jnp.full(anatomy.program.avals[v].shape, 1 + 2.0**-9) for v in operands]
        found, exact = function(*values), all_replacements(anatomy, "gradient").get(output)
        assert found.dtype == jnp.float32
        # 1 + 2⁻⁹ is 1 in bfloat16.
        ones = function(*(jnp.ones_like(value) for value in values))
        np.testing.assert_array_equal(found, ones)
        assert exact is None or not np.array_equal(exact[1](*values), ones)


@pytest.mark.parametrize("precision", ["float32", "tensorfloat32"])
def test_what_a_gpu_is_asked_for_is_written_into_the_program(precision):
    net = NETS["chain"]()
    with products(precision):
        program, _ = trace_model(net.model, net.x)
    found = {str(node.params["precision"]) for node in program.nodes if node.name == "conv_general_dilated"}
    assert len(found) == 1
    assert ("HIGHEST" in found.pop()) == (precision == "float32")


def test_the_change_is_the_rank_correlation_and_the_largest_difference():
    exact = {"a": np.array([0.0, 1.0, 2.0, 3.0]), "b": np.zeros(2)}
    found = changes({"a": np.array([0.0, 1.0, 3.5, 3.0]), "b": np.zeros(2)}, exact)
    assert found["a"].largest_difference == 1.5
    assert found["a"].rank_correlation == pytest.approx(0.8)  # 1 − 6 Σd² / n(n² − 1), d = (0, 0, 1, 1)
    assert (found["b"].rank_correlation, found["b"].largest_difference) == (1.0, 0.0)
    with pytest.raises(ValueError, match="the same layers and units"):
        changes({"a": np.zeros(3)}, exact)


def test_the_ranking_of_units_survives_bfloat16():
    net = NETS["chain"]()
    exact, found = (similarity(net.model, net.x, rule="gradient", precision=p) for p in ("float32", "bfloat16"))
    of = lambda values: {name: np.asarray(value[0]) for name, value in values.items()}
    differences = [change.largest_difference for change in changes(of(found), of(exact)).values()]
    # The first layer's maps are its kernels, and no product comes between.
    assert differences[0] < 1e-5
    assert all(0 < difference < 0.05 for difference in differences[1:])


def test_a_precision_there_is_not_is_an_error():
    net = NETS["chain"]()
    with pytest.raises(ValueError, match="no precision 'float16'; there are float32, tensorfloat32, bfloat16"):
        maps(net.model, net.x, net.layers[0], precision="float16")


def test_products_of_float64_are_left_as_they_are():
    with jax.enable_x64(True):
        net = chain(np.float64)
        anatomy, _ = study(net.model, net.x)
        assert in_bfloat16(anatomy, {}) == {}
    net = NETS["chain"]()
    assert in_bfloat16(study(net.model, net.x)[0], {})
