"""What a critic says about the distance between two batches; each a 0-d tensor.

`critic` maps samples [B, ...] to scores [B] or [B, 1]; a critic that gives anything else raises
ValueError. The two batches need not be of one size. An estimate
is a lower bound of the distance named only for a critic that meets the constraint, and equal to it
only for the optimal one.
"""

import math

from torch import Tensor
from torch.nn.functional import softplus

from fgan.penalties import Critic, w_divergence_penalty
from fgan.scores import as_scores, check_tensor, describe

__all__ = [
    "jensen_shannon_estimate",
    "w_divergence",
    "wasserstein_estimate",
]


def wasserstein_estimate(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """mean D(real) - mean D(fake).

    At most K · W1 for a K-Lipschitz critic (Arjovsky et al. 2017, arXiv 1701.07875, eq. 2).

    Example:
        >>> critic = lambda x: x.sum(dim=1)
        >>> fgan.measures.wasserstein_estimate(critic, torch.ones(8, 2), torch.zeros(4, 2))
        tensor(2.)
    """
    return _scores(critic, real, "real").mean() - _scores(critic, fake, "fake").mean()


def w_divergence(
    critic: Critic, real: Tensor, fake: Tensor, k: float = 2.0, p: float = 6.0
) -> Tensor:
    """mean D(real) - mean D(fake) - k E‖∇D(u)‖^p with u ~ ½Pr + ½Pg.

    The supremum over critics is the W-divergence (Wu et al. 2018, arXiv 1712.01026, in its mirrored
    sign); any critic gives a lower bound. It is finite only where u has mass all the way
    between the two: across a gap a critic may be as steep as it likes, and what it says is no
    distance. Raises ValueError for a negative k, and for p below 1.

    Example:
        >>> critic = lambda x: x @ torch.tensor([3.0, 4.0])
        >>> fgan.measures.w_divergence(critic, torch.ones(8, 2), torch.zeros(4, 2), k=0.1, p=2.0)
        tensor(4.5000)
    """
    for name, samples in ("real", real), ("fake", fake):
        check_tensor(name, samples)
    at_real = w_divergence_penalty(critic, real, k, p).mean()
    at_fake = w_divergence_penalty(critic, fake, k, p).mean()
    return wasserstein_estimate(critic, real, fake) - (at_real + at_fake) / 2


def jensen_shannon_estimate(critic: Critic, real: Tensor, fake: Tensor) -> Tensor:
    """log 2 - L/2 with L the standard discriminator loss, in nats; at most JSD ≤ log 2.

    Equal to the Jensen-Shannon divergence for the optimal discriminator (Goodfellow et al. 2014,
    arXiv 1406.2661, theorem 1).

    Example:
        >>> blind = lambda x: torch.zeros(len(x))
        >>> real, fake = torch.ones(8, 2), torch.zeros(4, 2)
        >>> abs(float(fgan.measures.jensen_shannon_estimate(blind, real, fake))) < 1e-6
        True
    """
    # The two terms of `losses.minimax_critic_loss`, apart, since the batches may differ in size.
    loss = softplus(-_scores(critic, real, "real")).mean()
    loss = loss + softplus(_scores(critic, fake, "fake")).mean()
    return math.log(2) - loss / 2


def _scores(critic: Critic, samples: Tensor, name: str) -> Tensor:
    if not callable(critic):
        raise ValueError(f"the critic is a function x -> scores, and {describe(critic)} was given")
    check_tensor(name, samples)
    if not samples.ndim or not len(samples):
        raise ValueError(f"{name} is a tensor [B, ...], and {describe(samples)} was given")
    return as_scores(critic(samples), samples)
