"""Data that others hold: loaders, data sets of torch, functions that make batches.

Two kinds. `Rows` is anything with rows by number (`torch.utils.data.Dataset`, `datasets.Dataset`):
its samples come in the order that a `DataSet` of as many has. `Batches` is any iterable of batches,
which keeps its own order. Both show what they hold by a `preview`, a small `DataSet`.
"""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    default_collate,
)

from fgan.data.data_set import DataSet, check_content
from fgan.scores import describe
from fgan.types import Batch

Keys = tuple[str, str | None]
"""The entries of a batch that are the samples and the condition, or None, where it is a dict."""
Pair = tuple[Tensor, Tensor | None]
"""Samples [B, ...] and their conditions."""

_SAMPLES = ("samples", "sample", "images", "image", "img", "pixel_values", "real", "data", "x")
_CONDITIONS = ("conditions", "condition", "labels", "label", "targets", "target", "y")
"""What the entries of a dict are often called."""
_PREVIEW = 64  # rows

_KINDS = (
    "data is a fgan.data.DataSet or the name of one, a data set of torch, or an iterable of "
    "batches (a DataLoader, a list, a function that makes a generator)"
)


def adapted(data: object, keys: Keys | None = None) -> "Rows | Batches":
    """`data` as one of the two kinds; raises ValueError for what is neither.

    Example:
        >>> type(fgan.data.adapted([torch.randn(4, 2)])).__name__
        'Batches'
    """
    if isinstance(data, Rows | Batches):
        return data
    if keys is not None and not _are_keys(keys):
        raise ValueError(
            "keys are (the key of the samples, the key of the condition or None), and "
            f"{describe(keys)} was given"
        )
    if isinstance(data, IterableDataset) or _is_streamed(data):
        raise ValueError(
            f"{_KINDS}, and {type(data).__name__} was given, whose items are single samples: wrap "
            "it, DataLoader(data, batch_size=...)"
        )
    if isinstance(data, Dataset) or (hasattr(data, "column_names") and hasattr(data, "__len__")):
        return Rows(data, keys)
    known = isinstance(data, Iterable) or (callable(data) and not isinstance(data, type))
    wrong = isinstance(data, Tensor | str | bytes | Mapping | tuple | Path | torch.nn.Module)
    if not known or wrong or hasattr(data, "__array__"):
        raise ValueError(
            f"{_KINDS}, and {type(data).__name__} was given: DataSet(name, samples, labels, "
            "class_names) makes one of tensors"
        )
    return Batches(data, keys)


def _are_keys(keys: object) -> bool:
    pair = isinstance(keys, tuple | list) and len(keys) == 2
    return pair and isinstance(keys[0], str) and isinstance(keys[1], str | None)  # type: ignore[index]


def _is_streamed(data: object) -> bool:
    return hasattr(data, "column_names") and not hasattr(data, "__len__")


