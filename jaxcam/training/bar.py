"""The progress bar of a training: epoch, loss, accuracy and the time that is left."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jaxcam.training.checkpoint import State


class Bar:
    """A bar on standard error over all steps of all epochs; begins where the training goes on."""

    def __init__(self, epochs: int, steps: int, state: State, progress: bool) -> None:
        columns = (
            TextColumn("epoch {task.fields[epoch]} of {task.fields[epochs]}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=4, disable=not progress)
        first = min(state.epoch + 1, epochs)
        self._task = self._progress.add_task(
            "", total=epochs * steps, completed=state.epoch * steps, epoch=first, epochs=epochs, figures=""
        )

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, epoch: int, figures: tuple[float, float] | None) -> None:
        """One step further, with the loss and the accuracy of the last known one."""
        self._progress.advance(self._task)
        self.show(epoch, figures)

    def show(self, epoch: int, figures: tuple[float, float] | None) -> None:
        """The figures alone."""
        text = f"loss {figures[0]:.3f}  accuracy {figures[1]:6.1%}" if figures else ""
        self._progress.update(self._task, epoch=epoch, figures=text)
