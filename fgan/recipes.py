"""The line GAN → WGAN → WGAN-GP → WGAN-div: a loss, a penalty, a projection, the paper's defaults.

Every recipe takes any generator and critic module and returns an `Algorithm`. Conditions are no
recipe of their own (Mirza & Osindero 2014, arXiv 1411.1784): give `generator(z, y)`, `critic(x, y)`
and batches with conditions, and every recipe below is conditional. Fakes are then made under the
conditions of the real batch, and a penalty differentiates by x alone with y held.

Shared keywords: `n_critic` (a number, or a schedule such as `critic_warmup()`), `latent_dim`
(default: the generator's attribute), `generator_optimizer`, `critic_optimizer`, `ema_decay`
(running mean of the generator's weights, for `generate`), `update` ("alternating", or
"simultaneous" with one critic update), `autocast` (`torch.bfloat16` for matrix products and
convolutions of half the width).
"""

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor, nn

from fgan import losses, tree
from fgan.game import adversarial
from fgan.optim import Optimizer, adam, rmsprop
from fgan.penalties import batched_input_gradients, gradient_penalty, w_divergence_penalty
from fgan.types import Algorithm, Tensors, Updates


class Common(TypedDict, total=False):
    """Keywords that every recipe passes on to `adversarial`."""

    latent_dim: int | None
    ema_decay: float | None
    autocast: torch.dtype | None


def gan(
    generator: nn.Module,
    critic: nn.Module,
    *,
    loss: str = "non_saturating",
    n_critic: Updates = 1,
    generator_optimizer: Optimizer | None = None,
    critic_optimizer: Optimizer | None = None,
    update: str = "alternating",
    **common: Unpack[Common],
) -> Algorithm:
    """The original GAN (Goodfellow et al. 2014, arXiv 1406.2661).

    The critic minimises softplus(-D(x)) + softplus(D(G(z))); the generator softplus(-D(G(z))) with
    `loss="non_saturating"`, or -softplus(D(G(z))), the game's own loss, with `loss="minimax"`.
    `info.distance` is log 2 - L/2, a lower bound of the Jensen-Shannon divergence in nats.
    Defaults: Adam 2e-4 (0.5, 0.999), as in DCGAN (Radford et al. 2015, arXiv 1511.06434).
    """
    if loss not in _GENERATOR_LOSSES:
        raise ValueError(f"loss is one of {', '.join(_GENERATOR_LOSSES)}; {loss!r} was given")
    return adversarial(
        generator,
        critic,
        critic_loss=losses.minimax_critic_loss,
        generator_loss=_GENERATOR_LOSSES[loss],
        distance=lambda critic_loss: log(2) - critic_loss / 2,
        generator_optimizer=generator_optimizer or adam(2e-4, betas=(0.5, 0.999)),
        critic_optimizer=critic_optimizer or adam(2e-4, betas=(0.5, 0.999)),
        n_critic=n_critic,
        update=update,
        **common,
    )


_GENERATOR_LOSSES = {
    "non_saturating": losses.non_saturating_generator_loss,
    "minimax": losses.minimax_generator_loss,
}


def wgan(
    generator: nn.Module,
    critic: nn.Module,
    *,
    clip: float | Tensor = 0.01,
    n_critic: Updates | None = None,
    generator_optimizer: Optimizer | None = None,
    critic_optimizer: Optimizer | None = None,
    update: str = "alternating",
    **common: Unpack[Common],
) -> Algorithm:
    """WGAN with weight clipping (Arjovsky et al. 2017, arXiv 1701.07875, algorithm 1).

    The critic minimises D(G(z)) - D(x), and each of its parameters is clamped to [-clip, clip]
    after each update; the generator minimises -D(G(z)). Defaults: clip 0.01, RMSprop 5e-5, five
    critic updates. The authors' code makes 100 in the first rounds: `n_critic=critic_warmup()`.
    """
    if isinstance(clip, float | int) and not clip > 0:
        raise ValueError(f"clip is above 0, and {clip} was given")
    return adversarial(
        generator,
        critic,
        critic_loss=losses.wasserstein_critic_loss,
        generator_loss=losses.wasserstein_generator_loss,
        project=partial(clip_parameters, bound=clip),
        generator_optimizer=generator_optimizer or rmsprop(5e-5),
        critic_optimizer=critic_optimizer or rmsprop(5e-5),
        n_critic=_updates(n_critic, update),
        update=update,
        **common,
    )


