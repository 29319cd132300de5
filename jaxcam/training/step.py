"""One step of training, as one compiled function of arrays."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int, Key

from jaxcam.program import accelerate
from jaxcam.program.sharing import IMAGES, divided, spread
from jaxcam.training.arrays import Arrays, Form, statistics_of


def adam(learning_rate: float | Array = 1e-3, weight_decay: float | Array = 1e-5) -> optax.GradientTransformation:
    """Adam with L2 regularization in the gradient, as `torch.optim.Adam(weight_decay=…)` has it.

    With g = ∇L(θ) + λθ:  m ← 0.9 m + 0.1 g,  v ← 0.999 v + 0.001 g²,  θ ← θ − η m̂ / (√v̂ + 1e-8), where m̂ and v̂ are m
    and v divided by 1 − 0.9ᵗ and 1 − 0.999ᵗ. Every parameter is decayed, biases too.

    Args:
        learning_rate: η.
        weight_decay: λ.

    Returns:
        an optax transformation.

    Example:
        >>> optimizer = adam(0.1)
        >>> updates, _ = optimizer.update(jnp.ones(2), optimizer.init(jnp.zeros(2)), jnp.zeros(2))
        >>> [round(float(update), 4) for update in updates]
        [-0.1, -0.1]

    Paper: Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980.
    Differs from: AdamW (`optax.adamw`), which decays the weights beside the gradient's moments instead of through them.
    In float32 optax rounds 1 − 0.999ᵗ where PyTorch does not: the first steps differ by 6 parts in a million.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.scale_by_adam(), optax.scale_by_learning_rate(learning_rate)
    )


def loss_function(form: Form) -> Callable[..., tuple[Float[Array, ""], tuple[Float[Array, ""], Arrays]]]:
    """The pure function that training differentiates.

    Args:
        form: of the module, from `take_apart`.

    Returns:
        (parameters, statistics, x, y, key) ↦ (loss, (accuracy, statistics)): mean softmax cross entropy in nats, share
        of right classifications, updated statistics.
    """

    def loss(
        parameters: Arrays,
        statistics: Arrays,
        x: Float[Array, "n h w c"],
        y: Int[Array, " n"],
        key: Key[Array, ""],
    ) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Arrays]]:
        model = form.join(parameters, statistics, key=key)
        logits = model(x)
        value = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        accuracy = jnp.mean(jnp.argmax(logits, -1) == y, dtype=jnp.float32)
        return value, (accuracy, statistics_of(model))

    return loss


class Options(NamedTuple):
    """The numbers of a training that its compiled program takes as arguments: others compile nothing anew."""

    learning_rate: float | Array
    weight_decay: float | Array
    seed: int | Array


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2, 3), static_argnames="mesh")
def train_step(
    form: Form,
    parameters: Arrays,
    statistics: Arrays,
    moments: Any,
    x: Array,
    y: Array,
    number: int | Array,
    options: Options,
    mesh: Mesh | None = None,
) -> tuple[Arrays, Arrays, Any, Array, Array]:
    """One step. A last, smaller batch compiles once more; to pad it would be wrong for batch norm.

    Args:
        form: of the module.
        parameters, statistics, moments: where it stands. They are donated: gone after the call.
        x, y: a batch (n, h, w, c) and its labels (n,).
        number: of the step, from 0; with the seed it determines the noise of dropout.
        options: learning rate, weight decay, seed.
        mesh: of the devices that share the images.

    Returns:
        parameters, statistics and moments after the step; the loss and the accuracy of the batch before it.
    """
    key = jax.random.fold_in(jax.random.key(options.seed), number)
    differentiated = jax.value_and_grad(accelerate(loss_function(form)), has_aux=True)
    with divided(mesh):
        x, y = spread((x, y), IMAGES)
        (loss, (accuracy, statistics)), gradient = differentiated(parameters, statistics, x, y, key)
    optimizer = adam(options.learning_rate, options.weight_decay)
    updates, moments = optimizer.update(gradient, moments, parameters)
    parameters = {name: value + updates[name] for name, value in parameters.items()}
    return parameters, statistics, moments, loss, accuracy


@functools.partial(jax.jit, static_argnums=0, static_argnames="mesh")
def score_step(
    form: Form, parameters: Arrays, statistics: Arrays, x: Array, y: Array, mesh: Mesh | None = None
) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """Each image's cross entropy and whether its largest logit is that of its class, in evaluation mode."""

    def logits(parameters: Arrays, statistics: Arrays, x: Array) -> Array:
        result: Array = form.join(parameters, statistics)(x)
        return result

    with divided(mesh):
        return scores(accelerate(logits)(parameters, statistics, spread(x, IMAGES)), y)


def scores(logits: Float[Array, "n k"], y: Int[Array, " n"]) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """Each image's cross entropy, and whether its largest logit is that of its class."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, y), jnp.argmax(logits, -1) == y
