"""Critics that end in a sigmoid: scores are logits, and the losses apply the sigmoid themselves.

A second sigmoid gives another loss without a word, and takes most of the gradient away.
"""

from collections.abc import Callable
from typing import Any

from einops.layers.torch import Rearrange, Reduce
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fgan.networks.mean_score import MeanScore

_SQUASHING = (nn.Sigmoid, nn.Hardsigmoid, nn.LogSigmoid, nn.Softmax, nn.LogSoftmax)
_RESHAPING = (nn.Identity, nn.Flatten, nn.Unflatten, Rearrange, Reduce)
_OPERATIONS = {"sigmoid", "hardsigmoid", "log_sigmoid_forward", "_softmax", "_log_softmax"}
_VIEWS = {
    *("view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "flatten"),
    *("select", "slice", "detach", "clone", "alias", "expand", "permute", "transpose", "t"),
    *("_to_copy", "contiguous"),
    "mean",  # of a map of scores
}


def check_last_layer(critic: nn.Module) -> None:
    """Raise ValueError for a critic whose last layer, as far as it is known, is a sigmoid.

    Example:
        >>> critic = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Sigmoid())
        >>> fgan.networks.check_last_layer(critic)
        Traceback (most recent call last):
        ValueError: ...
    """
    layer = critic
    while type(layer) in (nn.Sequential, MeanScore):
        children = [child for child in layer.children() if not isinstance(child, _RESHAPING)]
        if not children:
            return
        layer = children[-1]
    if isinstance(layer, _SQUASHING):
        raise ValueError(_message(type(layer).__name__))


def check_output(call: Callable[[], Any]) -> None:
    """Raise ValueError where the output of `call`, a pass of the critic, comes from a sigmoid."""
    with _LastOperations() as mode:
        output = call()
    # Of several outputs nobody knows which are the scores, before an objective has heads for them.
    if isinstance(output, Tensor) and mode.of(output) in _OPERATIONS:
        raise ValueError(_message(mode.of(output).strip("_")))


def _message(name: str) -> str:
    return (
        f"the critic ends in {name}, and scores are logits of any real value: fgan's losses apply "
        "the sigmoid themselves, in a form that loses no precision. Leave the last layer out"
    )


class _LastOperations(TorchDispatchMode):
    """Which operation each tensor comes from, views, copies and means aside."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[int, str] = {}
        self._kept: list[Tensor] = []  # an address must not be used twice

    def of(self, tensor: object) -> str:
        return self._names.get(id(tensor), "")

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(getattr(func, "_schema", func)).partition("(")[0].partition("::")[2]
        name = name.partition(".")[0]
        made = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(made, Tensor):
            source = args[0] if args else None
            is_view = name in _VIEWS and isinstance(source, Tensor)
            self._names[id(made)] = self.of(source) if is_view else name
            self._kept.append(made)
        return result
