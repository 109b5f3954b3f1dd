"""What must hold of a data set before it is trained on, and what tells one from another."""

import gzip
import struct
import tracemalloc

import pytest
import torch

import fgan
from fgan.data import DataError, DataSet, batches, fingerprint, load, real

NAMES = ("a", "b", "c")


def data_set(samples=None, labels=None, names=NAMES):
    """Seven points of three classes, or what is given."""
    samples = torch.arange(14.0).view(7, 2) if samples is None else samples
    return DataSet("mine", samples, torch.arange(7) % 3 if labels is None else labels, names)


@pytest.mark.parametrize(
    ("number", "dtype"),
    [
        (float("nan"), torch.float32),
        (float("inf"), torch.float32),
        (-float("inf"), torch.float16),
        (float("nan"), torch.float64),
        (1e39, torch.float64),
    ],
)
def test_numbers_that_are_not_finite_are_found_before_training(number, dtype, tmp_path):
    """The first such sample is named; float64 beyond float32 would become infinite."""
    samples = torch.arange(14).view(7, 2).to(dtype)
    samples[3:5, 1] = number
    message = r"mine: 2 of 7 samples hold NaN, inf .* the first is sample 3, with"
    with pytest.raises(ValueError, match=message):
        batches(data_set(samples), 2)
    with pytest.raises(ValueError, match=message):
        fingerprint(data_set(samples))
    critic = fgan.models.mlp_critic((2,), hidden=(4,))
    generator = fgan.models.mlp_generator((2,), 3, hidden=(4,), norm="none")
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=message):
        fgan.train(
            fgan.gan(generator, critic),
            data_set(samples),
            rounds=1,
            out=out,
            batch_size=4,
            conditional=False,
        )
    assert not out.exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_large_numbers_are_finite(dtype):
    """The largest numbers of a dtype, as many as they are, are no infinities."""
    most = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max)
    next(batches(data_set(torch.full((7, 2), most, dtype=dtype)), 7))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 3, 0, 0, 0], r"lie in \[0, 3\).* from 0 to 3, and that of sample 3 is 3$"),
        ([0, 1, 2, 0, 0, 0, -4], r"lie in \[0, 3\).* from -4 to 2, and that of sample 6 is -4$"),
        ([1, 2, 3, 1, 2, 3, 1], r"that of sample 2 is 3: labels that begin with 1 need 1 subtr"),
    ],
)
def test_labels_out_of_range_are_found_before_training(labels, message):
    """Both the label and the range are named, and labels from 1 are recognised."""
    for function in (lambda data: batches(data, 2), fingerprint):
        with pytest.raises(ValueError, match=message):
            function(data_set(labels=torch.tensor(labels)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(3, 2), "data is a fgan.data.DataSet .* and Tensor was given"),
        ([1, 2], "data is a fgan.data.DataSet .* and list was given"),
        (data_set(torch.zeros(7, 2).numpy()), "samples is a tensor, and ndarray was given"),
        (data_set(labels=[0] * 7), "labels is a tensor, and list was given"),
        (data_set(torch.zeros(7, 2, device="meta")), "samples holds numbers.* device meta"),
        (data_set(torch.zeros(7, 2).to_sparse()), "samples holds numbers.* torch.sparse_coo"),
        (data_set(torch.zeros(7, 0)), r"samples of shape \[0\] hold no numbers"),
        (data_set(torch.zeros(7, 2, dtype=torch.complex64)), "must be uint8 or floating"),
        (data_set(names="abc"), "class_names is a tuple of strings"),
        (data_set(names=(1, 2, 3)), "class_names is a tuple of strings"),
    ],
)
def test_what_is_no_data_set_is_refused(data, message):
    """The error names the field, what was given and what is expected."""
    for device in (None, "cpu"):
        with pytest.raises(ValueError, match=message):
            batches(data, 2, device=device)


@pytest.mark.parametrize("sizes", [(10**12, 1), (10**30, 1), (4, 10**12)])
def test_rounds_beyond_the_memory_are_refused_at_the_call(sizes):
    """An endless gathering of samples would end with the process."""
    with pytest.raises(ValueError, match=r"take .* GiB, and this machine has .* make batch_size"):
        batches(data_set(), *sizes)


# --- the fingerprint -----------------------------------------------------------------------------


