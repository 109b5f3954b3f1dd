"""Every private name of torch that the compiler uses, and the check that all of them are there.

torch may move or remove these names in any release. No other module of `fgan.compiler` mentions a
private name: the others write `_torch.make_fx`, which is looked up at that moment. So an import of
fgan imports no part of torch's compiler, and `fgan.compile` finds out with `missing` whether it can
work, before it does.
"""

import inspect
from collections.abc import Iterable
from importlib import import_module
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

_TRACING = {
    "make_fx": "torch.fx.experimental.proxy_tensor:make_fx",
    "peek_interpreter_stack": "torch._C._functorch:peek_interpreter_stack",
    "OpOverload": "torch._ops:OpOverload",
    "foreach_copy_": "torch:_foreach_copy_",
}
"""What every backend needs: the name here -> module:attribute."""

_INDUCTOR = {
    "standalone_compile": "torch._inductor:standalone_compile",
    "CustomGraphPass": "torch._inductor.custom_graph_pass:CustomGraphPass",
    "get_hash_for_files": "torch._inductor.custom_graph_pass:get_hash_for_files",
    "stable_topological_sort": "torch._inductor.pattern_matcher:stable_topological_sort",
    "select_decomp_table": "torch._inductor.decomposition:select_decomp_table",
    "detect_fake_mode": "torch._guards:detect_fake_mode",
    "unsafe_view": "torch:ops.aten._unsafe_view.default",
    "register_lowering": "torch._inductor.lowering:register_lowering",
    "ExternKernel": "torch._inductor.ir:ExternKernel",
    "FixedLayout": "torch._inductor.ir:FixedLayout",
    "TensorBox": "torch._inductor.ir:TensorBox",
    "LinearUnary": "torch._inductor.mkldnn_ir:LinearUnary",
    "create_output_node": "torch._inductor.mkldnn_ir:_create_output_node",
}
"""What the backend "inductor" needs beside those."""

_PATHS = _TRACING | _INDUCTOR

_TRACING_ATTRIBUTES = (
    "torch:ops.aten.add.Tensor._schema",
    "torch:UntypedStorage._cdata",
    "torch:Tensor._version",
)
"""Attributes that the functions below read."""

# The compiler's options, all of `torch._inductor.config`.
JOINT_PASS = "joint_custom_pre_pass"
POST_GRAD_PASS = "post_grad_custom_post_pass"
COMBO_KERNELS = "combo_kernels"
CPP_WRAPPER = "cpp_wrapper"
CPP_WRAPPER_BUILD_SEPARATE = "cpp_wrapper_build_separate"
CPP_VEC_ISA_OK = "cpp.vec_isa_ok"
_OPTIONS = (
    JOINT_PASS,
    POST_GRAD_PASS,
    COMBO_KERNELS,
    CPP_WRAPPER,
    CPP_WRAPPER_BUILD_SEPARATE,
    CPP_VEC_ISA_OK,
)

REALIZE = "inductor_realize_to_strides"
"""The key of `node.meta` by which Inductor stores a value in memory, in the order of its axes."""

_ONEDNN_LINEAR = "torch:ops.mkldnn._linear_pointwise.default"
"""What `LinearUnary` calls; torch may be built without it."""


def __getattr__(name: str) -> Any:
    if name not in _PATHS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _resolve(_PATHS[name])


def missing(inductor: bool) -> list[str]:
    """The private names that this torch does not have.

    inductor: whether to check those that only the backend "inductor" needs. The check imports all
        of torch's compiler.
    """
    paths = [*_TRACING.values(), *_TRACING_ATTRIBUTES]
    if inductor:
        paths += _INDUCTOR.values()
        paths += [f"torch._inductor.config:{option}" for option in _OPTIONS]
        paths += [_ONEDNN_LINEAR] * torch.backends.mkldnn.is_available()
    names = [path.replace(":", ".") for path in _unresolved(paths)]
    if inductor and not _reads_realize_key():
        names.append(f"torch._inductor.graph: node.meta[{REALIZE!r}]")
    return names


def schema(op: Any) -> Any:
    """An operator's signature: its arguments and results, and which of them alias each other."""
    return op._schema


def storage_id(tensor: Tensor) -> int:
    """A number that is equal for two tensors of one storage; fake tensors have one too."""
    return tensor.untyped_storage()._cdata


def version(tensor: Tensor) -> int:
    """How often the tensor's memory has been written to in place."""
    return tensor._version


def _resolve(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return attrgetter(attribute)(import_module(module))


def _unresolved(paths: Iterable[str]) -> list[str]:
    found = []
    for path in paths:
        try:
            _resolve(path)
        except (ImportError, AttributeError):
            found.append(path)
    return found


def _reads_realize_key() -> bool:
    """Whether Inductor's source mentions the key; True where there is no source to read."""
    try:
        return REALIZE in inspect.getsource(import_module("torch._inductor.graph"))
    except (ImportError, OSError):
        return True
