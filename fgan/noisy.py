"""Critics that take random numbers as data, such as the masks of dropout.

A network draws none in its forward pass, so a critic with noise takes it as its last input. The
setting `critic_noise` of `fgan.make_algorithm` and of every recipe declares it, and
`algorithm.noise` draws it.

    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 256), nn.Linear(256, 1)
            self.dropout = fgan.networks.NoiseDropout(0.5)

        def forward(self, x, uniform=None):  # or (x, condition, uniform=None)
            return self.last(self.dropout(self.first(x).relu(), uniform))

    algorithm = fgan.wgan_gp(generator, Critic(), critic_noise=Draw("uniform", (256,)))

A generator has its latent for this: `latent_dim` numbers more, which `torch.special.ndtr` makes
uniform.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from fgan.objectives import Critic, CriticObjective, Draw, GeneratorObjective
from fgan.scores import describe

__all__ = ["noisy"]

Objective = TypeVar("Objective", CriticObjective, GeneratorObjective)

NAME = "critic_noise"
"""Of the random numbers in `data.extra`."""


def noisy(objective: Objective, draw: Draw) -> Objective:
    """The objective with D(x, *conditions, noise) wherever it has D(x, *conditions).

    The noise is drawn anew for each sample of each update. Within an update the real sample x_i,
    the fake G(z_i) and the point that a penalty makes of the two are under the same noise.

    Raises ValueError for what is no `Draw` with a shape, for an objective that has noise already,
    and at the first round where a penalty calls the critic on one sample at a time.

    Example:
        >>> from fgan.noisy import noisy
        >>> plain = fgan.objectives.adversarial(fgan.losses.hinge_critic_loss)
        >>> noisy(plain, fgan.objectives.Draw("uniform", (256,))).draws
        {'critic_noise': Draw(distribution='uniform', shape=(256,))}
    """
    if not isinstance(draw, Draw) or draw.shape is None:
        raise ValueError(
            "critic_noise is a fgan.objectives.Draw with a shape, such as Draw('uniform', (256,)), "
            f"and {describe(draw)} was given"
        )
    if NAME in objective.draws:
        raise ValueError(f"this objective has a random tensor {NAME!r} already")

    return with_draw(objective, NAME, draw, _with_noise)


def _with_noise(critic: Critic, noise: Tensor) -> Critic:
    def of_noise(x: Tensor, *conditions: Tensor) -> Any:
        return critic(x, *conditions, for_rows("the critic's noise", noise, x))

    return of_noise


def with_draw(
    objective: Objective,
    name: str,
    draw: Draw,
    wrapped: Callable[[Critic, Tensor], Critic],
    *called: Callable[..., Any],
) -> Objective:
    """The objective with the critic `wrapped(critic, numbers)`; `draw` declares the numbers.

    called: the further functions that the wrapped critic calls.
    """

    def function(critic: Critic, *inputs: Any) -> Any:
        numbers = inputs[-1].extra[name]  # data comes last
        return objective.function(wrapped(critic, numbers), *inputs)

    calls: tuple[Callable[..., Any], ...] = objective.calls
    if calls:  # without calls it is not known what the objective does
        calls = (*calls, objective.function, *called)
    draws = objective.draws | {name: draw}
    return objective._replace(function=function, draws=draws, calls=calls)


def for_rows(what: str, noise: Tensor, x: Tensor) -> Tensor:
    """The random numbers of one batch for `x`, which is one batch, or several one behind another.

    what: the name of the random numbers, for the error.
    """
    times, rest = divmod(x.shape[0], noise.shape[0])
    if rest or not times:
        raise ValueError(
            f"{what} has random numbers for {noise.shape[0]} samples, and the critic was called on "
            f"{x.shape[0]}: a penalty that takes one sample at a time needs "
            "gradients=fgan.penalties.batched_input_gradients"
        )
    return torch.cat([noise] * times) if times > 1 else noise
