"""The latents that samples are drawn from: seeded, truncated, and between two others."""

import math

import torch
from torch import Tensor

from fgan.scalars import check_count
from fgan.seeds import mix_seed


def latents(
    num: int, latent_dim: int, like: Tensor, seed: int = 0, truncation: float | None = None
) -> Tensor:
    """Standard normal latents [num, latent_dim] of `seed`, with the dtype and device of `like`.

    They are drawn on the CPU, so that every device has the same. truncation: see `truncated`.
    """
    check_count("num", num)
    source = torch.Generator().manual_seed(mix_seed(seed))
    latent = torch.randn(num, latent_dim, generator=source, device="cpu")
    if truncation is not None:
        latent = truncated(latent, truncation)
    return latent.to(like)


def truncated(latent: Tensor, limit: float) -> Tensor:
    """Standard normal numbers as numbers of the normal distribution truncated to ±limit.

    The truncation trick of BigGAN (Brock 2019, arXiv 1809.11096): a smaller limit gives samples of
    less variety, and often of higher quality. There, numbers beyond the limit are drawn anew. Here,
    every number keeps its quantile, so it moves steadily with the limit: F⁻¹(Φ(z)), where F is the
    distribution function of the truncated normal.

    Raises ValueError for a limit that is no positive, finite number.
    """
    number = isinstance(limit, int | float) and not isinstance(limit, bool)
    if not number or not math.isfinite(limit) or limit <= 0:
        raise ValueError(f"truncation is a positive number such as 0.7, and {limit!r} was given")
    # In the lower half, where a distribution function near 0 loses no digits; it is symmetric.
    outside = _lower_tail(torch.tensor(float(limit), dtype=torch.float64, device="cpu"))
    wide = latent.cpu().double()  # not every device has float64
    below = _lower_tail(wide.abs())
    moved = -torch.special.ndtri(outside + below * (1 - 2 * outside)).clamp(min=-limit)
    return torch.copysign(moved, wide).to(latent)


def _lower_tail(x: Tensor) -> Tensor:
    """Φ(-x) for x ≥ 0; torch's own `ndtr` gives 0 beyond 8.3."""
    return torch.special.erfc(x / math.sqrt(2)) / 2


def interpolated(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Latents [B, steps, Z] on great circles from `start` [B, Z] to `end` [B, Z], both included.

    Spherical interpolation (White 2016, arXiv 1609.04468): points on a straight line would be
    shorter than any latent of training. Lengths change linearly along the way.

    Raises ValueError for fewer than two steps.
    """
    check_count("the steps of an interpolation", steps, 2)
    # On the CPU: not every device has float64.
    a, b = start.cpu().double()[:, None], end.cpu().double()[:, None]
    lengths = [x.norm(dim=-1, keepdim=True).clamp(min=1e-12) for x in (a, b)]
    angle = (a / lengths[0] * (b / lengths[1])).sum(-1, keepdim=True).clamp(-1, 1).acos()
    # Equal or opposite directions have no great circle of their own: a straight line.
    is_flat = angle.sin() < 1e-6
    t = torch.linspace(0, 1, steps, dtype=torch.float64, device="cpu")[None, :, None]
    sine = torch.where(is_flat, torch.ones_like(angle), angle.sin())
    weights = [torch.where(is_flat, line, (line * angle).sin() / sine) for line in (1 - t, t)]
    length = (1 - t) * lengths[0] + t * lengths[1]
    path = length * (weights[0] * a / lengths[0] + weights[1] * b / lengths[1])
    path = torch.where(is_flat, (1 - t) * a + t * b, path).to(start.dtype).to(start.device)
    path[:, 0], path[:, -1] = start, end  # their own bits
    return path
