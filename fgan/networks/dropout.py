"""Dropout whose mask is data."""

from torch import Tensor, nn

from fgan.scalars import check_number
from fgan.scores import describe


class NoiseDropout(nn.Module):
    """`nn.Dropout` and `nn.Dropout2d` of numbers that are given: layer(x, uniform).

    x [B, C, ...]; uniform [B, ...] on [0, 1), a number for each of a sample's numbers, or [B, C], a
    number for each channel. In training mode numbers below p drop x to zero, and the rest is
    divided by 1 - p (Srivastava et al. 2014; Tompson et al. 2015, arXiv 1411.4280, for channels).
    In evaluation mode it gives x, and `uniform` may be None. `fgan.noisy` shows where the numbers
    of a critic come from, and those of a generator.

    Raises ValueError for a p outside of [0, 1), and, when it is called in training mode, for
    numbers of another shape.

    Example:
        >>> dropout = fgan.networks.NoiseDropout(0.5)
        >>> dropout(torch.ones(1, 4), torch.tensor([[0.1, 0.6, 0.4, 0.9]]))
        tensor([[0., 2., 0., 2.]])
    """

    per_sample = True  # see `fgan.networks.is_per_sample`

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = check_number("p", p, 0.0, 1.0)

    def forward(self, x: Tensor, uniform: Tensor | None = None) -> Tensor:
        if not self.training:
            return x
        if not isinstance(uniform, Tensor) or x.ndim < 2 or uniform.shape[:1] != x.shape[:1]:
            raise ValueError(self._wrong(x, uniform))
        if uniform.shape[1:].numel() == x.shape[1:].numel():
            mask = uniform.reshape(x.shape)
        elif uniform.shape == x.shape[:2]:
            mask = uniform.reshape(*x.shape[:2], *[1] * (x.ndim - 2))
        else:
            raise ValueError(self._wrong(x, uniform))
        return x * ((mask >= self.p).to(x.dtype) / (1 - self.p))

    def _wrong(self, x: Tensor, uniform: Tensor | None) -> str:
        return (
            f"NoiseDropout takes uniform numbers {list(x.shape)} or {list(x.shape[:2])} for its "
            f"input {list(x.shape)}, and {describe(uniform)} was given: the setting critic_noise "
            "declares those of a critic, and a generator takes them of its latent (fgan.noisy)"
        )

    def extra_repr(self) -> str:
        return f"p={self.p}"
