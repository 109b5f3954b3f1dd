"""Critics that give a map of scores for each sample, such as PatchGAN's."""

from typing import Any

from torch import Tensor, nn

from fgan.scores import describe


class MeanScore(nn.Module):
    """A critic with scores [B, ...], such as a map [B, 1, H, W], as one with their mean, [B].

    For the critics called PatchGAN (Isola et al. 2017, arXiv 1611.07004, section 3.2.2), and for
    scores [B, 1, 1, 1]. Of several outputs (scores, ...) it averages the first. A loss is taken of
    the mean score. The authors take the mean of each place's loss, which is the same for the linear
    losses of Wasserstein GANs, and by Jensen's inequality at least as large for the convex ones.

        algorithm = fgan.wgan_gp(generator, fgan.networks.MeanScore(patch_critic))

    Parameters have their names in the critic, behind "critic.". Raises ValueError, when it is
    called, for scores that are not a tensor [B, ...].

    Example:
        >>> patches = torch.nn.Conv2d(3, 1, kernel_size=4, stride=2)  # scores [B, 1, 7, 7]
        >>> fgan.networks.MeanScore(patches)(torch.zeros(4, 3, 16, 16)).shape
        torch.Size([4])
    """

    per_sample = True  # see `fgan.networks.is_per_sample`

    def __init__(self, critic: nn.Module) -> None:
        super().__init__()
        if not isinstance(critic, nn.Module):
            raise ValueError(
                f"MeanScore takes a critic, a module, and {describe(critic)} was given"
            )
        self.critic = critic

    def forward(self, x: Tensor, *conditions: Tensor) -> Any:
        output = self.critic(x, *conditions)
        scores, others = output, ()
        if isinstance(output, tuple | list) and output:
            scores, others = output[0], tuple(output[1:])
        if not isinstance(scores, Tensor) or scores.ndim == 0 or len(scores) != len(x):
            raise ValueError(
                f"MeanScore takes scores [{len(x)}, ...], one map a sample, and its critic gave "
                f"{describe(scores)}"
            )
        mean = scores.reshape(len(x), -1).mean(dim=1)
        return (mean, *others) if others else mean
