"""Faults of data, folders and files that no other test provokes, each with its error."""

import os
import re

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

import fgan.data.memory
from fgan.data import DataSet, batches, load, picture_files
from fgan.data.data_set import check_content
from fgan.data.iterables import Batches, adapted
from fgan.data.stream import moved

POINTS = DataSet("points", torch.randn(9, 2), torch.arange(9) % 3, ("a", "b", "c"))


class Unsized(Dataset):
    """Rows whose number it does not know."""

    def __len__(self):
        raise NotImplementedError

    def __getitem__(self, index):
        return torch.zeros(2)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(8, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batches(POINTS), "batch_size is a whole number from 1, and none was given"),
        (lambda: DataSet("plain", torch.ones(4, 2)).class_labels, "plain has no classes"),
        (lambda: check_content(3), "an iterable of batches, and int was given"),
        (lambda: adapted([torch.ones(2, 2)], keys="x"), "keys are (the key of the samples"),
        (lambda: adapted(Unsized()), "Unsized does not say how many rows it has"),
    ],
)  # fmt: skip
def test_the_error_says_what_is_wrong(call, message):
    """A ValueError that names what was given."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_stream_has_no_known_order():
    """A loader of rows in order goes on where it was; a stream may give other rows."""
    rows = torch.utils.data.TensorDataset(torch.arange(16.0).reshape(8, 2))
    source = Batches(DataLoader(rows, batch_size=2), None)
    source.resume(1, None)
    assert source.take(1)[0][0].tolist() == [[4.0, 5.0], [6.0, 7.0]]
    with pytest.warns(UserWarning, match="the order of DataLoader is not resumed"):
        Batches(DataLoader(Stream(), batch_size=2), None).resume(1, None)


def test_memory_is_without_bound_where_the_system_does_not_say(monkeypatch):
    """As on systems without `sysconf`."""
    assert 0 < fgan.data.memory.machine_memory() < float("inf")
    with monkeypatch.context() as patched:
        patched.delattr(os, "sysconf")
        found = fgan.data.memory.machine_memory()
    assert found == float("inf")


def test_a_batch_is_moved_to_another_device():
    """Labels too, where there are any."""
    samples, labels = moved((torch.ones(2, 3), torch.ones(2)), torch.device("meta"))
    assert samples.is_meta
    assert labels.is_meta
    assert moved((torch.ones(2, 3), None), torch.device("meta"))[1] is None


@pytest.fixture
def folder(tmp_path):
    """Two classes with two pictures each."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("L", (8, 8), 60 * i + 40).save(tmp_path / name / f"{i}.png")
    return tmp_path


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    """With the system's reason."""
    known = os.listdir

    def listdir(place):
        if str(place).endswith("b"):
            raise PermissionError(13, "Permission denied")
        return known(place)

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(ValueError, match=r"b cannot be read: Permission denied"):
        load(f"folder:{folder}")


def test_a_file_that_is_too_large_is_named(folder, monkeypatch):
    """Before it is read."""
    monkeypatch.setattr(picture_files, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match=r"0\.png is larger than 0 MiB"):
        load(f"folder:{folder}")


def test_exif_data_that_cannot_be_read_turn_nothing(folder, monkeypatch):
    """The picture is as it is stored."""
    before = load(f"folder:{folder}").samples

    def getexif(self):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", getexif)
    assert torch.equal(load(f"folder:{folder}").samples, before)


def test_tiff_files_are_read_without_a_standard_error(folder, monkeypatch):
    """A daemon has none."""
    Image.new("L", (8, 8), 7).save(folder / "a" / "0.tiff")
    before = load(f"folder:{folder}").samples

    def dup(descriptor):
        raise OSError(9, "Bad file descriptor")

    with monkeypatch.context() as patched:
        patched.setattr(os, "dup", dup)
        after = load(f"folder:{folder}").samples
    assert torch.equal(after, before)
