"""Equations with several results, straight after a convolution or a dense layer: split, unstack, sort, top_k.

Each network is written twice, with such an equation and with slices (or a gather) instead: jaxcam has to say the same
of both, and what `jax.grad` says where that is the answer.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from program_nets import IMAGES, convolve, weights

import jaxcam as jc
from jaxcam.program.costs import costs

K1, K2, K3 = weights((3, 3, 3, 8)), weights((3, 3, 4, 4), 2), weights((3, 3, 4, 4), 3)
HEAD, WIDE = weights((8, 5), 4), weights((12, 5), 5)
SHIFT = jnp.asarray([0.1, -0.2, 0.3, 0, 0.05, -0.1, 0, 0.2])


@jax.custom_vjp
def guided_relu(x):
    return jnp.maximum(x, 0)


guided_relu.defvjp(lambda x: (guided_relu(x), x > 0), lambda on, r: (jnp.where(on, jnp.maximum(r, 0), 0),))


@jax.custom_vjp
def deconv_relu(x):
    return jnp.maximum(x, 0)


deconv_relu.defvjp(lambda x: (deconv_relu(x), None), lambda _, r: (jnp.maximum(r, 0),))


def sliced(x, parts, axis):
    """`jnp.split` in slices."""
    size = x.shape[axis] // parts
    return [jax.lax.slice_in_dim(x, i * size, (i + 1) * size, axis=axis) for i in range(parts)]


def one_by_one(x, axis):
    """`jnp.unstack` in slices."""
    return [jax.lax.squeeze(part, (axis,)) for part in sliced(x, x.shape[axis], axis)]


def halves(several, relu):
    def net(x):
        a, b = jnp.split(convolve(x, K1), 2, -1) if several else sliced(convolve(x, K1), 2, 3)
        return jnp.concatenate([relu(a), b], -1).mean((1, 2)) @ HEAD

    return net


def rows(several, relu):
    """Split along an axis of the image, before the next convolution."""

    def net(x):
        z = relu(convolve(x, K1)[..., :4])
        a, b = jnp.split(z, 2, 1) if several else sliced(z, 2, 1)
        return relu(jnp.concatenate([convolve(b, K2), convolve(a, K3)], -1)).mean((1, 2)) @ HEAD

    return net


def shuffle_unit(several, relu):
    """ShuffleNet V2: one half is kept, the other convolved, then the channels are shuffled."""

    def net(x):
        z = relu(convolve(x, K1))
        kept, other = jnp.split(z, 2, -1) if several else sliced(z, 2, 3)
        z = jnp.concatenate([kept, relu(convolve(other, K2))], -1)
        z = z.reshape(*z.shape[:3], 2, 4).swapaxes(-1, -2).reshape(z.shape)
        return z.mean((1, 2)) @ HEAD

    return net


def c2f(several, relu):
    """YOLO's C2f: a split, a chain of convolutions from its last part, everything concatenated."""

    def net(x):
        z = convolve(x, K1)
        parts = list(jnp.split(z, 2, -1)) if several else sliced(z, 2, 3)
        parts.append(relu(convolve(parts[-1], K2)))
        return relu(jnp.concatenate(parts, -1)).mean((1, 2)) @ WIDE

    return net


def unstacked(several, relu):
    def net(x):
        parts = jnp.unstack(convolve(x, K1), axis=-1) if several else one_by_one(convolve(x, K1), 3)
        return jnp.stack([relu(part) if i % 2 else part for i, part in enumerate(parts)], -1).mean((1, 2)) @ HEAD

    return net


def channels_first_unstacked(several, relu):
    """Unstacked along an axis of length 2 before the rest: the channels stay an axis."""

    def net(x):
        z = convolve(x, K1).reshape(*x.shape[:3], 2, 4)
        a, b = jnp.unstack(z, axis=3) if several else one_by_one(z, 3)
        return relu(jnp.concatenate([convolve(a, K2), convolve(relu(b), K3)], -1)).mean((1, 2)) @ HEAD

    return net


def dense_halves(several, relu):
    def net(x):
        z = x.reshape(len(x), -1) @ weights((192, 8), 6)
        a, b = jnp.split(z, 2, -1) if several else sliced(z, 2, 1)
        return jnp.concatenate([relu(a), b], -1) @ HEAD

    return net