def test_a_fingerprint_is_that_of_the_contents():
    """Equal contents in other memory have the same one, and it does not move anything."""
    data = data_set()
    copy = data_set(data.samples.T.contiguous().T.clone(), data.labels.clone())
    before = torch.get_rng_state()
    assert fingerprint(data) == fingerprint(copy)
    assert torch.equal(torch.get_rng_state(), before)
    assert fingerprint(data).class_counts == (3, 2, 2)


def test_whatever_is_changed_changes_the_fingerprint():
    """A number, a label, the order, the shape, the dtype, a name: each makes another one."""
    base = data_set()
    samples, labels = base.samples, base.labels
    other = samples.clone()
    other[6, 1] = 13.000001
    swap = torch.tensor([1, 0, 2, 3, 4, 5, 6])
    changed = [
        data_set(other),
        data_set(labels=labels.roll(1)),
        data_set(samples[swap], labels[swap]),
        data_set(samples.view(7, 1, 2)),
        data_set(samples.double()),
        data_set(samples[:6], labels[:6]),
        data_set(names=("a", "b", "d")),
        data_set(names=(*NAMES, "d")),
    ]
    prints = [fingerprint(data) for data in (base, *changed)]
    assert len({entry[1:] for entry in prints}) == len(prints)
    only_c = fingerprint(data_set(samples.index_fill(0, torch.tensor([2]), 0.5)))
    same = [a == b for a, b in zip(only_c.class_hashes, prints[0].class_hashes, strict=True)]
    assert same == [True, True, False]


def test_large_classes_are_hashed_in_pieces(monkeypatch):
    """The size of the pieces does not show in the hash."""
    whole = fingerprint(data_set())
    monkeypatch.setattr(fgan.data.identity, "_PIECE", 8)
    assert fingerprint(data_set()) == whole


# --- the default device --------------------------------------------------------------------------


@pytest.fixture
def elsewhere():
    """A default device on which nothing can be drawn, as "cuda" is for the CPU's generators."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


@pytest.mark.parametrize("name", ["rings", "grid", "swiss-roll", "glyphs"])
def test_data_do_not_depend_on_the_default_device(name, elsewhere):
    """They are made on the CPU from the CPU's generators, and shuffled there."""
    data = load(name)
    (batch,) = batches(data, 4, rounds=1)
    torch.set_default_device(None)
    assert data.samples.device.type == batch.real.device.type == "cpu"
    assert fingerprint(data) == fingerprint(load(name))
    assert torch.equal(batch.real, next(batches(load(name), 4)).real)


# --- idx files -----------------------------------------------------------------------------------


def idx(shape, content):
    """An idx file of bytes."""
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + content


def test_no_more_is_read_than_an_idx_file_announces(tmp_path):
    """What unpacks to far more is refused, and its memory is not taken."""
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx((4,), bytes(4)) + bytes(2**26)))
    tracemalloc.start()
    with pytest.raises(DataError, match=f"{path} is truncated or corrupt: .* 4 bytes.*holds more"):
        real.read_idx(path, ndim=1)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**31, 2**20, 1), (60_000, 28, 28)])
def test_an_idx_file_that_announces_too_much_is_refused(shape, suffix, tmp_path):
    """No memory is asked for what the file is too short to hold."""
    path = tmp_path / f"images{suffix}"
    content = idx(shape, bytes(500))
    path.write_bytes(gzip.compress(content) if suffix else content)
    with pytest.raises(DataError, match=f"{path} is truncated or corrupt.*holds fewer"):
        real.read_idx(path, ndim=3)


def test_empty_and_mislabelled_idx_files_are_named(tmp_path):
    """No samples, images of no pixels, a label that is no class, and what is no file."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images, labels = raw / "train-images-idx3-ubyte", raw / "train-labels-idx1-ubyte"
    labels.write_bytes(idx((2,), b"\0\7"))
    for shape in ((0, 28, 28), (2, 0, 28)):
        images.write_bytes(idx(shape, b""))
        with pytest.raises(DataError, match=f"{images} is empty"):
            load("mnist", root=tmp_path)
    images.write_bytes(idx((2, 1, 1), b"ab"))
    labels.write_bytes(idx((2,), b"\0\12"))
    with pytest.raises(DataError, match=f"{labels} holds the label 10"):
        load("mnist", root=tmp_path)
    with pytest.raises(DataError, match="is no file"):
        real.read_idx(raw, ndim=1)
