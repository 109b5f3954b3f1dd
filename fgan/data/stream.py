"""The stream of rounds: which samples each has, moved to the device, normalised and flipped."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from fgan.data.data_set import DataSet, condition_of, normalise
from fgan.data.iterables import Batches, Pair, Rows
from fgan.data.memory import gib, machine_memory
from fgan.seeds import mix_seed
from fgan.types import Batch

_SHUFFLING = 0xDA7A  # keeps these seeds apart from those that rounds draw their noise from
_FLIPPING = 0xF11B

Size = tuple[int, int]
"""(critic updates, samples in each) of a round."""


class RoundSource(Protocol):
    """Where the samples of rounds come from."""

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""

    def draw(self, size: Size, part: slice) -> Pair | None:
        """Samples [n_critic, B, ...] and labels, as they are, on the device; None at the end.

        part: which samples of each update.
        """

    def position(self) -> dict[str, Any] | None:
        """What the data say of their own place, for a checkpoint; None where nothing is needed."""


class Rounds(Iterator[Batch]):
    """One `Batch` for each of the given sizes.

    Example:
        >>> data = fgan.data.DataSet("points", torch.randn(1000, 2))
        >>> rounds = fgan.data.batches(data, batch_size=50, n_critic=5)
        >>> next(rounds).real.shape, rounds.epoch
        (torch.Size([5, 50, 2]), 0.25)
    """

    def __init__(
        self,
        source: RoundSource,
        sizes: Iterable[tuple[int, Size]],
        seed: int,
        conditional: bool,
        part: slice,
        flip: bool,
    ) -> None:
        """sizes: the index of each round, and its size."""
        self._source, self._sizes = source, iter(sizes)
        self._seed, self._conditional, self._part, self._flip = seed, conditional, part, flip

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self._source.epoch

    def position(self) -> dict[str, Any] | None:
        """What a checkpoint has to hold beside the round, for data that say their own place."""
        return self._source.position()

    def __next__(self) -> Batch:
        index, size = next(self._sizes)
        pair = self._source.draw(size, self._part)
        if pair is None:
            raise StopIteration
        samples, labels = pair
        real = normalise(samples) if samples.dtype == torch.uint8 else samples.float()
        given = condition_of(labels) if self._conditional and labels is not None else None
        if self._flip:
            mask, _ = moved((self._flips(index, size), None), real.device)
            real = _mirrored(real, mask)
            given = _mirrored(given, mask) if given is not None and given.ndim > 4 else given
        return Batch(real, given)

    def _flips(self, index: int, size: Size) -> Tensor:
        """[n_critic, B]: which samples of round `index` are mirrored; drawn for the whole batch."""
        source = Generator().manual_seed(mix_seed(self._seed, _FLIPPING, index))
        return (torch.rand(size, generator=source, device="cpu") < 0.5)[:, self._part]


class Numbered:
    """Rows by number, epoch after epoch, each in an order of its own."""

    def __init__(
        self,
        take: Callable[[Tensor], Pair],
        size: int,
        seed: int,
        position: int,
        device: torch.device,
    ) -> None:
        """take: the rows of an index [N], which is on `device`. position: samples drawn before."""
        self._take, self._size, self._seed, self._device = take, size, seed, device
        self._position, self._epoch = position, -1
        self._order = torch.empty(0, dtype=torch.int64, device=device)

    @property
    def epoch(self) -> float:
        return self._position / self._size

    def position(self) -> None:
        return None

    def draw(self, size: Size, part: slice) -> Pair:
        missing, parts = math.prod(size), []
        while missing:
            now, offset = divmod(self._position, self._size)
            if now != self._epoch:
                self._epoch, self._order = now, order_of(self._size, self._seed, now, self._device)
            parts.append(self._order[offset : offset + missing])
            self._position += len(parts[-1])
            missing -= len(parts[-1])
        index = torch.cat(parts).view(size)[:, part]  # [n_critic, B]
        samples, labels = self._take(index.flatten())
        return (
            samples.view(*index.shape, *samples.shape[1:]),
            None if labels is None else labels.view(*index.shape, *labels.shape[1:]),
        )


def numbered(
    data: DataSet | Rows, seed: int, position: int, device: torch.device | None
) -> Numbered:
    """The rows of `data` in turn, on `device`."""
    if isinstance(data, Rows):
        rows, target = data, torch.device("cpu") if device is None else device

        def fetch(index: Tensor) -> Pair:
            return moved(rows.take(index.tolist()), target)

        return Numbered(fetch, rows.size, seed, position, torch.device("cpu"))
    known = data
    here = known.samples.device

    def take(index: Tensor) -> Pair:
        labels = None if known.labels is None else known.labels.index_select(0, index)
        pair = known.samples.index_select(0, index), labels
        return moved(pair, here if device is None else device)

    return Numbered(take, len(known), seed, position, here)


class Grouped:
    """The batches of an iterable, grouped into rounds."""

    def __init__(self, data: Batches, device: torch.device | None) -> None:
        self._data, self._device = data, device

    @property
    def epoch(self) -> float:
        return self._data.epoch

    def position(self) -> dict[str, Any] | None:
        return self._data.position()

    def draw(self, size: Size, part: slice) -> Pair | None:
        pairs = self._data.take(size[0])
        if not pairs:
            return None
        samples = torch.stack([samples[part] for samples, _ in pairs])
        labels = [labels[part] for _, labels in pairs if labels is not None]
        return moved((samples, torch.stack(labels) if labels else None), self._device)


def moved(pair: Pair, device: torch.device | None) -> Pair:
    """Both tensors on `device`; the copy to a CUDA device is from pinned memory, without a wait."""

    def move(tensor: Tensor) -> Tensor:
        if device is None or tensor.device == device:
            return tensor
        if device.type == "cuda" and tensor.device.type == "cpu":  # pragma: no cover (needs a GPU)
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device)

    samples, labels = pair
    return move(samples), None if labels is None else move(labels)


def check_size(name: str, sample_shape: tuple[int, ...], size: Size) -> None:
    """Raise ValueError for a round whose float32 samples are more than the machine's memory."""
    needed = 4.0 * math.prod(size) * math.prod(sample_shape)
    if needed > (there := machine_memory()):
        raise ValueError(
            f"{name}: {size[0]} batches of {size[1]} samples {list(sample_shape)} take "
            f"{gib(needed)}, and this machine has {gib(there)}: make batch_size or n_critic smaller"
        )


def order_of(size: int, seed: int, epoch: int, device: torch.device) -> Tensor:
    """The epoch's permutation, on `device`; drawn on the CPU, so that every device has the same."""
    generator = Generator().manual_seed(mix_seed(seed, _SHUFFLING, epoch))
    order = torch.randperm(size, generator=generator, device="cpu")
    return moved((order, None), device)[0]


def _mirrored(images: Tensor, mask: Tensor) -> Tensor:
    """Images [n_critic, B, C, H, W], those of `mask` [n_critic, B] mirrored left to right."""
    return torch.where(mask[..., None, None, None], images.flip(-1), images)