def barrier(several, relu):
    """Two values that go through one equation, of different shapes."""

    def net(x):
        a, b = convolve(x, K1)[..., :4], convolve(x, K1[..., :4], (2, 2))
        if several:
            a, b = jax.lax.optimization_barrier((a, b))
        return jnp.concatenate([relu(a).mean((1, 2)), relu(convolve(b, K2)).mean((1, 2))], -1) @ HEAD

    return net


def recomputed(several, relu):
    """The split inside `jax.checkpoint`."""
    inner = halves(several, relu)
    return jax.checkpoint(inner)


LINEAR = {
    net.__name__: net
    for net in (
        *(halves, rows, shuffle_unit, c2f, unstacked, channels_first_unstacked, dense_halves),
        *(barrier, recomputed),
    )
}


def sorted_channels(several, relu):
    def net(x):
        z = convolve(x, K1)
        order = jax.lax.stop_gradient(jnp.argsort(z, -1))
        z = jnp.sort(z, -1) if several else jnp.take_along_axis(z, order, -1)
        return relu(z).mean((1, 2)) @ HEAD

    return net


def sorted_with_values(several, relu):
    """Two things sorted by the first, and the index: three results of one equation."""

    def net(x):
        z, y = convolve(x, K1), convolve(x, K1[..., ::-1])
        order = jax.lax.stop_gradient(jnp.argsort(z, -1))
        if several:
            index = jax.lax.broadcasted_iota(jnp.int32, z.shape, 3)
            z, y, _ = jax.lax.sort((z, y, index), num_keys=1)
        else:
            z, y = jnp.take_along_axis(z, order, -1), jnp.take_along_axis(y, order, -1)
        return (relu(z) + y).mean((1, 2)) @ HEAD

    return net


def best_channels(several, relu):
    """k-winners: the values and the index of the largest channels."""

    def net(x):
        z = convolve(x, K1)
        order = jax.lax.stop_gradient(jnp.argsort(-z, -1))[..., :4]
        z = jax.lax.top_k(z, 4)[0] if several else jnp.take_along_axis(z, order, -1)
        return relu(convolve(z, K2)).mean((1, 2)) @ HEAD[:4]

    return net


def best_places(several, relu):
    """The mean of the largest places of each channel, as weakly supervised localization pools them."""

    def net(x):
        z = relu(convolve(x, K1)).reshape(len(x), 64, 8)
        order = jax.lax.stop_gradient(jnp.argsort(-z, 1))[:, :6]
        if several:
            best = jax.lax.top_k(z.swapaxes(1, 2), 6)[0].swapaxes(1, 2)
        else:
            best = jnp.take_along_axis(z, order, 1)
        return best.mean(1) @ HEAD

    return net


SELECTING = {net.__name__: net for net in (sorted_channels, sorted_with_values, best_channels, best_places)}
NETS = {**LINEAR, **SELECTING}


def each(names, *plain):
    """Every network; but for some of them in the slow tests."""
    assert set(plain) <= set(names)
    return [pytest.param(name, marks=[] if name in plain else pytest.mark.slow) for name in names]


def close(found, expected, tolerance=1e-5):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()


def gradient(net, target=3):
    return jax.grad(lambda x: net(x)[:, target].sum())(IMAGES)


@pytest.mark.parametrize("name", each(NETS, "halves", "unstacked", "dense_halves", "best_channels"))
def test_saliency_is_the_gradient(name):
    close(jc.saliency(NETS[name](True, jax.nn.relu), IMAGES, 3), gradient(NETS[name](False, jax.nn.relu)))


@pytest.mark.parametrize("name", each(LINEAR, "halves", "c2f", "channels_first_unstacked", "barrier"))
def test_layers_taps_and_patches_are_those_of_slices(name):
    model, twin = (LINEAR[name](several, jax.nn.relu) for several in (True, False))
    layers = jc.layers(model, IMAGES)
    assert layers == jc.layers(twin, IMAGES)
    values, expected = (jc.tap(f, [layer.name for layer in layers])(IMAGES) for f in (model, twin))
    for layer in layers:
        close(values[layer.name], expected[layer.name])
        close(jc.patch(model, layer.name)(IMAGES, values[layer.name]), twin(IMAGES))
        other = values[layer.name] * 0.5 + 0.1
        close(jc.patch(model, layer.name)(IMAGES, other), jc.patch(twin, layer.name)(IMAGES, other))
    assert [cost.operations for cost in costs(model, IMAGES)] == [cost.operations for cost in costs(twin, IMAGES)]


