"""What `torch.func` refuses within a forward pass, in words: the layer, the reason, the way out."""

import linecache
import traceback
from typing import Any

import torch
from torch import nn

_MEMORY = (
    "leave activation checkpointing out. fgan.accumulate(algorithm, parts) and "
    "autocast=torch.bfloat16 save memory too"
)
_REASONS: dict[str, tuple[str, str]] = {
    "saved tensor hooks": (
        "uses torch.utils.checkpoint or another hook of saved tensors, which torch.func lacks",
        _MEMORY,
    ),
    "must override the setup_context": (
        "uses an autograd.Function of the old form, forward(ctx, ...), which torch.func lacks",
        "write it as forward(...) and setup_context(ctx, inputs, output)",
    ),
    "does not have vmap support": (
        "uses an autograd.Function without a rule for vmap, which takes it sample by sample",
        "set generate_vmap_rule = True in its class, or take the penalty with "
        "gradients=fgan.penalties.batched_input_gradients",
    ),
    "dynamo-optimized function": (
        "is compiled by torch.compile, and cannot be compiled again as a part of the round",
        "give the module as it was before torch.compile; fgan.compile compiles whole rounds",
    ),
    "call Tensor.requires_grad_()": (
        "calls requires_grad_ or torch.autograd.grad, which torch.func lacks",
        "take gradients within a forward pass with torch.func.grad or torch.func.vjp",
    ),
    "would mutate a captured Tensor": (
        "writes into one of its parameters, and a pure function changes none",
        "compute a new tensor of the parameter, or make it a buffer",
    ),
    "Cannot access data pointer": (
        "reads the memory of a tensor, as NumPy and extensions do, and torch.func gives none",
        "write it with operations of torch",
    ),
    "calling .item() on a Tensor": (
        "reads the value of a tensor, which is many values within vmap",
        "write it without branches on values (torch.where), .item() and float(), or take the "
        "penalty with gradients=fgan.penalties.batched_input_gradients",
    ),
}


def refusal(network: str, module: nn.Module, error: BaseException) -> str:
    """Why torch has refused a forward pass of `module`, and what to do; "" for other errors."""
    text = str(error)
    found = next((words for part, words in _REASONS.items() if part in text), None)
    if found is None:
        return ""
    reason, advice = found
    frames = list(traceback.walk_tb(error.__traceback__))
    if any(frame.f_code.co_filename.endswith("torch/utils/checkpoint.py") for frame, _ in frames):
        reason, advice = _REASONS["saved tensor hooks"]
    return f"{network}{_place_of(frames, module)} {reason}: {advice} ({text.partition(chr(10))[0]})"


def check_kinds(module: nn.Module) -> None:
    """Raise ValueError for a module that torch.func does not take, whatever it computes."""
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(
            "the module is made by torch.jit, and torch.func takes such modules as layers only: "
            "give nn.Sequential(module), or the module as it was before torch.jit"
        )
    for key, layer in module.named_modules():
        name = f"layer {key!r} ({type(layer).__name__})" if key else type(layer).__name__
        if isinstance(layer, nn.DataParallel | nn.parallel.DistributedDataParallel):
            raise ValueError(
                f"{name} runs its module on several devices: give the module within, and make the "
                "algorithm run on several by fgan.data_parallel(algorithm)"
            )
        if layer._backward_hooks or layer._backward_pre_hooks:
            raise ValueError(
                f"{name} has a backward hook, and torch.func calls none: remove it. What changes "
                "gradients is a function from an optimiser to an optimiser, as "
                "fgan.optim.clip_by_norm is"
            )


def _place_of(frames: list[Any], module: nn.Module) -> str:
    """The innermost line of the user's own that the error came through, and its layer."""
    own = [i for i, (frame, _) in enumerate(frames) if is_users_file(frame.f_code.co_filename)]
    if own:
        frames = frames[: own[-1] + 1]
    names = {id(layer): name for name, layer in module.named_modules() if name}
    layers = (names.get(id(_first(frame))) for frame, _ in reversed(frames))
    layer = next(filter(None, layers), None)
    kind = type(module.get_submodule(layer)).__name__ if layer else ""
    place = f", in its layer {layer!r} ({kind})," if layer else ""
    if not own:
        return place
    path, line = frames[-1][0].f_code.co_filename, frames[-1][1]
    code = linecache.getline(path, line).strip()
    return f"{place.rstrip(',')}, in line {line} of {path}, `{code}`,"


def is_users_file(path: str) -> bool:
    """Whether a file is neither torch's nor fgan's nor made at run time."""
    return "/torch/" not in path and "/fgan/" not in path and not path.startswith("<")


def _first(frame: Any) -> object:
    """The first argument of a frame's function, which is self in a method."""
    return frame.f_locals.get(next(iter(frame.f_code.co_varnames), ""))
