"""`evaluate` counts right, for any model, and leaves it alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from training_twins import Small, digits, same

from jaxcam.data import Dataset
from jaxcam.training import evaluate

# Four images that are their own logits: right, right, wrong, right; no image of the last class.
LOGITS = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.6, 0.5, 0.0], [0.7, 0.1, 0.2]], np.float32)
OWN = Dataset(LOGITS[:, None, :, None], np.array([0, 1, 1, 0]), ("cat", "dog", "emu"))


def flat(x):
    return x.reshape(len(x), -1)


def test_loss_and_accuracies_are_those_counted_by_hand():
    loss, accuracy, per_class = evaluate(flat, OWN)
    odds = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    assert loss == pytest.approx(-np.log(odds[range(4), [0, 1, 1, 0]]).mean(), rel=1e-6)
    assert accuracy == 0.75
    np.testing.assert_array_equal(per_class, [1, 0.5, np.nan])


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_the_batch_does_not_matter(batch):
    whole, result = evaluate(flat, OWN), evaluate(flat, OWN, batch=batch)
    assert result.loss == pytest.approx(whole.loss, rel=1e-6)
    np.testing.assert_array_equal(result.per_class, whole.per_class)


def test_a_model_in_training_mode_is_evaluated_in_evaluation_mode_and_stays_as_it_was():
    model = Small(dropout=0.9)
    model.train()
    before = jax.tree.map(jnp.copy, nnx.state(model))
    first, second = evaluate(model, digits()[1]), evaluate(model, digits()[1])
    assert first.loss == second.loss
    assert model.dropout.deterministic is False
    assert same(before, nnx.state(model))
    model.eval()
    logits = np.asarray(model(jnp.asarray(digits()[1].images)))
    assert first.accuracy == np.mean(logits.argmax(1) == digits()[1].labels)


def test_equinox_modules_are_evaluated_too():
    equinox = pytest.importorskip("equinox")
    dense = equinox.nn.Linear(64, 10, key=jax.random.key(0))
    model = equinox.nn.Sequential([equinox.nn.Lambda(jnp.ravel), dense])
    expected = np.asarray(flat(digits()[1].images) @ dense.weight.T + dense.bias).argmax(1)
    batched = jax.tree_util.Partial(lambda model, x: jax.vmap(model)(x), model)
    assert evaluate(batched, digits()[1]).accuracy == np.mean(expected == digits()[1].labels)


def test_a_second_evaluation_compiles_nothing():
    traces = 0

    class Counting(nnx.Module):
        def __init__(self):
            self.dense = nnx.Linear(64, 10, rngs=nnx.Rngs(0))

        def __call__(self, x):
            nonlocal traces
            traces += 1
            return self.dense(flat(x))

    model = Counting()
    evaluate(model, digits()[1])
    before = traces
    evaluate(model, digits()[1])
    # Once more to find how many outputs there are, but not through the compiler.
    assert traces <= before + 1


def test_what_cannot_be_evaluated_is_said():
    with pytest.raises(
        ValueError, match=r"must give logits of shape \(n, k\), but of 2 images it makes \(2, 1, 3, 1\)"
    ):
        evaluate(lambda x: x, OWN)
    with pytest.raises(ValueError, match="the model does not take the 1×3×1 images of arrays: "):
        evaluate(Small(), OWN)
    with pytest.raises(ValueError, match=r"arrays has the label 1 \('dog'\), the model has 1 outputs"):
        evaluate(lambda x: flat(x)[:, :1], OWN)
    with pytest.raises(ValueError, match="batch must be at least 1, not 0"):
        evaluate(flat, OWN, batch=0)
