"""Training curves for TensorBoard, where it is installed."""

import importlib.util
import shutil
from pathlib import Path
from types import TracebackType

from jaxcam.training.history import Epoch, History

TAGS = {
    "loss/train": "train_loss",
    "loss/test": "test_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/test": "test_accuracy",
}


def installed() -> bool:
    """Whether there is a TensorBoard to write for."""
    return importlib.util.find_spec("tensorboard") is not None


class Curves:
    """An event file that grows by an epoch at a time; nothing at all without TensorBoard.

    Args:
        folder: `tensorboard --logdir` takes it or the one above. What it holds is replaced.
        history: the epochs before; they are written first, so that a training that goes on has all its curve.
    """

    def __init__(self, folder: Path, history: History) -> None:
        self._writer = None
        if not installed():
            return
        from tensorboard.summary import Writer

        shutil.rmtree(folder, ignore_errors=True)
        self._writer = Writer(str(folder))
        for epoch in history:
            self.add(epoch)

    def __enter__(self) -> "Curves":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add(self, epoch: Epoch) -> None:
        """Writes one epoch, at once."""
        if self._writer is None:
            return
        for tag, name in TAGS.items():
            self._writer.add_scalar(tag, getattr(epoch, name), epoch.epoch)
        self._writer.flush()
