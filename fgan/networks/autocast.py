"""Autocast for layers under `vmap`.

`torch.autocast` acts after `vmap` has decomposed a convolution. The convolution then runs in
float32, or raises because its input has the lower precision already. BatchNorm under `vmap` raises
for an input in lower precision beside statistics in float32.
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


class AutocastUnderVmap(TorchFunctionMode):
    """Does for convolutions and BatchNorm what `torch.autocast` does, also under `vmap`.

    It is to be used together with `torch.autocast`, which does the same for all other layers.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        keywords = dict(kwargs or {})
        if func in _CONVOLUTIONS and self._is_enabled(args, keywords):
            args, keywords = tree.map(self._cast, (args, keywords))
        if func is not nn.functional.batch_norm:
            return func(*args, **keywords)
        x, *statistics = args or (keywords.pop("input"),)
        x_float32 = x.float() if x.dtype is self.dtype else x
        return func(x_float32, *statistics, **keywords).to(x.dtype)

    @staticmethod
    def _is_enabled(*arguments: Any) -> bool:
        """Whether autocast is on: a module may switch it off in its forward method."""
        devices = {leaf.device.type for leaf in tree.leaves(arguments) if isinstance(leaf, Tensor)}
        return all(map(torch.is_autocast_enabled, devices))

    def _cast(self, leaf: Any) -> Any:
        is_float32 = isinstance(leaf, Tensor) and leaf.dtype is torch.float32
        return leaf.to(self.dtype) if is_float32 else leaf
