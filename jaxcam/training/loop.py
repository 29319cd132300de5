"""`jaxcam.training.train`: Adam, a fixed number of epochs, the last one kept; interrupted or not, the same bits."""

import functools
import math
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jaxtyping import Array

from jaxcam.data import Dataset
from jaxcam.data.checks import listed
from jaxcam.data.splits import permutation
from jaxcam.interrupts import on_stop
from jaxcam.models import save
from jaxcam.models.config import LARGEST_SEED
from jaxcam.program.sharing import brought_home, mesh_for
from jaxcam.training.arrays import Form, put_back, take_apart
from jaxcam.training.bar import Bar
from jaxcam.training.checkpoint import State, describe_model, read_state, write_state
from jaxcam.training.curves import Curves
from jaxcam.training.evaluation import check_labels, count_outputs, tally
from jaxcam.training.history import Epoch, History
from jaxcam.training.step import Options, adam, score_step, train_step

MODEL, HISTORY, STATE = "model.safetensors", "history.csv", "state.safetensors"
EPOCHS, CURVES = "epochs", "tensorboard"
REMEDY = "try a smaller learning_rate; the last complete epoch is kept"


def train(
    model: nnx.Module,
    train: Dataset,
    test: Dataset,
    *,
    out: str | os.PathLike[str],
    epochs: int = 30,
    batch: int = 128,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-5,
    seed: int = 0,
    resume: bool = True,
    keep_every: int | None = None,
    progress: bool = True,
) -> History:
    """Trains a classifier, the thesis's way: no augmentation, no schedule, no early stop.

    The loss is the mean softmax cross entropy of a batch; `adam` says how the weights follow. In every epoch each
    image is seen once, in an order that depends on the seed and the epoch alone, and the last batch is as small as it
    comes out. The directory `out` gets, whole or not at all, after each epoch:

    - `model.safetensors`: the network, for `jaxcam.models.load` or, if it is your own, `jaxcam.models.restore`;
    - `history.csv`: epoch, train_loss, train_accuracy, test_loss, test_accuracy;
    - `state.safetensors`: what is needed to go on. Killed at any moment and called again, training ends with bitwise
      the same weights as without the interruption, on the same machine and versions (a GPU adds up in the same order
      each time only under `XLA_FLAGS=--xla_gpu_deterministic_ops=true`);
    - `tensorboard/`, where TensorBoard is installed: the history as curves;
    - `epochs/epoch_003.safetensors`, on request: the network as it was then; `epoch_000` is the untrained one.

    Args:
        model: an NNX module x (n, h, w, c) ↦ logits (n, k), trained in place, left in evaluation mode.
        train: the images to learn from, at least one of each class.
        test: the images it is tested on after each epoch.
        out: the directory, made if it is not there.
        epochs: how many in all, those of an interrupted training included; more than before continues it.
        batch: images a step.
        learning_rate: η of Adam.
        weight_decay: λ, of λ/2 ‖θ‖² added to the loss.
        seed: of the order of images and of dropout, 0 to 2³² − 1. The initial weights are the model's own.
        resume: go on with what is in `out`, which must be the same training; False starts anew in its place.
        keep_every: keep the network of every so many epochs.
        progress: draw a bar on standard error.

    Returns:
        the history of all epochs.

    Raises:
        ValueError: data or options that make no sense, a class without images, labels beyond the outputs, another
            training in `out`, a loss that is not finite; each with its remedy.
        TypeError: a model that is not an NNX module.
        KeyboardInterrupt: on Ctrl-C, with a line that says what was kept. The model has the last complete epoch.
        OSError: the disk is full; the last complete epoch is kept.

    Example:
        >>> import tempfile
        >>> from jaxcam.data import load
        >>> digits = {split: load("digits", split, image_size=8, limit=100) for split in ("train", "test")}
        >>> model = nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 10, rngs=nnx.Rngs(0)))
        >>> with tempfile.TemporaryDirectory() as out:
        ...     history = train(model, **digits, out=out, epochs=2, batch=50, learning_rate=0.01, progress=False)
        >>> len(history), history[1].train_loss < history[0].train_loss
        (2, True)

    Paper: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980.
    """
    _check_options(epochs=epochs, batch=batch, keep_every=keep_every, seed=seed)
    _check_rates(learning_rate, weight_decay)
    if not isinstance(model, nnx.Module):
        raise TypeError(f"training takes a Flax NNX module, not {type(model).__name__}")
    form, parameters, statistics = take_apart(model)
    if not parameters:
        raise ValueError(f"{type(model).__name__} has nothing to train: it holds no nnx.Param")
    _check_data(form.join(parameters, statistics), train, test)
    options = Options(float(learning_rate), float(weight_decay), seed)
    mesh = mesh_for(batch, (parameters, statistics))
    state = State(parameters, statistics, adam().init(parameters), History())
    chosen: dict[str, Any] = {"batch": batch, **options._asdict()}
    settings = chosen | {
        "training data": train.describe(),
        "test data": test.describe(),
        "model": describe_model(model, form, state, train.images.shape[1:]),
    }
    place = _open(Path(out), resume)
    if (place / STATE).exists():
        state, settings = read_state(place / STATE, state, settings)
    if state.epoch > epochs:
        raise ValueError(f"{place} holds {state.epoch} epochs already, {epochs} were asked for; pass another out")

    def keep(state: State, path: Path) -> None:
        last = state.history[-1] if state.history else None
        save(
            form.join(state.parameters, state.statistics),
            path,
            names=train.names,
            data=train.describe(),
            training=chosen | {"epochs": epochs},
            epoch=state.epoch,
            test_accuracy=last and last.test_accuracy,
        )

    def stopped() -> str:
        kept = f"{state.epoch} of {epochs} epochs are kept in {place}, the same call goes on from there"
        return f"training stopped; {kept if state.epoch else 'no epoch was complete, the same call begins anew'}"

    try:
        if keep_every and state.epoch == 0:
            keep(state, _epoch_file(place, 0))
        steps = math.ceil(train.count / batch)
        with (
            on_stop(stopped),
            Bar(epochs, steps, state, progress) as bar,
            Curves(place / CURVES, state.history) as curves,
        ):
            while state.epoch < epochs:
                following = _run_epoch(form, state, train, test, batch, options, mesh, bar)
                keep(following, place / MODEL)
                if keep_every and following.epoch % keep_every == 0:
                    keep(following, _epoch_file(place, following.epoch))
                following.history.to_csv(place / HISTORY)
                # Last, so that all that belongs to a state is there when the state is.
                write_state(place / STATE, following, settings)
                state = following
                curves.add(state.history[-1])
    except KeyboardInterrupt:
        raise KeyboardInterrupt(stopped()) from None
    finally:
        # A model that has learned on several devices is not bound to them.
        put_back(model, form, *(brought_home(arrays, mesh) for arrays in (state.parameters, state.statistics)))
    return state.history


