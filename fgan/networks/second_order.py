"""Critics under a penalty on input gradients: their passes need second derivatives.

torch's fused kernels of scaled dot product attention have first derivatives alone. The kernel that
is made of two matrix products and a softmax, `SDPBackend.MATH`, has derivatives of every order.
"""

import re
from collections.abc import Callable
from typing import Any

from torch.nn.attention import SDPBackend, sdpa_kernel

_MISSING = re.compile(r"derivative for (\S+) is not implemented")


def twice_differentiable(critic: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with attention computed by a kernel that has second derivatives.

    It acts on `torch.nn.functional.scaled_dot_product_attention`, which `nn.MultiheadAttention` and
    `nn.TransformerEncoderLayer` call. The values are the same up to rounding; the memory grows with
    the square of the sequence's length.

    Example:
        >>> attention = torch.nn.functional.scaled_dot_product_attention
        >>> of_math = fgan.networks.twice_differentiable(attention)
        >>> of_math(*torch.ones(3, 1, 2, 4)).shape
        torch.Size([1, 2, 4])
    """

    def with_math_kernel(*inputs: Any) -> Any:
        with sdpa_kernel(SDPBackend.MATH):
            return critic(*inputs)

    return with_math_kernel


def no_second_derivative(player: str, error: Exception) -> str:
    """Why the gradient of an objective has failed, if it lacks a second derivative; else "".

    Example:
        >>> fgan.networks.no_second_derivative("critic", RuntimeError("of another kind"))
        ''
    """
    text = str(error)
    found = _MISSING.search(text)
    if found is None:
        return ""
    operation = found.group(1)
    advice = "write it with other operations of torch, or take an objective without a penalty"
    if "scaled_dot_product" in operation or "attention" in operation:
        advice = (
            "run the pass of the critic under torch.nn.attention.sdpa_kernel(SDPBackend.MATH), as "
            "the penalties of fgan.penalties and fgan.objectives.adversarial do"
        )
    elif "rnn" in operation:
        advice = "run the round under torch.backends.cudnn.flags(enabled=False)"
    return (
        f"the {player}'s objective differentiates a gradient, and {operation} has no second "
        f"derivative: {advice} ({text.partition(chr(10))[0]})"
    )
