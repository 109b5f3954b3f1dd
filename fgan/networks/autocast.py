"""Narrow arithmetic under function transforms.

torch.autocast stands in the dispatcher behind `vmap`, which decomposes a convolution before that
can see it: it stays wide, or refuses the narrow input that a layer before has made. And BatchNorm
under `vmap` refuses a narrow input beside wide statistics.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fgan import tree

_CONVOLUTIONS = {
    torch.conv1d,
    torch.conv2d,
    torch.conv3d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
}


class Narrow(TorchFunctionMode):
    """Beside `torch.autocast`: what it does to those two kinds of layers, `vmap` or not."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _CONVOLUTIONS and not self._is_off(args, given):
            args, given = tree.map(self._narrow, (args, given))
        if func is not nn.functional.batch_norm:
            return func(*args, **given)
        x, *statistics = args or (given.pop("input"),)
        return func(x.float() if x.dtype is self.dtype else x, *statistics, **given).to(x.dtype)

    @staticmethod
    def _is_off(*arguments: Any) -> bool:
        """Whether the module has switched autocast off for these."""
        devices = {leaf.device.type for leaf in tree.leaves(arguments) if isinstance(leaf, Tensor)}
        return not all(map(torch.is_autocast_enabled, devices))

    def _narrow(self, leaf: Any) -> Any:
        wide = isinstance(leaf, Tensor) and leaf.dtype is torch.float32
        return leaf.to(self.dtype) if wide else leaf
