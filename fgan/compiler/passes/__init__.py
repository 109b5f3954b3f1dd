"""Graph passes: rewriting of a traced program before Inductor generates code for it.

The tracer writes down what autograd did, and autograd does not know what comes before and after an
operation. Each pass removes, or puts in another form, what a person would not have written. Each is
a module of its own, which says what the pass does and why.
"""

from collections.abc import Callable, Sequence, Set
from typing import Literal, NamedTuple

from torch.fx import Graph

from fgan.compiler.passes.bmm_to_mm import bmm_to_mm
from fgan.compiler.passes.conv_transpose_to_gemm import conv_transpose_to_gemm
from fgan.compiler.passes.conv_weight_gradient import conv_to_weight_gradient
from fgan.compiler.passes.copy_before_overwrite import copy_before_overwrite
from fgan.compiler.passes.cse import eliminate_common_subexpressions
from fgan.compiler.passes.horizontal_gemm_fusion import fuse_gemms_horizontally
from fgan.compiler.passes.k_concatenated_gemm import concatenate_gemms_along_k
from fgan.compiler.passes.linear_of_interpolation import reuse_linear_of_interpolation
from fgan.compiler.passes.onednn_linear import matmul_to_onednn_linear
from fgan.compiler.passes.realize_before_flatten import realize_before_flatten
from fgan.compiler.passes.realize_scalars import realize_scalars
from fgan.compiler.passes.row_scaled_cse import eliminate_row_scaled_subexpressions
from fgan.compiler.passes.transpose_skinny_matmul import transpose_skinny_matmul
from fgan.compiler.passes.unfuse_addmm import unfuse_addmm
from fgan.compiler.passes.view_to_reshape import view_to_reshape
from fgan.compiler.passes.zero_propagation import propagate_zeros


class GraphPass(NamedTuple):
    """One rewriting of a graph."""

    name: str
    """For `fgan.compile(disable_passes=...)`, the log and the key of the compiler's cache."""
    function: Callable[[Graph], int]
    """Changes the graph in place; returns how many changes it made."""
    device: Literal["any", "cpu", "cuda"]
    """The programs that the pass runs on: a program with any CUDA tensor is one for CUDA."""
    stage: Literal["pre_grad", "joint", "post_grad"]
    """When the pass runs, in Inductor's terms: on the traced graph before Inductor sees it; as
    `joint_custom_pre_pass`; as `post_grad_custom_post_pass`, after Inductor's own passes."""
    gain: str
    """Time saved, as `bench/README.md` states it, each measured with and without the pass."""


PASSES = (
    GraphPass("view_to_reshape", view_to_reshape, "any", "pre_grad", "needed for correctness"),
    GraphPass(
        "cse", eliminate_common_subexpressions, "any", "joint",
        "not measured alone; row_scaled_cse and linear_of_interpolation need it",
    ),
    GraphPass("zero_propagation", propagate_zeros, "any", "joint", "11 % of the MLP's round"),
    # Before the passes that merge matmuls: it looks for layers as they are traced.
    GraphPass(
        "linear_of_interpolation", reuse_linear_of_interpolation, "any", "joint",
        "5 % of WGAN-GP's round on the MLP, 0 to 2 % on points",
    ),
    GraphPass("bmm_to_mm", bmm_to_mm, "any", "joint", "not measured alone"),
    # After zero propagation: it looks for rows that zeros hide.
    GraphPass(
        "row_scaled_cse", eliminate_row_scaled_subexpressions, "any", "joint",
        "25 % of WGAN-div's round on points, 14 % on the MLP, 10 % on convolutions",
    ),
    GraphPass(
        "horizontal_gemm_fusion", fuse_gemms_horizontally, "cuda", "joint",
        "not measured alone; with k_concatenated_gemm, 16 of the MLP's 27 matmuls are left",
    ),
    # After horizontal GEMM fusion: it reuses rows that the fusion has concatenated.
    GraphPass(
        "k_concatenated_gemm", concatenate_gemms_along_k, "cuda", "joint",
        "not measured alone; see horizontal_gemm_fusion",
    ),
    GraphPass(
        "conv_weight_gradient", conv_to_weight_gradient, "any", "joint",
        "1 to 2 % of the convolutional round on the CPU; in every CUDA figure, not measured alone",
    ),
    GraphPass(
        "conv_transpose_to_gemm", conv_transpose_to_gemm, "cpu", "joint",
        "13 % of the convolutional round, and 5 to 8 % more by rows",
    ),
    GraphPass(
        "realize_before_flatten", realize_before_flatten, "cpu", "joint",
        "2 to 4 % of the convolutional round",
    ),
    GraphPass(
        "realize_scalars", realize_scalars, "any", "joint",
        "13 % of the MLP's round, with masks of LeakyReLU in registers",
    ),
    GraphPass(
        "copy_before_overwrite", copy_before_overwrite, "any", "post_grad",
        "needed for correctness",
    ),
    GraphPass(
        "onednn_linear", matmul_to_onednn_linear, "cpu", "post_grad",
        "12 % of the round on points on a processor by AMD; left out on Intel's",
    ),
    GraphPass(
        "unfuse_addmm", unfuse_addmm, "cpu", "post_grad",
        "15, 10 and 6 % of the round on points at widths 16, 64 and 128",
    ),
    GraphPass(
        "transpose_skinny_matmul", transpose_skinny_matmul, "cpu", "post_grad",
        "3 to 10 % of a round of 16 or 64 small networks on points, 0 to 2 % of a single round",
    ),
)  # fmt: skip
"""All passes, in the order in which those of one stage run."""


def check_names(names: Sequence[str]) -> None:
    """Raise ValueError for a name that no pass has, and TypeError for a single string."""
    if isinstance(names, str):
        raise TypeError(f"disable_passes takes a sequence of names: disable_passes=({names!r},)")
    if not isinstance(names, Sequence | Set):
        raise TypeError(f"disable_passes takes a sequence of names of passes, not {names!r}")
    known = [each.name for each in PASSES]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"disable_passes: there is no pass {', '.join(map(repr, unknown))}; "
            f"the passes are {', '.join(known)}"
        )