def wgan_gp(
    generator: nn.Module,
    critic: nn.Module,
    *,
    penalty_weight: float | Tensor = 10.0,
    target: float | Tensor = 1.0,
    one_sided: bool = False,
    sample_at: str = "interpolate",
    n_critic: Updates | None = None,
    generator_optimizer: Optimizer | None = None,
    critic_optimizer: Optimizer | None = None,
    update: str = "alternating",
    **common: Unpack[Common],
) -> Algorithm:
    """WGAN with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028, algorithm 1).

    The critic minimises D(G(z)) - D(x) + λ (‖∇D(x̂)‖₂ - target)² with λ `penalty_weight` and
    x̂ = εx + (1 - ε)G(z), one ε per sample; the generator minimises -D(G(z)). Defaults: λ 10,
    target 1, Adam 1e-4 (0, 0.9), five critic updates.
    """
    if isinstance(target, float | int) and not target >= 0:
        raise ValueError(f"target is at least 0, and {target} was given")
    return adversarial(
        generator,
        critic,
        critic_loss=losses.wasserstein_critic_loss,
        generator_loss=losses.wasserstein_generator_loss,
        penalty=partial(
            gradient_penalty,
            target=target,
            one_sided=one_sided,
            gradients=batched_input_gradients,
        ),
        penalty_weight=penalty_weight,
        sample_at=sample_at,
        generator_optimizer=generator_optimizer or adam(1e-4, betas=(0.0, 0.9)),
        critic_optimizer=critic_optimizer or adam(1e-4, betas=(0.0, 0.9)),
        n_critic=_updates(n_critic, update),
        update=update,
        **common,
    )


def wgan_div(
    generator: nn.Module,
    critic: nn.Module,
    *,
    k: float | Tensor = 2.0,
    p: float | Tensor = 6.0,
    sample_at: str = "real_and_fake",
    n_critic: Updates | None = None,
    generator_optimizer: Optimizer | None = None,
    critic_optimizer: Optimizer | None = None,
    update: str = "alternating",
    **common: Unpack[Common],
) -> Algorithm:
    """WGAN-div (Wu et al. 2018, arXiv 1712.01026, algorithm 1).

    The critic minimises D(G(z)) - D(x) + k ‖∇D(u)‖₂^p with u ~ Pu, in the mirror of the paper's
    sign; the generator minimises -D(G(z)). With Pu = ½Pr + ½Pg, the default, the penalty is
    (k/2)(‖∇D(x)‖₂^p + ‖∇D(G(z))‖₂^p): no interpolates. `sample_at` names the other choices of Pu
    (`fgan.penalties.SAMPLE_AT`). Defaults: k 2, p 6, Adam 2e-4 (0.5, 0.999), five critic updates;
    the authors' own code takes interpolates, k 10, and four.
    """
    if isinstance(k, float | int) and not k >= 0:
        raise ValueError(f"k is at least 0, and {k} was given")
    if isinstance(p, float | int) and not p >= 1:
        raise ValueError(f"p is at least 1, and {p} was given")
    return adversarial(
        generator,
        critic,
        critic_loss=losses.wasserstein_critic_loss,
        generator_loss=losses.wasserstein_generator_loss,
        penalty=partial(w_divergence_penalty, k=k, p=p, gradients=batched_input_gradients),
        sample_at=sample_at,
        generator_optimizer=generator_optimizer or adam(2e-4, betas=(0.5, 0.999)),
        critic_optimizer=critic_optimizer or adam(2e-4, betas=(0.5, 0.999)),
        n_critic=_updates(n_critic, update),
        update=update,
        **common,
    )


def clip_parameters(params: Tensors, bound: float | Tensor) -> Tensors:
    """Each parameter clamped to [-bound, bound], as new tensors (Arjovsky et al. 2017, alg. 1)."""

    def clip(param: Tensor) -> Tensor:
        limit: Any = tree.like(bound, param)  # torch's stubs lack the union of number and tensor
        return param.clamp(-limit, limit)

    return {name: clip(param) for name, param in params.items()}


def critic_warmup(
    n_critic: int = 5, warm: int = 100, first: int = 25, every: int = 500
) -> Callable[[int], int]:
    """A schedule for `n_critic`: `warm` updates in the `first` rounds and in each `every`-th.

    The defaults are those of the code that the authors of WGAN published; a critic close to optimal
    makes the loss a distance from the start.
    """
    for name, value in [("n_critic", n_critic), ("warm", warm), ("every", every)]:
        if value < 1:
            raise ValueError(f"{name} is at least 1, and {value} was given")
    return lambda index: warm if index < first or index % every == 0 else n_critic


def _updates(n_critic: Updates | None, update: str) -> Updates:
    """Five critic updates a round for the Wasserstein recipes; one in simultaneous play."""
    if n_critic is None:
        return 1 if update == "simultaneous" else 5
    return n_critic
