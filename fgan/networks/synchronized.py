"""BatchNorm with the statistics of the whole batch, where every process has a part of the batch.

`torch.nn.SyncBatchNorm` needs a GPU, and knows neither `torch.func` nor fgan's compiler.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fgan.collectives import Group, group_of, total


def synchronized(module: nn.Module, group: Any = None) -> nn.Module:
    """A copy of a module whose BatchNorm layers normalise by the whole batch of a process group.

    For the networks of `fgan.data_parallel`, with the same group (by default, all processes). In
    training mode, and in evaluation mode where a layer has no running statistics, every pass sums
    twice over the processes for each layer, and so does its gradient; all processes have to call
    the network in step. This includes the making of an algorithm, which may try its networks.
    Parameters, buffers and names stay as they are, so checkpoints fit either kind. `fgan.compile`
    takes the networks in populations too; torch.compile does not follow their sums within `vmap`.

    Raises ValueError without a process group, and for a BatchNorm layer whose class is not one of
    torch.nn's: nobody can tell what its forward pass does.

    Example:
        >>> store = torch.distributed.HashStore()  # torchrun makes one for all processes
        >>> torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
        >>> module = fgan.networks.synchronized(torch.nn.BatchNorm1d(2))
        >>> sorted(dict(module.named_parameters()))
        ['bias', 'weight']
        >>> torch.distributed.destroy_process_group()
    """
    of_torch = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    known = (*of_torch, SynchronizedBatchNorm)
    own, made = group_of(group), copy.deepcopy(module)
    for name, layer in made.named_modules():
        if not isinstance(layer, _BatchNorm):
            continue
        if type(layer) not in known:
            raise ValueError(
                f"layer {name!r} is a {type(layer).__name__}, and only BatchNorm layers of "
                "torch.nn can be synchronized"
            )
        changed: Any = layer
        changed.__class__, changed.group = SynchronizedBatchNorm, own
    return made


class SynchronizedBatchNorm(_BatchNorm):
    """`torch.nn.BatchNorm*d` of any rank by the mean and variance of all processes' samples.

    [B, C, ...] -> [B, C, ...]. Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1.
    """

    group: Group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"BatchNorm takes [B, C, ...], and {list(input.shape)} was given")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training and self.running_mean is not None:
            tensors = self.running_mean, self.running_var, self.weight, self.bias
            return F.batch_norm(input, *tensors, training=False, eps=self.eps)
        # As torch does, in float32 where the samples have fewer digits.
        x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        axes = [0, *range(2, x.ndim)]
        shape = [-1, *[1] * (x.ndim - 2)]
        count = x.numel() // x.shape[1] * self.group.size
        mean = total(x.sum(axes), self.group) / count
        # From the mean: the difference of two sums of squares would lose digits.
        centred = x - mean.reshape(shape)
        variance = total(centred.square().sum(axes), self.group) / count
        if self.training and self.running_mean is not None:
            self._advance(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        scale = torch.rsqrt(variance + self.eps)
        output = centred * scale.reshape(shape)
        if self.weight is not None:
            output = output * self.weight.reshape(shape) + self.bias.reshape(shape)
        return output.to(input.dtype)

    def _advance(self, mean: Tensor, variance: Tensor) -> None:
        """The running statistics after a batch; the variance is the unbiased one."""
        running_mean, running_var = self.running_mean, self.running_var
        assert isinstance(running_mean, Tensor)
        assert isinstance(running_var, Tensor)
        assert isinstance(self.num_batches_tracked, Tensor)
        self.num_batches_tracked.add_(1)
        momentum: Any = self.momentum
        if momentum is None:  # the average of all batches
            momentum = 1 / self.num_batches_tracked.to(mean.dtype)
        for running, new in (running_mean, mean), (running_var, variance):
            running.copy_(running + momentum * (new.to(running.dtype) - running))