def _run_epoch(
    form: Form,
    state: State,
    train: Dataset,
    test: Dataset,
    batch: int,
    options: Options,
    mesh: Mesh | None,
    bar: Bar,
) -> State:
    epoch = state.epoch + 1
    order = permutation(train.count, int(options.seed), epoch)
    # A step consumes what it is given; the state must survive an epoch that is not completed.
    parameters, statistics, moments = jax.tree.map(jnp.copy, (state.parameters, state.statistics, state.moments))
    batches = [order[start : start + batch] for start in range(0, train.count, batch)]
    done: list[tuple[Array, Array]] = []
    for index, chosen in enumerate(batches):
        x, y = train.images[chosen], train.labels[chosen]
        number = state.epoch * len(batches) + index
        parameters, statistics, moments, *figures = train_step(
            form, parameters, statistics, moments, x, y, number, options, mesh=mesh
        )
        done.append((figures[0], figures[1]))
        # Looking at the step before keeps the device busy with this one.
        bar.advance(epoch, _checked(done, index - 1, epoch))
    bar.show(epoch, _checked(done, len(batches) - 1, epoch))
    shares = np.array([len(chosen) for chosen in batches]) / train.count
    train_loss, train_accuracy = shares @ np.array(done, np.float64)
    tested = tally(functools.partial(score_step, form, parameters, statistics, mesh=mesh), test, batch)
    if not math.isfinite(tested.loss):
        raise ValueError(f"the test loss is {tested.loss} after epoch {epoch}: {REMEDY}")
    row = Epoch(epoch, float(train_loss), float(train_accuracy), tested.loss, tested.accuracy)
    return State(parameters, statistics, moments, History([*state.history, row]))


def _checked(done: list[tuple[Array, Array]], number: int, epoch: int) -> tuple[float, float] | None:
    """The loss and accuracy of a step that is done, once it is found finite."""
    if number < 0:
        return None
    loss, accuracy = (float(value) for value in done[number])
    if not math.isfinite(loss):
        raise ValueError(f"the loss is {loss} in epoch {epoch}, step {number + 1}: {REMEDY}")
    return loss, accuracy


def _open(place: Path, resume: bool) -> Path:
    """The directory of a training, without what a killed writer or, if not resumed, a former training left."""
    if place.exists() and not place.is_dir():
        raise ValueError(f"out {str(place)!r} is a file; pass a directory")
    place.mkdir(parents=True, exist_ok=True)
    names = (STATE, MODEL, HISTORY)
    stale = [file for name in names for file in place.glob(f".{name}.*")] + list((place / EPOCHS).glob(".epoch_*"))
    if not resume:
        # The state first: without it nothing here is taken for a training that could go on.
        stale += [place / name for name in names] + list((place / EPOCHS).glob("epoch_*.safetensors"))
    for file in stale:
        file.unlink(missing_ok=True)
    return place


def _epoch_file(place: Path, epoch: int) -> Path:
    (place / EPOCHS).mkdir(exist_ok=True)
    return place / EPOCHS / f"epoch_{epoch:03d}.safetensors"


def _check_options(**options: int | None) -> None:
    for name, value in options.items():
        least, most = (0, LARGEST_SEED) if name == "seed" else (1, math.inf)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise ValueError(f"{name} must be a whole number, not {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")
        if value > most:
            raise ValueError(f"{name} must be at most {most}, not {value}")


def _check_rates(learning_rate: float, weight_decay: float) -> None:
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be above 0, not {learning_rate}")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be at least 0, not {weight_decay}")


def _check_data(model: nnx.Module, train: Dataset, test: Dataset) -> None:
    if len(train.names) < 2:
        raise ValueError(
            f"{train.name} has one class only, {listed(map(repr, train.names))}: whatever a network answers is right; "
            "give two or more"
        )
    outputs = count_outputs(model, train)
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = (" × ".join(map(str, data.images.shape[1:])) for data in (train, test))
        raise ValueError(f"training and test images differ in shape: {' and '.join(shapes)}")
    if train.names != test.names:
        odd = sorted(set(train.names) ^ set(test.names))
        raise ValueError(f"training and test data differ in their classes: {listed(odd, 5) or 'the order'}")
    for data in (train, test):
        check_labels(data, outputs)
    missing = np.flatnonzero(np.bincount(train.labels, minlength=len(train.names)) == 0)
    if missing.size:
        raise ValueError(f"{train.name} has no training image of {listed((train.names[k] for k in missing), 5)}")
