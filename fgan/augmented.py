"""Objectives of both players under a differentiable augmentation (`fgan.augment`).

Both players have to be under the same one: a generator whose critic alone sees augmented samples
learns to make augmented samples (Zhao et al. 2020, arXiv 2006.10738, section 3). The setting
`augmentation` of `fgan.make_algorithm` and of every recipe does it.

    augmentation = augment.chain(augment.colour(), augment.translation(), augment.cutout())
    algorithm = fgan.wgan_gp(generator, critic, augmentation=augmentation)

The strength is a constant. An adaptive one (ADA, Karras et al. 2020, arXiv 2006.06676) would need a
figure of the critic in the state, and is not here.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fgan.augment import Augmentation
from fgan.noisy import Objective, for_rows, with_draw
from fgan.objectives import Critic, Draw

__all__ = ["augmented"]

NAME = "augmentation"
"""Of the random numbers in `data.extra`."""


def augmented(objective: Objective, augmentation: Augmentation) -> Objective:
    """The objective with D(T(x)) wherever it has D(x), T being random and the same at sample i.

    T is drawn anew for each sample of each update, and x_i and G(z_i) are under the same one. A
    penalty differentiates through T: it takes ∇ D(T(x)) by x, at points x that are not augmented.

    Raises ValueError for an objective that is under an augmentation already, and at the first round
    where a penalty calls the critic on one sample at a time: use `batched_input_gradients`.

    Example:
        >>> from fgan.augmented import augmented
        >>> plain = fgan.objectives.adversarial(fgan.losses.hinge_critic_loss)
        >>> augmented(plain, fgan.augment.translation()).draws
        {'augmentation': Draw(distribution='uniform', shape=(2,))}
    """
    if not isinstance(augmentation, Augmentation):
        raise ValueError(
            f"an augmentation is a fgan.augment.Augmentation, and {augmentation!r} was given"
        )
    if NAME in objective.draws:
        raise ValueError(
            f"this objective has a random tensor {NAME!r} already: several augmentations are one, "
            "fgan.augment.chain(...)"
        )

    def wrapped(critic: Critic, uniform: Tensor) -> Critic:
        def of_augmented(x: Tensor, *conditions: Tensor) -> Any:
            return critic(_applied(augmentation, x, uniform), *conditions)

        return of_augmented

    draw = Draw("uniform", (augmentation.numbers,))
    return with_draw(objective, NAME, draw, wrapped, augmentation.function)


def _applied(augmentation: Augmentation, x: Tensor, uniform: Tensor) -> Tensor:
    """T(x), for one batch or for several of them, one behind another."""
    made = augmentation.function(x, for_rows("the augmentation", uniform, x))
    if made.shape != x.shape:
        raise ValueError(
            f"an augmentation keeps the samples' shape {list(x.shape)}, and this one gave "
            f"{list(made.shape)}"
        )
    return made
