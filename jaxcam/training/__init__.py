"""Training a network the thesis's way, exactly repeatable, and measuring how well it classifies.

    history = train(model, data.load("digits"), data.load("digits", "test"), out="runs/digits")
    loss, accuracy, per_class = evaluate(model, data.load("digits", "test"))

The files: `loop` runs the epochs; `step` is one step as a pure function; `arrays` takes a module apart for it;
`checkpoint` writes and reads what an interrupted training goes on from; `history` and `evaluation` are what comes out,
`curves` the history for TensorBoard.
"""

from jaxcam.training.evaluation import Evaluation, evaluate
from jaxcam.training.history import Epoch, History
from jaxcam.training.loop import train
from jaxcam.training.step import adam

__all__ = ["Epoch", "Evaluation", "History", "adam", "evaluate", "train"]