@pytest.mark.parametrize("name", each(SELECTING, "sorted_with_values"))
def test_layers_before_and_after_a_selection(name):
    model = SELECTING[name](True, jax.nn.relu)
    assert [layer.kind for layer in jc.layers(model, IMAGES)].count("dense") == 1
    for layer in jc.layers(model, IMAGES):
        close(jc.patch(model, layer.name)(IMAGES, jc.tap(model, layer.name)(IMAGES)), model(IMAGES))


@pytest.mark.parametrize("name", each(NETS, "shuffle_unit", "unstacked", "best_places"))
def test_guided_and_deconv_are_those_of_rectifiers_by_hand(name):
    model = NETS[name](True, jax.nn.relu)
    close(jc.guided_backprop(model, IMAGES, 3), gradient(NETS[name](False, guided_relu)))
    close(jc.deconvnet(model, IMAGES, 3), gradient(NETS[name](False, deconv_relu)))


@pytest.mark.parametrize("name", each(NETS, "c2f", "channels_first_unstacked", "sorted_with_values", "best_channels"))
def test_relevance_without_epsilon_is_input_times_gradient(name):
    """No biases and ReLUs only: LRP-0 is x · gradient (Shrikumar et al. 2016)."""
    rule = jc.rules.Epsilon(1e-9)
    composite = jc.composites.Composite(conv=rule, dense=rule, mean=jc.rules.Norm(1e-9), add=jc.rules.Norm(1e-9))
    found = jc.lrp(NETS[name](True, jax.nn.relu), IMAGES, 3, composite=composite)
    close(found, IMAGES * gradient(NETS[name](False, jax.nn.relu)), 1e-3)


@pytest.mark.parametrize("name", each(LINEAR, "halves", "recomputed"))
@pytest.mark.parametrize("composite", ["epsilon_plus", "epsilon_alpha2_beta1_flat"])
def test_relevance_by_a_composite_is_that_of_slices(name, composite):
    model, twin = (LINEAR[name](several, jax.nn.relu) for several in (True, False))
    close(jc.lrp(model, IMAGES, 3, composite=composite), jc.lrp(twin, IMAGES, 3, composite=composite))


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
@pytest.mark.parametrize("name", each(LINEAR, "unstacked"))
def test_deep_lift_is_that_of_slices_and_complete(name, rule):
    model, twin = (LINEAR[name](several, jax.nn.relu) for several in (True, False))
    found = jc.deep_lift(model, IMAGES, 3, baseline=0.2, rule=rule)
    close(found, jc.deep_lift(twin, IMAGES, 3, baseline=0.2, rule=rule), 1e-4)
    difference = (twin(IMAGES) - twin(jnp.full_like(IMAGES, 0.2)))[:, 3]
    close(found.sum((1, 2, 3)), difference, 1e-4)


