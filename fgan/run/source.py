"""What a run reads: a data set, rows by number, or batches, and what is known of them before."""

from __future__ import annotations

import torch

from fgan.data import Batches, DataSet, Fingerprint, Rows, adapted, fingerprint, load
from fgan.data.iterables import Keys
from fgan.scalars import check_count

Source = DataSet | Rows | Batches


def source_of(
    data: object, batch_size: int | None, device: torch.device, keys: Keys | None
) -> tuple[Source, int]:
    """The data of a run, and the size of its batches."""
    if batch_size is not None:
        batch_size = check_count("batch_size", batch_size)
    if isinstance(data, str):
        data = load(data, device=device)
    found = data if isinstance(data, DataSet) else adapted(data, keys)
    default = found.batch_size if isinstance(found, Batches) else 64
    return found, default if batch_size is None else batch_size


def known_of(source: Source) -> tuple[DataSet, Fingerprint]:
    """Some of the samples, all of a `DataSet`, and what is known of them as a whole."""
    if isinstance(source, DataSet):
        return source, fingerprint(source)
    shape = source.preview.sample_shape
    return source.preview, Fingerprint(source.name, shape, (), (), (), "")
