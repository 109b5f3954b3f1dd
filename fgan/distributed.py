"""One round on several devices: every process has a part of the batch, and gradients are averaged.

Losses and penalties are means over samples, so the mean of the processes' gradients is the gradient
of the whole batch. Each update has one all-reduce, of one tensor: gradients, figures, and what the
buffers have changed by. The rest of a round is computed in every process alike, so parameters,
moments and EMA stay equal to the last bit, and no process ever sends a state.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fgan import tree
from fgan.algorithm import of_parts
from fgan.collectives import Group, agreement, group_of, total
from fgan.compiler.compile import check_one_eager_run
from fgan.recipes import check_algorithm
from fgan.shares import Share, check_no_whole_batch
from fgan.types import Algorithm, Data, GANState, Gradient, Noise, Params


def data_parallel(
    algorithm: Algorithm, group: Any = None, *, wire_dtype: torch.dtype | None = None
) -> Algorithm:
    """The same algorithm in each process of a group, on its part of every batch.

        torch.distributed.init_process_group()  # in every process, as torchrun starts them
        algorithm = fgan.data_parallel(algorithm)
        fgan.data.batches(..., share=algorithm.share)

    group: a `torch.distributed.ProcessGroup`; by default, all processes.
    wire_dtype: `torch.bfloat16` sends gradients in it, half the bytes of float32. They are rounded
        before they are sent and after each sum, so an element of the mean over R processes has an
        error of at most R 2⁻⁸ times the largest that a process has there. The replicas stay equal.
        Buffers and figures are sent exactly, in a second all-reduce: this is for networks whose
        gradients take longer to send than one more message.

    A round equals the round of one process on the whole batch, up to the rounding of reordered
    sums, where the losses are means over samples and no layer mixes the samples of a batch. Batch
    sizes are those of the whole batch: `noise` draws this process's part of it, and
    `batches(..., share=algorithm.share)` does the same with the data. Every process has to call
    `init` and `step`, with the same arguments but for its part. `init` returns the state of rank 0
    in each process. The figures are those of the whole batch.

    BatchNorm normalises each process's part by itself, as in `torch`'s own data-parallel training:
    fewer samples make its statistics noisier, and rounds are no longer those of one process. Its
    running statistics are the processes' average. `fgan.networks.synchronized(module)` makes it
    exact. Integer buffers, such as counters, are each process's own.

    A round that `fgan.compile` captures as a CUDA graph contains the all-reduces. All processes
    capture it in the same round, or none does, as NCCL asks for. Once a round is captured, states
    and batches of all processes keep their memory, shapes and strides, or change them in the same
    round; otherwise the processes wait for each other until the time-out. NCCL's watchdog does not
    see a captured all-reduce. A loop of your own lets it see a process that hangs by an all-reduce
    outside the graph before it reads figures:
    `torch.distributed.all_reduce(torch.zeros(1, device="cuda"), group=group)`. `fgan.train` does
    that by itself.

    It composes: `fgan.compile(fgan.population(fgan.data_parallel(fgan.accumulate(algorithm, n))))`,
    with any of these left out. `fgan.skip_nonfinite` is called on the data-parallel algorithm, so
    that all processes leave out the same updates.

    Raises ValueError without a process group, for an algorithm that is data-parallel already, for a
    population and for a compiled algorithm, both of which are to be made of the data-parallel one,
    for a penalty whose points depend on the whole batch, and for another wire_dtype. `noise` raises
    ValueError for batch sizes that have no equal parts, and for a generator's batch that is no
    multiple of the critic's.

    Example:
        >>> store = torch.distributed.HashStore()  # torchrun makes one for all processes
        >>> torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        >>> algorithm = fgan.wgan_gp(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> fgan.data_parallel(algorithm).share  # (rank, processes)
        (0, 1)
        >>> torch.distributed.destroy_process_group()
    """
    own = group_of(group)
    _check_order(algorithm)
    if wire_dtype not in (None, torch.bfloat16):
        raise ValueError(
            f"wire_dtype is torch.bfloat16, or None for the gradients' own, and {wire_dtype!r} was "
            "given"
        )
    whole, share = algorithm.parts, (own.rank, own.size)

    def init(seed: int | None = None) -> GANState:
        state = algorithm.init(seed)
        for leaf in tree.leaves(state):
            dist.broadcast(leaf, group=group, group_src=0)
        return state

    def noise(
        seed: int,
        round_index: int,
        batch_size: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator_batch_size: int | None = None,
        share: Share | None = share,
    ) -> Noise:
        options = device, dtype, generator_batch_size, share
        return algorithm.noise(seed, round_index, batch_size, *options)

    def critic_gradient(state: GANState, data: Data) -> Gradient:
        own_part = whole.critic_gradient(state, data)
        return mean(own_part, state.critic.buffers, own, wire_dtype)

    def generator_gradient(state: GANState, latent: Tensor, data: Data) -> Gradient:
        own_part = whole.generator_gradient(state, latent, data)
        return mean(own_part, state.generator.buffers, own, wire_dtype)

    init.__doc__, noise.__doc__ = algorithm.init.__doc__, algorithm.noise.__doc__
    changed = whole._replace(critic_gradient=critic_gradient, generator_gradient=generator_gradient)
    agree = agreement(group)
    return algorithm._replace(init=init, noise=noise, share=share, agree=agree, **of_parts(changed))


def mean(
    gradient: Gradient, buffers: Params, group: Group, wire_dtype: torch.dtype | None = None
) -> Gradient:
    """A player's gradient, new buffers and figures, averaged over a group in one all-reduce.

    buffers: the player's before the update. The mean is taken of the differences: a mean of values
        would change the bits of frozen parameters.
    wire_dtype: of the gradient alone, which then has an all-reduce of its own.
    """
    changes = tree.map(_change, gradient.buffers, buffers)
    if wire_dtype is None:
        params, changes, info = _mean_of((gradient.params, changes, gradient.info), group)
    else:
        params = _mean_of(gradient.params, group, wire_dtype)
        changes, info = _mean_of((changes, gradient.info), group)
    # Copies of the figures: whoever keeps one would keep all of the flat tensor.
    figures = tree.map(torch.clone, info)
    return Gradient(params, tree.map(_changed, gradient.buffers, buffers, changes), figures)


def _mean_of(values: tree.Tree, group: Group, wire_dtype: torch.dtype | None = None) -> tree.Tree:
    """The mean over a group of all floating-point leaves, in one all-reduce."""
    leaves, structure = tree.flatten(values)
    places = [i for i, leaf in enumerate(leaves) if leaf.is_floating_point()]
    dtype = leaves[places[0]].dtype
    for i in places:
        dtype = torch.promote_types(dtype, leaves[i].dtype)
    # One tensor is one message. It has the widest dtype, so that no sum loses digits.
    flat = torch.cat([leaves[i].reshape(-1).to(dtype) for i in places])
    averaged = total(flat.to(wire_dtype or dtype), group).to(dtype) / group.size
    parts = averaged.split([leaves[i].numel() for i in places])
    for i, part in zip(places, parts, strict=True):
        leaves[i] = part.view(leaves[i].shape).to(leaves[i].dtype)
    return tree.unflatten(leaves, structure)


def _change(new: Tensor, old: Tensor) -> Tensor:
    """What to add to an old value; 0 for an infinity that stays, such as in an attention mask."""
    return torch.where(new == old, 0, new - old) if new.is_floating_point() else new


def _changed(new: Tensor, old: Tensor, change: Tensor) -> Tensor:
    return torch.where(change == 0, old, old + change) if new.is_floating_point() else new


def _check_order(algorithm: Algorithm) -> None:
    check_algorithm(algorithm)
    if algorithm.share is not None:
        raise ValueError("this algorithm is data-parallel already: call fgan.data_parallel once")
    check_one_eager_run(algorithm, "data_parallel", "algorithm", "data-parallel")
    check_no_whole_batch(algorithm.parts.whole_batch, "data_parallel")
