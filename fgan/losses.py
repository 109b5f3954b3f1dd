"""Adversarial losses: scores in, one loss per sample out.

Every loss is a pair of functions `(real_scores [B], fake_scores [B]) -> [B]`, and both are
minimised. Scores are logits of any real value, and **the critic is high on real samples**. A
generator's loss depends on `fake_scores` alone unless its docstring says otherwise; it takes both
so that all pairs have one shape.

Nothing here takes a logarithm of a sigmoid: `softplus(-s) = -log sigmoid(s)` is right (to 2e-9, in
torch) where the sigmoid has long rounded to 0 or 1, so no epsilon has to keep the logarithm finite
and takes the gradient away.

Every loss raises ValueError for scores of two shapes: [B] beside [B, 1] would give [B, B].
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from fgan.scores import check_pairs

__all__ = [
    "Loss",
    "hinge_critic_loss",
    "hinge_generator_loss",
    "least_squares_critic_loss",
    "least_squares_generator_loss",
    "minimax_critic_loss",
    "minimax_generator_loss",
    "non_saturating_critic_loss",
    "non_saturating_generator_loss",
    "relativistic_critic_loss",
    "relativistic_generator_loss",
    "wasserstein_critic_loss",
    "wasserstein_generator_loss",
]

Loss = Callable[[Tensor, Tensor], Tensor]
"""(real scores [B], fake scores [B]) -> [B]"""


def _of_pairs(loss: Loss) -> Loss:
    """The loss for scores of one shape only."""

    @wraps(loss)
    def checked(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
        check_pairs(real_scores=real_scores, fake_scores=fake_scores)
        return loss(real_scores, fake_scores)

    return checked


@_of_pairs
def minimax_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """-log D(x) - log(1 - D(G(z))) with D = sigmoid(score). [B], [B] -> [B].

    Its mean is at least 2 log 2 - 2 JSD, with equality for the optimal discriminator
    (Goodfellow et al. 2014, arXiv 1406.2661, eq. 1 and theorem 1).

    Example:
        >>> fgan.losses.minimax_critic_loss(torch.zeros(2), torch.zeros(2))  # 2 log 2
        tensor([1.3863, 1.3863])
    """
    return softplus(-real_scores) + softplus(fake_scores)


@_of_pairs
def minimax_generator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """log(1 - D(G(z))): the game's own, saturating loss. [B], [B] -> [B].

    Its derivative by the score is -sigmoid(score): nothing is left of it once the critic is sure
    (Goodfellow et al. 2014, eq. 1; the vanishing is theorem 2.4 of Arjovsky & Bottou 2017,
    arXiv 1701.04862).

    Example:
        >>> fgan.losses.minimax_generator_loss(torch.zeros(1), torch.zeros(1))  # log ½
        tensor([-0.6931])
    """
    return -softplus(fake_scores)


@_of_pairs
def non_saturating_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The same as `minimax_critic_loss`: only the generator's loss differs. [B], [B] -> [B].

    Example:
        >>> fgan.losses.non_saturating_critic_loss(torch.zeros(1), torch.zeros(1))  # 2 log 2
        tensor([1.3863])
    """
    return minimax_critic_loss(real_scores, fake_scores)


@_of_pairs
def non_saturating_generator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """-log D(G(z)), whose derivative by the score is -sigmoid(-score). [B], [B] -> [B].

    Goodfellow et al. 2014, section 3.

    Example:
        >>> fgan.losses.non_saturating_generator_loss(torch.zeros(1), torch.zeros(1))  # -log ½
        tensor([0.6931])
    """
    return softplus(-fake_scores)


@_of_pairs
def wasserstein_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """D(G(z)) - D(x). [B], [B] -> [B].

    Minus its mean, maximised over 1-Lipschitz critics, is the Wasserstein-1 distance
    (Arjovsky et al. 2017, arXiv 1701.07875, eq. 2). The W-divergence paper (Wu et al. 2018,
    arXiv 1712.01026) writes the mirrored sign; the two agree under D -> -D, since its penalty is
    even in D.

    Example:
        >>> real_scores, fake_scores = torch.tensor([3.0, 2.0]), torch.tensor([1.0, 4.0])
        >>> fgan.losses.wasserstein_critic_loss(real_scores, fake_scores)
        tensor([-2.,  2.])
    """
    return fake_scores - real_scores


@_of_pairs
def wasserstein_generator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """-D(G(z)). [B], [B] -> [B]. Arjovsky et al. 2017, algorithm 1.

    Example:
        >>> fgan.losses.wasserstein_generator_loss(torch.tensor([3.0]), torch.tensor([1.0]))
        tensor([-1.])
    """
    return -fake_scores


@_of_pairs
def hinge_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))). [B], [B] -> [B].

    Lim & Ye 2017, arXiv 1705.02894; Miyato et al. 2018, arXiv 1802.05957, eq. 16.

    Example:
        >>> real_scores, fake_scores = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 0.0])
        >>> fgan.losses.hinge_critic_loss(real_scores, fake_scores)
        tensor([0., 2.])
    """
    return relu(1 - real_scores) + relu(1 + fake_scores)


@_of_pairs
def hinge_generator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """-D(G(z)). [B], [B] -> [B]. Miyato et al. 2018, eq. 17.

    Example:
        >>> fgan.losses.hinge_generator_loss(torch.tensor([3.0]), torch.tensor([1.0]))
        tensor([-1.])
    """
    return -fake_scores


@_of_pairs
def least_squares_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """((D(x) - 1)² + D(G(z))²) / 2. [B], [B] -> [B]. Mao et al. 2017, arXiv 1611.04076, eq. 9.

    Example:
        >>> real_scores, fake_scores = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        >>> fgan.losses.least_squares_critic_loss(real_scores, fake_scores)
        tensor([0., 1.])
    """
    return (torch.square(real_scores - 1) + torch.square(fake_scores)) / 2


@_of_pairs
def least_squares_generator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """(D(G(z)) - 1)² / 2. [B], [B] -> [B]. Mao et al. 2017, eq. 9.

    Example:
        >>> fgan.losses.least_squares_generator_loss(torch.tensor([1.0]), torch.tensor([0.0]))
        tensor([0.5000])
    """
    return torch.square(fake_scores - 1) / 2


@_of_pairs
def relativistic_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """-log sigmoid(D(x) - D(G(z))), real and fake samples paired. [B], [B] -> [B].

    Jolicoeur-Martineau 2018, arXiv 1807.00734; Huang et al. 2025, arXiv 2501.05441.

    Example:
        >>> fgan.losses.relativistic_critic_loss(torch.ones(1), torch.ones(1))  # -log ½
        tensor([0.6931])
    """
    return softplus(fake_scores - real_scores)


@_of_pairs
def relativistic_generator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """-log sigmoid(D(G(z)) - D(x)): it needs the real scores too. [B], [B] -> [B].

    Example:
        >>> fgan.losses.relativistic_generator_loss(torch.ones(1), torch.ones(1))  # -log ½
        tensor([0.6931])
    """
    return softplus(real_scores - fake_scores)