@pytest.mark.parametrize("name", each(SELECTING, "sorted_channels", "best_channels"))
def test_deep_lift_refuses_a_selection_in_one_line(name):
    with pytest.raises(
        ValueError, match=r"no rule for equation \d+, '(sort|top_k)'.*jc\.integrated_gradients"
    ) as error:
        jc.deep_lift(SELECTING[name](True, jax.nn.relu), IMAGES, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", each(LINEAR, "c2f"))
def test_unit_maps_and_similarities_are_those_of_slices(name):
    model, twin = (LINEAR[name](several, jax.nn.relu) for several in (True, False))
    layers = [layer.name for layer in jc.layers(model, IMAGES)]
    found, expected = (jc.neurons.similarity(f, IMAGES[:1], layers) for f in (model, twin))
    for layer in layers:
        assert np.abs(found[layer] - expected[layer]).max() <= 1e-5, layer


@pytest.mark.parametrize("name", each(SELECTING, "best_places"))
def test_unit_maps_above_a_selection_are_gradients(name):
    model = SELECTING[name](True, jax.nn.relu)
    last = jc.layers(model, IMAGES)[-1].name
    found = jc.neurons.maps(model, IMAGES[:1], last, rule="gradient")
    close(found[3], gradient(SELECTING[name](False, jax.nn.relu))[:1])


@pytest.mark.parametrize("name", each(LINEAR, "halves", "unstacked"))
def test_linear_piece_is_the_network_itself(name):
    model = LINEAR[name](True, jax.nn.relu)
    piece = jc.studies.linear_piece(model, IMAGES, outputs=3)
    close(piece.W[:, 0], gradient(LINEAR[name](False, jax.nn.relu)))


def test_a_gated_unit():
    """a · sigmoid(b): a product of two values of the input."""

    def net(x):
        return jax.nn.glu(convolve(x, K1), -1).mean((1, 2)) @ HEAD[:4]

    def twin(x):
        a, b = sliced(convolve(x, K1), 2, 3)
        return (a * jax.nn.sigmoid(b)).mean((1, 2)) @ HEAD[:4]

    close(jc.saliency(net, IMAGES, 3), gradient(twin))
    close(jc.integrated_gradients(net, IMAGES, 3), jc.integrated_gradients(twin, IMAGES, 3))
    assert jc.layers(net, IMAGES) == jc.layers(twin, IMAGES)
    for method in (jc.lrp, jc.deep_lift, lambda model, x, target: jc.guided(model)(x)):
        with pytest.raises(ValueError, match=r"equation \d+, '(mul|logistic)'") as error:
            method(net, IMAGES, 3)
        assert "\n" not in str(error.value)


def test_a_fused_projection_of_queries_keys_and_values():
    fused, out = weights((3, 24), 7), weights((8, 5), 8)

    def net(x, split):
        tokens = x.reshape(len(x), -1, 3) @ fused
        q, k, v = jnp.split(tokens, 3, -1) if split else sliced(tokens, 3, 2)
        attention = jax.nn.softmax(jnp.einsum("nqc,nkc->nqk", q, k), -1)
        return jnp.einsum("nqk,nkc->nqc", attention, v).mean(1) @ out

    model, twin = (Partial(net, split=split) for split in (True, False))
    close(jc.saliency(model, IMAGES, 3), gradient(twin))
    assert jc.layers(model, IMAGES) == jc.layers(twin, IMAGES)
    with pytest.raises(ValueError, match="no rule of relevance"):
        jc.lrp(model, IMAGES, 3)


def test_a_receptive_field_starts_where_the_part_does():
    def net(x):
        x = jc.tag(convolve(x, jnp.ones((3, 3, 3, 2))), "all")
        _, lower = jnp.split(x, 2, 1)
        _, right = jnp.unstack(lower.reshape(*lower.shape[:3], 2, 1), axis=3)
        x = jc.tag(convolve(right, jnp.ones((3, 3, 1, 2))), "lower")
        return jc.tag(jax.lax.top_k(x, 2)[0], "any")

    found = {cost.layer: cost.field for cost in costs(net, IMAGES)}
    assert found["all"] == (3, 3)
    assert found["lower"] == (5, 5)


def test_a_model_that_selects_among_images_is_refused():
    """top_k along the images makes the outputs of one depend on the others."""
    net = lambda x: jax.lax.top_k(convolve(x, K1).swapaxes(0, 3), 2)[0].swapaxes(0, 3).mean((1, 2))
    with pytest.raises(ValueError, match=r"'top_k'.*works along the images"):
        jc.saliency(net, IMAGES, 3)


def test_a_value_that_is_given_stays_though_its_equation_is_evaluated_for_another_result():
    from jaxcam.program.trace import replay, trace

    program = trace(lambda x: jnp.add(*jnp.split(2 * x, 2)), jnp.ones(2))
    (node,) = [node for node in program.nodes if node.name == "split"]
    first, second = node.outputs
    start = {program.inputs[0]: jnp.ones(2), first: jnp.array([10.0])}
    assert replay(program, start, [first, second, *program.outputs])[2].tolist() == [12.0]
