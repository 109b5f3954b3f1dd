"""Samples as features [N, F]: what the distances are computed in."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fgan.data import normalise
from fgan.evaluation.inputs import check_finite, in_float64

PATCHES = "patches"
"""The name of the comparison by patches (`fgan.evaluation.patches`)."""
INCEPTION = "inception"
"""The name of the one feature network whose Fréchet distance is called FID."""

INCEPTION_WIDTH = 2048


class Features(NamedTuple):
    """A feature network.

    Example:
        >>> def means(images):  # [B, C, H, W] -> [B, C]
        ...     return images.mean(dim=(2, 3))
        >>> fgan.evaluation.Features("channel means", means).extract(torch.zeros(8, 3, 4, 4)).shape
        torch.Size([8, 3])
    """

    name: str
    """What reports call it."""
    extract: Callable[[Tensor], Tensor]
    """Samples [B, ...] as a generator makes them, images in [-1, 1] -> [B, F]."""
    classify: Callable[[Tensor], Tensor] | None = None
    """Samples [B, ...] -> logits [B, num_classes], for the label accuracy of conditional runs."""
    accuracy: float | None = None
    """Of `classify`, on images that it was not trained on."""

    @property
    def is_inception(self) -> bool:
        """Whether the distances are FID and KID."""
        return self.name == INCEPTION

    @property
    def is_patches(self) -> bool:
        """Whether samples are compared by their patches, without features."""
        return self.name == PATCHES


def module_features(module: nn.Module, name: str) -> Features:
    """Any module that maps samples [B, ...] to features [B, F]; a copy, in evaluation mode.

    Raises ValueError for the name "inception": only distances in the features of the published
    Inception network are called FID and KID (`fgan.run.features.inception`).

    Example:
        >>> features = fgan.evaluation.module_features(torch.nn.Flatten(), "pixels")
        >>> features.extract(torch.zeros(8, 1, 4, 4)).shape
        torch.Size([8, 16])
    """
    if name == INCEPTION:
        raise ValueError(
            "the name 'inception' is that of the published network, whose distances are called FID "
            "and KID: give another name"
        )
    frozen = copy.deepcopy(module).eval().requires_grad_(False)
    return Features(name, frozen)


def standardised(reference: Tensor) -> Features:
    """The samples themselves [N, ...], flattened, each number with mean 0 and std 1 in `reference`.

    For points, tables and signals, whose numbers may be of different units. A number that is
    constant in `reference` is only centred.
    """
    flat = in_float64(reference).flatten(start_dim=1)
    mean, std = flat.mean(dim=0), flat.std(dim=0)
    scale = torch.where(std > 0, std, 1.0)
    return Features("samples", lambda x: (in_float64(x).flatten(start_dim=1) - mean) / scale)


def extract(function: Callable[[Tensor], Tensor], samples: Tensor, batch_size: int = 250) -> Tensor:
    """`function` of all samples [N, ...], batch by batch, without gradients: [N, F] in float64.

    `function` is `extract` or `classify` of a `Features`. uint8 images are brought to [-1, 1].

    Raises ValueError for NaN samples, for samples that `function` does not take, such as those of
    another number of channels, and for results that are not [B, F] or not finite.
    """
    if samples.is_floating_point():
        check_finite("samples", samples)
    found = []
    with torch.no_grad():
        for batch in samples.split(batch_size):
            result = _result(function, normalise(batch) if batch.dtype == torch.uint8 else batch)
            if not isinstance(result, Tensor) or result.ndim != 2 or len(result) != len(batch):
                shape = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
                raise ValueError(
                    f"a feature network maps {len(batch)} samples to features [{len(batch)}, F], "
                    f"got {shape}: pool or flatten its output"
                )
            found.append(result)
    features = in_float64(torch.cat(found))
    check_finite("samples' features", features)
    return features


def _result(function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    try:
        return function(batch)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # torch's own about shapes and dtypes
        dtype = str(batch.dtype).removeprefix("torch.")
        raise ValueError(
            f"the feature network does not take {dtype} samples {list(batch.shape[1:])}: "
            f"{str(error).splitlines()[0]}"
        ) from error
