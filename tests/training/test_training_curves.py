"""Training curves as TensorBoard reads them; nothing where it is not installed."""

import importlib.util

import pytest
from flax import nnx

from jaxcam import data, training
from jaxcam.training import curves
from jaxcam.training.curves import TAGS


def fit(out, epochs):
    digits = {split: data.load("digits", split, image_size=8, limit=60) for split in ("train", "test")}
    model = nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 10, rngs=nnx.Rngs(0)))
    return training.train(model, **digits, out=out, epochs=epochs, batch=30, progress=False)


@pytest.mark.slow
def test_a_training_that_goes_on_has_one_whole_curve(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(tmp_path, 1)
    history = fit(tmp_path, 3)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert sorted(found.Tags()["tensors"]) == sorted(TAGS)
    for tag, name in TAGS.items():
        events = found.Tensors(tag)
        assert [event.step for event in events] == [1, 2, 3]
        values = [event.tensor_proto.float_val[0] for event in events]
        assert values == pytest.approx([getattr(epoch, name) for epoch in history])


def test_without_tensorboard_there_is_no_curve_and_no_complaint(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "tensorboard" else found(name))
    assert not curves.installed()
    fit(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "model.safetensors", "state.safetensors"]
