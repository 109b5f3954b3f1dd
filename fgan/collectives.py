"""The sum over a group of processes, as a function that can be differentiated, vmapped, compiled;
and the smallest number of all processes.

torch has this sum as an operation without hidden state (`torch.ops._c10d_functional`), which its
compilers know. `torch.func` has no rule for it; the rules are here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.library import register_vmap


class Group(NamedTuple):
    """A process group, as what can be copied, stored and traced."""

    name: str
    """Under which torch.distributed knows the group."""
    rank: int
    """Of this process."""
    size: int


def group_of(group: Any = None) -> Group:
    """What is needed of a `torch.distributed.ProcessGroup`; by default, of the group of all.

    Raises ValueError where there is no group, and where this process does not belong to it.
    """
    if not dist.is_available():  # pragma: no cover (a build of torch without it)
        raise ValueError("this build of torch has no torch.distributed, so there is no group")
    if group is None:
        if not dist.is_initialized():
            raise ValueError(
                "there is no process group: call torch.distributed.init_process_group() first, in "
                "every process of a script that torchrun has started"
            )
        group = dist.group.WORLD
    if not isinstance(group, dist.ProcessGroup):
        raise ValueError(
            "group is a process group that this process belongs to, such as "
            f"torch.distributed.new_group() makes, and {group!r} was given"
        )
    _register_vmap()
    return Group(group.group_name, group.rank(), group.size())


@cache
def _register_vmap() -> None:
    """Give torch's two operations their rule for `vmap`: the same operation, for all members.

    `_Total` has the rule as well, but Dynamo follows its forward method alone. Without a rule,
    `vmap` would take member by member, and not wait for the sums: wrong numbers and a warning.
    """
    register_vmap("_c10d_functional::all_reduce", _all_reduce_of_members)
    register_vmap("_c10d_functional::wait_tensor", _wait_for_members)


def _all_reduce_of_members(info: Any, in_dims: Any, x: Tensor, *settings: str) -> Any:
    return torch.ops._c10d_functional.all_reduce(x.contiguous(), *settings), in_dims[0]


def _wait_for_members(info: Any, in_dims: Any, x: Tensor) -> Any:
    return torch.ops._c10d_functional.wait_tensor(x), in_dims[0]


def agreement(group: Any = None) -> Callable[[int], int]:
    """A function that takes a number of every process and returns the smallest to all of them.

    All processes of the group call the function, in the same order. One that does not come is an
    error after the group's time-out. The numbers lie on the CPU where the group has a backend for
    it, and else on the current CUDA device, which is then waited for.
    """
    group = dist.group.WORLD if group is None else group
    device = "cpu" if "cpu:" in dist.get_backend_config(group) else "cuda"

    def smallest(number: int) -> int:
        found = torch.tensor([number], device=device)
        dist.all_reduce(found, dist.ReduceOp.MIN, group=group)
        return int(found)

    return smallest


def total(x: Tensor, group: Group) -> Tensor:
    """The sum of every process's x, the same bits in each; [...] -> [...].

    All processes of the group have to call it, in the same order. Its gradient is the sum of every
    process's gradient: each process then has the gradient of the sum of all losses.
    """
    summed: Tensor = _Total.apply(x, group.name)
    return summed


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, group: str) -> Tensor:
        operations = torch.ops._c10d_functional
        summed: Tensor = operations.wait_tensor(operations.all_reduce(x.contiguous(), "sum", group))
        return summed

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.group = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Total.apply(gradients[0], ctx.group), None

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, group: str) -> Any:
        # One sum over the processes for all members.
        return _Total.apply(x, group), in_dims[0]
