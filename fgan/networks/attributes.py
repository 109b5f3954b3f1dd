"""Attributes that a forward pass sets on its module: caches, features, counters.

A pure function keeps nothing from call to call. A tensor that is left in a module within `grad`,
`vmap` or a trace belongs to that transform, and the next call must not find it.
"""

import copy
from typing import Any

from torch import nn
from torch.nn.utils import parametrize

_INTERNAL = frozenset(vars(nn.Module()))
_CONTAINERS = (list, dict, set)


class Attributes:
    """The attributes of a module's layers at one moment, to be restored after each forward pass.

    Layers of torch, einops and fgan set none.
    """

    def __init__(self, module: nn.Module) -> None:
        own = [layer for layer in module.modules() if not is_known(layer)]
        self._layers: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = []
        for layer in own:
            values = {key: value for key, value in vars(layer).items() if key not in _INTERNAL}
            containers = {k: copy.copy(v) for k, v in values.items() if type(v) in _CONTAINERS}
            self._layers.append((vars(layer), values, containers))

    def restore(self) -> None:
        """Undo what a forward pass has set, changed or deleted."""
        for present, values, containers in self._layers:
            for key in [k for k in present if k not in values and k not in _INTERNAL]:
                del present[key]
            for key, value in values.items():
                if present.get(key) is not value:
                    present[key] = value
            # Always refilled: == between containers of tensors raises an error.
            for key, content in containers.items():
                _refill(present[key], content)


def _refill(container: Any, content: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(content)
    else:
        container.update(content)


def is_known(layer: nn.Module) -> bool:
    """Whether torch, einops or fgan wrote the layer's forward method."""
    kind = parametrize.type_before_parametrizations(layer)
    changed = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    return not changed and kind.__module__.partition(".")[0] in ("torch", "einops", "fgan")
