"""Generators that take latents of more than one axis, such as [B, Z, 1, 1] or [B, T, Z]."""

from math import prod
from typing import Any

from torch import Tensor

from fgan.networks.functional import Apply
from fgan.scores import describe
from fgan.types import Params


def of_flat_latents(apply: Apply, shape: tuple[int, ...]) -> Apply:
    """A generator's function of latents [B, *shape] as one of latents [B, Z], Z their product.

    The numbers keep their order: row-major. Raises ValueError for latents of another size.

    Example:
        >>> network = fgan.make_functional(torch.nn.ConvTranspose2d(4, 1, kernel_size=2))
        >>> apply = fgan.networks.of_flat_latents(network.apply, shape=(4, 1, 1))
        >>> apply(network.params, network.buffers, torch.zeros(8, 4))[0].shape
        torch.Size([8, 1, 2, 2])
    """
    if len(shape) == 1:
        return apply
    size = prod(shape)

    def of_flat(
        params: Params, buffers: Params, *inputs: Tensor, training: bool = True
    ) -> tuple[Any, Params]:
        latent, *conditions = inputs
        if latent.ndim != 2 or latent.shape[1] != size:
            raise ValueError(
                f"the latent is [B, latent_dim] = [B, {size}], which becomes "
                f"[B, {', '.join(map(str, shape))}] (latent_shape), and {describe(latent)} was "
                "given"
            )
        shaped = latent.reshape(latent.shape[0], *shape)
        return apply(params, buffers, shaped, *conditions, training=training)

    return of_flat
