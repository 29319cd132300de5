"""What `train` does to a network, and what it leaves on disk."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file
from training_twins import Small, digits, run, same, weights

import jaxcam.training.loop
import jaxcam.training.step
from jaxcam import models
from jaxcam.data import Dataset
from jaxcam.data.splits import permutation
from jaxcam.training import History, evaluate, train
from jaxcam.training.arrays import take_apart


def test_training_teaches(tmp_path):
    _, history = run(tmp_path, epochs=12, learning_rate=0.01)
    assert history[-1].train_loss < 0.5 * history[0].train_loss
    assert history[-1].train_accuracy > 0.8
    assert history[-1].test_accuracy > 0.5
    assert [row.epoch for row in history] == list(range(1, 13))


def test_the_figures_of_the_last_epoch_are_those_of_the_model_left_behind(tmp_path):
    model, history = run(tmp_path, epochs=2)
    assert model.dropout.deterministic is not False
    assert evaluate(model, digits()[1]).accuracy == history[-1].test_accuracy
    assert evaluate(model, digits()[1]).loss == pytest.approx(history[-1].test_loss, rel=1e-6)


def test_one_epoch_is_the_plain_loop_over_shuffled_batches(tmp_path):
    dataset, test = digits()
    model = nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 10, rngs=nnx.Rngs(3)))
    w, b = np.float64(model.layers[1].kernel), np.float64(model.layers[1].bias)
    train(
        model,
        dataset,
        test,
        out=tmp_path,
        epochs=2,
        batch=16,
        learning_rate=0.01,
        weight_decay=0.1,
        seed=5,
        progress=False,
    )
    m, v, t = [0, 0], [0, 0], 0
    x, y = dataset.images.reshape(70, -1).astype(np.float64), np.eye(10)[dataset.labels]
    for epoch in (1, 2):
        order = permutation(70, 5, epoch)
        for start in range(0, 70, 16):
            chosen, t = order[start : start + 16], t + 1
            logits = x[chosen] @ w + b
            odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - y[chosen]
            gradients = [x[chosen].T @ odds / len(chosen) + 0.1 * w, odds.mean(0) + 0.1 * b]
            m = [0.9 * old + 0.1 * g for old, g in zip(m, gradients, strict=True)]
            v = [0.999 * old + 0.001 * g**2 for old, g in zip(v, gradients, strict=True)]
            w, b = (
                theta - 0.01 * (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
                for theta, first, second in zip((w, b), m, v, strict=True)
            )
    # Float32 over ten steps; the division by a tiny √v̂ of the black border pixels is the loosest part.
    np.testing.assert_allclose(model.layers[1].kernel, w, atol=2e-5)
    np.testing.assert_allclose(model.layers[1].bias, b, atol=2e-5)


def test_batch_norm_learns_its_statistics_and_dropout_is_off_afterwards(tmp_path):
    model = Small()
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.BatchStat))
    run(tmp_path, model=model, epochs=1)
    assert not same(before, nnx.state(model, nnx.BatchStat))
    x = jnp.asarray(digits()[1].images)
    np.testing.assert_array_equal(model(x), model(x))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path):
    models_ = [run(tmp_path / name, epochs=2, seed=seed)[0] for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    assert same(weights(models_[0]), weights(models_[1]))
    assert not same(weights(models_[0]), weights(models_[2]))


def test_dropout_depends_on_the_seed_of_the_training_and_not_on_the_models_own_keys():
    form, parameters, statistics = take_apart(Small(0))
    other, *_ = take_apart(Small(1))
    x = jnp.asarray(digits()[0].images)

    def forward(form, key):
        return form.join(parameters, statistics, key=key)(x)

    first, again = forward(form, jax.random.key(0)), forward(other, jax.random.key(0))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, forward(form, jax.random.key(1)))


def test_streams_of_any_kind_of_key_are_reseeded():
    model = Small()
    model.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(jax.random.key(0, impl="rbg")))
    form, parameters, statistics = take_apart(model)
    logits = [form.join(parameters, statistics, key=jax.random.key(n))(jnp.ones((2, 8, 8, 1))) for n in (0, 0, 1)]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])


@pytest.mark.slow
def test_the_accelerated_step_is_the_plain_step(tmp_path, monkeypatch):
    def smooth(learning_rate=0.0, weight_decay=0.0):
        # Adam follows the sign of a gradient, and that of a bias before batch norm is rounding: not so with a large ε.
        adam = optax.scale_by_adam(eps=0.1)
        return optax.chain(optax.add_decayed_weights(0.0), adam, optax.scale_by_learning_rate(learning_rate))

    for module in (jaxcam.training.step, jaxcam.training.loop):
        monkeypatch.setattr(module, "adam", smooth)
    jax.clear_caches()
    fast = run(tmp_path / "fast", epochs=1, learning_rate=0.05)[0]
    monkeypatch.setattr(jaxcam.training.step, "accelerate", lambda function: function)
    jax.clear_caches()
    plain = run(tmp_path / "plain", epochs=1, learning_rate=0.05)[0]
    monkeypatch.undo()
    jax.clear_caches()
    moved = [
        float(jnp.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(weights(fast)), jax.tree.leaves(weights(Small())), strict=True)
    ]
    assert max(moved) > 1e-2
    for a, b in zip(jax.tree.leaves(weights(fast)), jax.tree.leaves(weights(plain)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_the_directory_holds_the_network_the_history_and_the_state(tmp_path):
    out = tmp_path / "runs" / "first"
    model, history = run(out)
    files = sorted(str(file.relative_to(out)) for file in out.rglob("*") if file.is_file())
    epochs = [f"epochs/epoch_{epoch:03d}.safetensors" for epoch in (0, 2, 4)]
    assert files == [*epochs, "history.csv", "model.safetensors", "state.safetensors"]
    assert History.from_csv(out / "history.csv") == history
    assert same(weights(models.restore(Small(9), out / "model.safetensors")), weights(model))
    metadata = models.read_metadata(out / "model.safetensors")
    assert metadata["names"] == list("0123456789")
    assert metadata["epoch"] == 4
    assert metadata["data"]["name"] == "digits"
    assert metadata["training"] == {"batch": 16, "learning_rate": 1e-3, "weight_decay": 1e-5, "seed": 0, "epochs": 4}
    assert metadata["test_accuracy"] == history[-1].test_accuracy
    # What a unit was at the beginning and half way.
    untrained = models.restore(Small(9), out / "epochs/epoch_000.safetensors")
    assert same(nnx.state(untrained, nnx.Param), nnx.state(Small(), nnx.Param))
    assert (
        evaluate(models.restore(Small(9), out / "epochs/epoch_002.safetensors"), digits()[1]).accuracy == history[1][4]
    )


@pytest.mark.slow
def test_a_network_of_the_house_is_loaded_from_its_training(tmp_path):
    model = models.load("vgg11", classes=10, image_size=8, channels=1, convolutions=1)
    run(tmp_path, model=model, epochs=1)
    loaded = models.load(tmp_path / "model.safetensors")
    assert loaded.config == model.config
    assert same(nnx.state(loaded), nnx.state(model))


def test_the_bar_goes_to_standard_error_and_says_epoch_loss_and_accuracy(tmp_path, capsys):
    run(tmp_path, epochs=2, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "epoch 2 of 2" in captured.err
    assert "loss" in captured.err
    assert "accuracy" in captured.err


DATA, TEST = digits()


def having(**changes):
    values = {"images": DATA.images, "labels": DATA.labels, "names": DATA.names, "name": "mine"} | changes
    return Dataset(**values)


@pytest.mark.parametrize(
    ("model", "data", "test", "message"),
    [
        (Small(classes=9), DATA, TEST, r"digits has the label 9 \('9'\), the model has 9 outputs"),
        (Small(), having(labels=np.maximum(DATA.labels, 2)), TEST, "mine has no training image of 0, 1"),
        (Small(), having(images=DATA.images[:, :6]), TEST, "the model does not take the 6×8×1 images of mine"),
        (
            Small(),
            DATA,
            having(images=DATA.images[:, :, :7]),
            "training and test images differ in shape: 8 × 8 × 1 and",
        ),
        (
            Small(),
            DATA,
            having(names=(*"012345678", "nine")),
            "training and test data differ in their classes: 9, nine",
        ),
        (
            nnx.Conv(1, 3, (3, 3), rngs=nnx.Rngs(0)),
            DATA,
            TEST,
            r"must give logits of shape \(n, k\), but of 2 images it",
        ),
        (
            nnx.Sequential(lambda x: x.mean((1, 2))),
            DATA,
            TEST,
            "Sequential has nothing to train: it holds no nnx.Param",
        ),
    ],
)
def test_what_cannot_be_trained_is_said_before_it_is_tried(tmp_path, model, data, test, message):
    with pytest.raises(ValueError, match=message) as caught:
        train(model, data, test, out=tmp_path)
    assert "\n" not in str(caught.value)


def test_one_class_is_nothing_to_learn(tmp_path):
    one = Dataset(DATA.images[:4], np.zeros(4, int), ("cat",), name="mine")
    with pytest.raises(ValueError, match="mine has one class only, 'cat': whatever a network answers is right"):
        train(Small(), one, one, out=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"keep_every": 0}, "keep_every must be at least 1, not 0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
        ({"seed": 2**32}, "seed must be at most 4294967295, not 4294967296"),
        ({"epochs": math.nan}, "epochs must be a whole number, not nan"),
        ({"batch": 2.5}, "batch must be a whole number, not 2.5"),
        ({"keep_every": True}, "keep_every must be a whole number, not True"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0, not nan"),
        ({"learning_rate": math.inf}, "learning_rate must be above 0, not inf"),
        ({"weight_decay": math.nan}, "weight_decay must be at least 0, not nan"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0, not -1.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **options)


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; pass a directory"):
        run(tmp_path / "file")


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step(tmp_path):
    run(tmp_path, epochs=1)
    before = load_file(tmp_path / "model.safetensors")
    images = DATA.images.copy()
    broken = Small()
    broken.dense.kernel[...] = jnp.full_like(broken.dense.kernel, 1e38)
    with pytest.raises(ValueError, match=r"the loss is (inf|nan) in epoch 1, step 1: try a smaller learning_rate"):
        train(broken, having(images=images), TEST, out=tmp_path / "broken", epochs=2, batch=16, progress=False)
    assert not (tmp_path / "broken/model.safetensors").exists()
    assert same(before, load_file(tmp_path / "model.safetensors"))