class Rows:
    """A data set with rows by number: `len(data)` and `data[i]`.

    Example:
        >>> rows = fgan.data.Rows(torch.utils.data.TensorDataset(torch.randn(10, 2)), keys=None)
        >>> rows.size, rows.preview.sample_shape
        (10, (2,))
    """

    def __init__(self, data: Any, keys: Keys | None) -> None:
        self.name = type(data).__name__
        self._data, self._keys = data, keys
        try:
            self.size = len(data)
        except (TypeError, NotImplementedError) as error:
            raise ValueError(
                f"{self.name} does not say how many rows it has: wrap it, DataLoader(data, "
                "batch_size=...)"
            ) from error
        if not self.size:
            raise ValueError(f"{self.name} has no rows")
        samples, labels = self.take(range(min(self.size, _PREVIEW)))
        self.preview = DataSet(self.name, samples, labels)
        check_content(self.preview)

    def take(self, index: Iterable[int]) -> Pair:
        """The rows of these numbers."""
        numbers = list(index)
        fetch = getattr(self._data, "__getitems__", None)
        rows = fetch(numbers) if fetch else [self._data[i] for i in numbers]
        try:
            batch = default_collate(rows)
        except (TypeError, RuntimeError) as error:
            raise ValueError(
                f"the rows of {self.name} are tensors of one shape (transform=..., or "
                f"with_format('torch')), and those from {numbers[0]} on cannot be put together: "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        return _pair(batch, self._keys, self.name)


class Batches:
    """An iterable of batches, or a function that makes one for each epoch.

    Example:
        >>> batches = fgan.data.Batches([torch.randn(4, 2), torch.randn(4, 2)], keys=None)
        >>> batches.batch_size, batches.preview.sample_shape
        (4, (2,))
    """

    def __init__(self, data: Any, keys: Keys | None) -> None:
        self.name = str(getattr(data, "__name__", type(data).__name__))
        self._data, self._keys = data, keys
        self._is_iterator = iter(data) is data if isinstance(data, Iterator) else False
        self._epoch, self._in_epoch, self._said = 0, 0, False
        self._items = self._begin()
        before = torch.get_rng_state()  # a DataLoader draws from it when a pass begins
        try:
            first = next(self._items, None)
            if first is None:
                raise ValueError(
                    f"{_KINDS}, and {type(data).__name__} was given, which gave no batch"
                )
            self.preview = DataSet(self.name, *first)
            check_content(self.preview)
        except ValueError:
            torch.set_rng_state(before)
            raise
        self.batch_size = len(first[0])
        self._items = itertools.chain([first], self._items)

    @property
    def epoch(self) -> float:
        """Passes over the data so far; whole ones alone where nobody says how long one is."""
        try:
            return self._epoch + min(1.0, self._in_epoch / len(self._data))
        except (TypeError, NotImplementedError, ZeroDivisionError):
            return float(self._epoch)

    def take(self, updates: int) -> list[Pair]:
        """The next batches, all of one size; a shorter one is left out. [] at an iterator's end."""
        found: list[Pair] = []
        while len(found) < updates:
            pair = next(self._items, None)
            if pair is None:
                if self._is_iterator:
                    return []
                if not self._in_epoch:
                    raise ValueError(f"{self.name} gave no batch of {self.batch_size} in an epoch")
                self._epoch, self._in_epoch = self._epoch + 1, 0
                self._items = self._begin()
            elif self._fits(pair):
                self._in_epoch += 1
                found.append(pair)
        return found

    def position(self) -> dict[str, Any] | None:
        """Where the iterable is, as it says itself; None where it does not."""
        if not self._says_position:
            return None
        counts = {"epoch": self._epoch, "in_epoch": self._in_epoch}
        return counts | {"data": self._data.state_dict()}

    def resume(self, updates: int, position: Mapping[str, Any] | None) -> None:
        """Go on after `updates` batches: at `position`, or by leaving out as many.

        Where neither can be done, a warning says so, and an epoch begins.
        """
        if not updates:
            return
        if self._says_position and position is not None:
            self._data.load_state_dict(position["data"])
            self._epoch, self._in_epoch = int(position["epoch"]), int(position["in_epoch"])
            self._items = self._begin()
        elif _has_fixed_order(self._data):
            self._skip(updates)
        else:
            warnings.warn(
                f"the order of {self.name} is not resumed, and an epoch begins: only a DataLoader "
                "without shuffling, a list, a data set with rows by number and what has state_dict "
                "and load_state_dict go on where they were",
                stacklevel=3,
            )

    @property
    def _says_position(self) -> bool:
        return hasattr(self._data, "state_dict") and hasattr(self._data, "load_state_dict")

    def _skip(self, updates: int) -> None:
        for done in range(updates):
            self.take(1)
            if self._epoch and self._in_epoch == 1:  # an epoch has `done` batches
                epochs, rest = divmod(updates, done)
                self._epoch = epochs
                self._in_epoch, self._items = 0, self._begin()
                for _ in range(rest):
                    self.take(1)
                return

    def _begin(self) -> Iterator[Pair]:
        items = self._data() if _is_function(self._data) else self._data
        if not isinstance(items, Iterable):
            raise ValueError(
                f"{self.name} is a function that makes an iterable of batches for each epoch, and "
                f"{describe(items)} was returned"
            )
        for item in items:
            if isinstance(item, Batch):  # a round: its critic updates one by one
                for i in range(len(item.real)):
                    yield item.real[i], None if item.condition is None else item.condition[i]
            else:
                yield _pair(item, self._keys, self.name)

    def _fits(self, pair: Pair) -> bool:
        rows, shape = len(pair[0]), tuple(pair[0].shape[1:])
        if shape != self.preview.sample_shape or rows > self.batch_size:
            raise ValueError(
                f"the batches of {self.name} have one shape, "
                f"[{self.batch_size}, {', '.join(map(str, self.preview.sample_shape))}] as the "
                f"first has, and a later one is {list(pair[0].shape)}"
            )
        if (pair[1] is None) != (self.preview.labels is None):
            raise ValueError(f"the batches of {self.name} all have conditions, or none has")
        if rows < self.batch_size and not self._said:
            self._said = True
            warnings.warn(
                f"{self.name}: batches shorter than the first, of {self.batch_size} samples, are "
                f"left out, and one has {rows} (drop_last=True of a DataLoader does the same)",
                stacklevel=4,
            )
        return rows == self.batch_size


def _is_function(data: object) -> bool:
    return callable(data) and not isinstance(data, Iterable)


def _has_fixed_order(data: object) -> bool:
    """Whether a second pass is known to give the same batches."""
    if isinstance(data, DataLoader):
        if isinstance(data.dataset, IterableDataset):
            return False
        sampler = data.batch_sampler
        is_plain = type(sampler) is BatchSampler and type(sampler.sampler) is SequentialSampler
        return is_plain or isinstance(sampler, list | tuple)
    return isinstance(data, Sequence)


def _pair(item: Any, keys: Keys | None, name: str) -> Pair:
    """Samples and conditions of a batch: a tensor, (x,), (x, y) or a dict."""
    if isinstance(item, Mapping):
        samples, labels = _of_dict(item, keys, name)
    elif isinstance(item, tuple | list) and 1 <= len(item) <= 2:
        samples, labels = item[0], item[1] if len(item) == 2 else None
    else:
        samples, labels = item, None
    for what, tensor in (("samples", samples), ("conditions", labels)):
        if what == "conditions" and tensor is None:
            continue
        if not isinstance(tensor, Tensor) or not tensor.ndim or tensor.layout != torch.strided:
            raise ValueError(
                f"{_KINDS}, and {name} was given: a batch is a tensor [B, ...] of samples, a pair "
                f"(samples, conditions) or a dict of tensors, and its {what} are {describe(tensor)}"
            )
    if labels is not None and len(labels) != len(samples):
        raise ValueError(
            f"a batch of {name} has {len(samples)} samples and {len(labels)} conditions: one each"
        )
    return samples, labels


def _of_dict(item: Mapping[Any, Any], keys: Keys | None, name: str) -> tuple[Any, Any]:
    if keys is not None:
        for key in keys:
            if key is not None and key not in item:
                raise ValueError(f"a batch of {name} has no {key!r}, only {_listed(item)}")
        return item[keys[0]], None if keys[1] is None else item[keys[1]]
    samples = [key for key in item if str(key).lower() in _SAMPLES]
    conditions = [key for key in item if str(key).lower() in _CONDITIONS]
    if len(samples) != 1 or len(conditions) > 1:
        raise ValueError(
            f"a batch of {name} has the entries {_listed(item)}: say which are the samples and the "
            "condition, keys=('image', 'label'), or keys=('image', None) without conditions"
        )
    return item[samples[0]], item[conditions[0]] if conditions else None


def _listed(item: Mapping[Any, Any]) -> str:
    return ", ".join(repr(key) for key in item)


MakeBatches = Callable[[], Iterable[Any]]
"""A function that makes the batches of one epoch."""
Iterables = Iterable[Any] | MakeBatches | Dataset[Any]
"""What `adapted` takes."""
