"""Models that write to themselves, and models that give more than one array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from numpy.testing import assert_allclose

import jaxcam as jc

IMAGES = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))


class Net(nnx.Module):
    """A convolution, its ReLU and a dense layer; `sows` keeps the ReLU's value."""

    def __init__(self, sows):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
        self.head = nnx.Linear(4, 5, rngs=nnx.Rngs(1))
        self.sows = sows

    def __call__(self, x):
        x = nnx.relu(self.conv(x))
        if self.sows:
            self.sow(nnx.Intermediate, "features", x)
        return self.head(x.mean((1, 2)))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Conv(4, (3, 3))(x))
        self.sow("intermediates", "features", x)
        return linen.Dense(5)(x.mean((1, 2)))


ASKED = {
    "saliency": lambda model: jc.saliency(model, IMAGES, 3),
    "integrated_gradients": lambda model: jc.integrated_gradients(model, IMAGES, 3, steps=4),
    "deep_lift": lambda model: jc.deep_lift(model, IMAGES, 3),
    "lrp": lambda model: jc.lrp(model, IMAGES, 3),
    "grad_cam": lambda model: jc.grad_cam(model, IMAGES, 3),
    "score_cam": lambda model: jc.score_cam(model, IMAGES, 3),
    "guided_backprop": lambda model: jc.guided_backprop(model, IMAGES, 3),
    "occlusion": lambda model: jc.occlusion(model, IMAGES, 3, window=4, stride=4),
    "of a layer": lambda model: jc.saliency(jc.tap(model, "conv"), IMAGES, 1),
    "similarity": lambda model: jc.neurons.similarity(model, IMAGES)["conv"],
    "confidences": lambda model: jc.neurons.confidences(model, IMAGES),
    "deletion": lambda model: jc.quality.deletion(model, IMAGES, IMAGES, 3, steps=4).area,
}


@pytest.mark.filterwarnings("ignore:.*sow.*:DeprecationWarning")
@pytest.mark.parametrize("name", ASKED)
def test_a_module_that_sows_is_explained_as_one_that_does_not(name):
    model = Net(sows=True)
    assert_allclose(ASKED[name](model), ASKED[name](Net(sows=False)), atol=1e-6)
    assert not jax.tree_util.tree_leaves(nnx.state(model, nnx.Intermediate))  # nothing is left in it


def test_a_linen_module_that_sows():
    module = LinenNet()
    variables = {"params": module.init(jax.random.key(0), IMAGES)["params"]}
    model = jax.tree_util.Partial(module.apply, variables)
    right = jax.grad(lambda x: model(x)[:, 3].sum())(IMAGES)
    assert_allclose(jc.saliency(model, IMAGES, 3), right, atol=1e-6)


W = jax.random.normal(jax.random.key(1), (3, 3, 3, 4)) / 4
HEAD = jax.random.normal(jax.random.key(2), (4, 5))


def logits(x):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return (
        jax.nn.relu(jax.lax.conv_general_dilated(x, W, (1, 1), "SAME", dimension_numbers=dimensions)).mean((1, 2))
        @ HEAD
    )


SEVERAL = {
    "a tuple": (lambda x: (logits(x), jnp.ones(3)), lambda outputs: outputs[0][:, 3]),
    "a dict": (lambda x: {"state": jnp.ones(()), "logits": logits(x)}, lambda outputs: outputs["logits"][:, 3]),
    "numbers of another kind": (lambda x: (jnp.arange(7), logits(x)), lambda outputs: outputs[1][:, 3]),
    "a tuple in a tuple": (lambda x: ((logits(x),), None), lambda outputs: outputs[0][0][:, 3]),
}


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("method", [jc.saliency, jc.integrated_gradients, jc.grad_cam, jc.occlusion])
def test_a_callable_target_picks_from_outputs_of_any_shapes(kind, method):
    model, target = SEVERAL[kind]
    options = {"window": 4, "stride": 4} if method is jc.occlusion else {}
    assert_allclose(method(model, IMAGES, target, **options), method(logits, IMAGES, 3, **options), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (SEVERAL["a tuple"][0], r"a tuple of 2 arrays: explain one of them, lambda x: model\(x\)\[0\], or choose"),
        (SEVERAL["a dict"][0], r"a dict of 2 arrays: explain one of them, lambda x: model\(x\)\['logits'\], or choose"),
        (lambda x: [logits(x)], r"a list of 1 arrays: explain one of them, lambda x: model\(x\)\[0\], or choose"),
        (lambda x: (logits(x), logits(x)), r"a tuple of 2 arrays: explain one of them"),
    ],
)
def test_without_one_a_short_line_says_how_to_pick(model, sentence):
    for target in (None, 3):
        with pytest.raises(TypeError, match=sentence) as error:
            jc.saliency(model, IMAGES, target)
        assert len(str(error.value)) < 200


def test_a_target_of_several_outputs_still_gives_one_score_an_image():
    model, _ = SEVERAL["a tuple"]
    with pytest.raises(ValueError, match=r"one score for each image, \(2,\); this one gives shape \(2, 5\)"):
        jc.saliency(model, IMAGES, lambda outputs: outputs[0])
    assert np.isfinite(jc.saliency(model, IMAGES, lambda outputs: outputs[0].sum(1))).all()


@pytest.mark.parametrize("transform", [jc.guided, jc.deconv])
def test_outputs_that_are_not_returned_are_held_to_no_rule(transform):
    kernel, head = (jax.random.normal(jax.random.key(n), shape) for n, shape in ((0, (3, 4)), (1, (4, 3))))

    def several(x):
        z = jax.nn.relu(x @ kernel)
        y = z.mean((1, 2)) @ head
        return y, jax.nn.softmax(y), jnp.tanh(z)

    def alone(x):
        return jax.nn.relu(x @ kernel).mean((1, 2)) @ head

    x = jax.random.normal(jax.random.key(2), (2, 3, 3, 3))
    found, expected = (
        jax.grad(lambda x, m=model: transform(m)(x)[:, 1].sum())(x) for model in (lambda x: several(x)[0], alone)
    )
    assert (found == expected).all()
    with pytest.raises(ValueError, match=r"says nothing about equation .* 'tanh'"):
        transform(lambda x: several(x)[2])(x)
