"""Data sets by name, and the stream of batches."""

import gzip
import itertools
import pickle
import random
import struct
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import fgan.data
from fgan.data import DataError, DataSet, batches, load, normalise, real, to_uint8
from fgan.seeds import mix_seed

EMBEDDED = {"rings": 3, "grid": 25, "swiss-roll": 4, "glyphs": 10}
IDX_NAMES = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST"}


@pytest.fixture(scope="module")
def embedded():
    """Every embedded data set by name, made once."""
    return {name: load(name) for name in EMBEDDED}


@pytest.fixture
def no_debian(monkeypatch, tmp_path):
    """As on a machine without Debian's package."""
    monkeypatch.setattr(real, "DEBIAN_FASHION_MNIST", tmp_path / "no-such-package")


@pytest.fixture
def no_network(monkeypatch):
    """torchvision's downloads fail as they do without a network, after leaving half a file."""

    def half(self):
        folder = Path(self.root) / type(self).__name__ / "raw"
        folder.mkdir(parents=True)
        (folder / "train-images-idx3-ubyte").write_bytes(b"half a f")
        raise RuntimeError("Error downloading:\nName or service not known")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", half)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", half)


def numbered(size, num_classes=3):
    """Points that carry their own index, so that a batch tells which samples it holds."""
    index = torch.arange(size)
    names = tuple(map(str, range(num_classes)))
    samples = torch.stack([index, -index], dim=-1).float()
    return DataSet("numbered", samples, index % num_classes, names)


def indices(stream):
    """The sample indices of all batches of `numbered`, in order."""
    return torch.cat([batch.real[..., 0].flatten() for batch in stream]).long().tolist()


def equal(one, other):
    """Whether two batches are the same, bit for bit."""
    return torch.equal(one.real, other.real) and torch.equal(one.condition, other.condition)


def write_idx(folder, images, labels, suffix="", split="train"):
    """Both files of one split in `folder`, as MNIST publishes them."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind, tensor in (("images-idx3", images), ("labels-idx1", labels)):
        content = struct.pack(f">HBB{tensor.ndim}I", 0, 8, tensor.ndim, *tensor.shape)
        content += tensor.to(torch.uint8).numpy().tobytes()
        path = folder / f"{split}-{kind}-ubyte{suffix}"
        path.write_bytes(gzip.compress(content) if suffix else content)


def small_images(seed, size=7):
    """A handful of 4 x 3 images and labels, to be written as idx files."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (size, 4, 3), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (size,), generator=generator)


def write_image(path, colour, size=(6, 4), mode="RGB"):
    """An image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


# --- seeds ---------------------------------------------------------------------------------------


def test_mix_seed_is_splitmix64():
    """One part gives the published first output of splitmix64 for that state, halved to 63 bits."""
    assert mix_seed(0) == 0xE220A8397B1DCDAF >> 1
    assert mix_seed(1234567) == 6457827717110365317 >> 1


def test_mix_seed_separates_parts_order_and_length():
    """No two of many small argument lists share even the 32 bits that a CPU generator keeps."""
    parts = [p for n in (1, 2, 3) for p in itertools.product(range(-5, 6), repeat=n)]
    seeds = [mix_seed(*p) for p in parts]
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_mix_seed_takes_any_integer():
    """Negative and huge integers are valid and count modulo 2**64."""
    assert mix_seed(-1) == mix_seed(2**64 - 1)
    assert mix_seed(-1) != mix_seed(1)
    torch.Generator().manual_seed(mix_seed(10**40, -(10**40)))


# --- the embedded sets ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_have_the_promised_form(embedded, name):
    """Dtypes, shapes, class counts and scale are those documented, and classes are balanced."""
    data = embedded[name]
    assert (data.name, data.num_classes) == (name, EMBEDDED[name])
    assert len(set(data.class_names)) == data.num_classes
    assert data.labels.dtype == torch.int64
    assert data.labels.shape == (len(data),)
    counts = data.labels.bincount(minlength=data.num_classes)
    assert counts.min() == counts.max() >= 480
    if name == "glyphs":
        assert data.samples.dtype == torch.uint8
        assert data.sample_shape == (1, 28, 28)
        assert (int(data.samples.min()), int(data.samples.max())) == (0, 255)
    else:
        assert data.samples.dtype == torch.float32
        assert data.sample_shape == (2,)
        assert 1.4 < data.samples.abs().max() < 2.1
        assert data.samples.mean(0).abs().max() < 0.3


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets_are_the_same_each_time(embedded, name):
    """A second load gives equal tensors, whatever the global generator's state, in new memory."""
    torch.manual_seed(99)
    again = load(name)
    assert torch.equal(again.samples, embedded[name].samples)
    assert torch.equal(again.labels, embedded[name].labels)
    assert again.samples.data_ptr() != embedded[name].samples.data_ptr()


def test_rings_labels_are_the_nearest_radius(embedded):
    """A point's label is the circle that its distance from the origin is nearest to."""
    data = embedded["rings"]
    radius = torch.linalg.vector_norm(data.samples, dim=-1)
    nearest = (radius[:, None] - torch.tensor([0.5, 1.0, 1.5])).abs().argmin(-1)
    assert torch.equal(nearest, data.labels)
    assert abs(float((radius - (1 + data.labels) / 2).std()) - 0.05) < 0.005


def test_grid_labels_are_the_nearest_mode(embedded):
    """The 25 modes lie on a 5 x 5 grid of unit variance and hold the points labelled as theirs."""
    data = embedded["grid"]
    axis = torch.arange(-2.0, 3.0) / 2**0.5
    centres = torch.cartesian_prod(axis, axis)
    assert torch.equal(torch.cdist(data.samples, centres).argmin(-1), data.labels)
    torch.testing.assert_close(data.samples.std(0), torch.ones(2), atol=0.01, rtol=0)
    assert (data.class_names[0], data.class_names[13]) == ("column 0, row 0", "column 2, row 3")


def test_swiss_roll_labels_are_quarters_of_the_angle(embedded):
    """On the spiral radius = angle / 7.5, so the radius gives the quarter, but for the noise."""
    data = embedded["swiss-roll"]
    angle = torch.linalg.vector_norm(data.samples, dim=-1) * 7.5
    quarter = ((angle / (1.5 * torch.pi) - 1) / 2 * 4).floor().clamp(0, 3).long()
    assert (quarter == data.labels).float().mean() > 0.85
    assert (quarter - data.labels).abs().max() == 1
    direction = torch.atan2(data.samples[:, 1], data.samples[:, 0])
    off = (direction - angle + torch.pi) % (2 * torch.pi) - torch.pi
    assert off.abs().median() < 0.25


def test_glyphs_are_centred_legible_and_varied(embedded):
    """Ink stays off the border and near the middle, no two images agree, a class mean tells digits.

    Half of the set, classified by the nearest mean of the other half, is nearly always right: a
    wrong label, or a change that destroys the digit, would show.
    """
    data = embedded["glyphs"]
    images = data.samples[:, 0].float() / 255
    border = torch.cat([images[:, [0, -1]].flatten(1), images[:, :, [0, -1]].flatten(1)], dim=1)
    assert (border.amax(1) > 0.1).float().mean() < 0.005
    for axis in (1, 2):
        ink = (images.amax(axis) > 0.5).float()  # where the digit begins and ends
        middle = (ink.argmax(1) + 27 - ink.flip(1).argmax(1)) / 2
        assert (middle.view(-1, 10).mean(0) - 13.5).abs().max() < 0.45
        assert (middle.mean() - 13.5).abs() < 0.15
        assert 0.5 < middle.std() < 2
    assert 0.1 < images.mean() < 0.25
    assert images.flatten(1).amax(1).min() > 0.8
    assert len(images.flatten(1).unique(dim=0)) == len(images)

    train, test = images[:10_000].flatten(1), images[10_000:].flatten(1)
    means = torch.stack([train[data.labels[:10_000] == digit].mean(0) for digit in range(10)])
    assert (torch.cdist(test, means).argmin(-1) == data.labels[10_000:]).float().mean() > 0.85


# --- images as bytes -----------------------------------------------------------------------------


def test_normalise_and_to_uint8_are_inverse():
    """All 256 values survive the round trip, and the ends are exactly -1 and 1."""
    values = torch.arange(256, dtype=torch.uint8).view(2, 1, 8, 16)
    scaled = normalise(values)
    assert scaled.dtype == torch.float32
    assert scaled.shape == values.shape
    assert (scaled.min(), scaled.max()) == (-1, 1)
    assert torch.equal(to_uint8(scaled), values)
    assert torch.equal(to_uint8(scaled.double()), values)


def test_to_uint8_rounds_and_clamps():
    """Values outside [-1, 1] are clamped rather than wrapped, those between are rounded."""
    values = torch.tensor([-3.0, -1.0, -1.0 + 0.6 / 127.5, 0.0, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 1, 128, 255, 255]


def test_byte_conversions_refuse_the_other_kind():
    """Converting twice is an error that names the dtype, not a black image."""
    with pytest.raises(ValueError, match=r"uint8 images, and a tensor .* of float32"):
        normalise(torch.zeros(2))
    with pytest.raises(ValueError, match=r"floating-point images .* and a tensor .* of uint8"):
        to_uint8(torch.zeros(2, dtype=torch.uint8))


# --- batches -------------------------------------------------------------------------------------


def test_batches_have_the_promised_form(embedded):
    """Images come as float32 in [-1, 1] of shape [n_critic, B, ...], labels as int64."""
    (batch,) = batches(embedded["glyphs"], batch_size=6, n_critic=5, rounds=1)
    assert batch.real.shape == (5, 6, 1, 28, 28)
    assert batch.real.dtype == torch.float32
    assert (batch.real.min(), batch.real.max()) == (-1, 1)
    assert batch.condition.shape == (5, 6)
    assert batch.condition.dtype == torch.int64


def test_batches_keep_samples_and_labels_together():
    """Each sample comes with its own label, and points come unscaled."""
    for batch in batches(numbered(10), batch_size=4, n_critic=2, rounds=6):
        assert torch.equal(batch.real[..., 0].long() % 3, batch.condition)
        assert torch.equal(batch.real[..., 1], -batch.real[..., 0])


def test_batches_without_conditions():
    """conditional=False leaves the labels out and the samples as they are."""
    data = numbered(10)
    (plain,) = batches(data, 4, rounds=1, conditional=False)
    (labelled,) = batches(data, 4, rounds=1)
    assert plain.condition is None
    assert torch.equal(plain.real, labelled.real)


def test_batches_take_a_name():
    """A name is loaded and named data gives the same stream as the loaded set."""
    (by_name,) = batches("grid", 8, rounds=1, seed=5)
    (by_data,) = batches(load("grid"), 8, rounds=1, seed=5)
    assert equal(by_name, by_data)


def test_batches_take_any_floating_dtype():
    """float64 points are handed out as float32."""
    data = numbered(4)
    data = DataSet("double", data.samples.double(), data.labels, data.class_names)
    assert next(batches(data, 2)).real.dtype == torch.float32


@given(
    size=st.integers(1, 12),
    batch_size=st.integers(1, 9),
    n_critic=st.integers(1, 3),
    start=st.integers(0, 15),
    seed=st.integers(-(2**70), 2**70),
)
@settings(deadline=None, max_examples=60)
def test_the_stream_is_whole_epochs_and_resumes_anywhere(size, batch_size, n_critic, start, seed):
    """Each stretch of N samples is a permutation, and start=k continues a run from 0 at round k."""
    data = numbered(size)
    whole = list(batches(data, batch_size, n_critic, rounds=start + 4, seed=seed))
    stream = indices(whole)
    for first in range(0, len(stream) - size + 1, size):
        assert sorted(stream[first : first + size]) == list(range(size))
    resumed = list(batches(data, batch_size, n_critic, rounds=4, seed=seed, start=start))
    assert len(resumed) == 4
    assert all(map(equal, whole[start:], resumed))


def test_batches_depend_on_the_seed_and_the_epoch():
    """The same seed repeats a stream; another seed, or the next epoch, is in another order."""
    data = numbered(50)
    stream = indices(batches(data, 10, rounds=15, seed=1))
    assert stream == indices(batches(data, 10, rounds=15, seed=1))
    epochs = {tuple(stream[first : first + 50]) for first in (0, 50, 100)}
    epochs |= {tuple(indices(batches(data, 50, rounds=1, seed=seed))) for seed in (0, 2, -1)}
    assert len(epochs) == 6


def test_n_critic_may_be_a_schedule():
    """A callable sets each round's updates, its samples continue one stream, and start agrees."""
    data = numbered(20)
    schedule = [4, 1, 2, 1, 3, 1]
    scheduled = list(batches(data, 3, schedule.__getitem__, rounds=6, seed=3))
    assert [len(batch.real) for batch in scheduled] == schedule
    assert indices(scheduled) == indices(batches(data, 3, rounds=12, seed=3))
    resumed = list(batches(data, 3, schedule.__getitem__, rounds=3, seed=3, start=3))
    assert all(map(equal, scheduled[3:], resumed))


def test_rounds_count_what_is_yielded():
    """rounds=0 yields nothing, rounds=k yields k from start on, and None never ends."""
    data = numbered(5)
    assert list(batches(data, 2, rounds=0)) == []
    assert len(list(batches(data, 2, rounds=3, start=7))) == 3
    assert sum(1 for _ in itertools.islice(batches(data, 2), 100)) == 100


def test_a_distant_start_costs_nothing():
    """The batch of round 10**15 is computed without those before it."""
    resumed = batches(numbered(7), 4, n_critic=5, start=10**15)
    assert next(resumed).real.shape == (5, 4, 2)


def test_global_generators_are_untouched():
    """Loading and shuffling leave torch's and Python's global generators as they were."""
    states = torch.get_rng_state(), random.getstate()
    for name in EMBEDDED:
        list(batches(name, 4, rounds=2))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size is a whole number from 1, and 0 was given"),
        ({"batch_size": 2.5}, "batch_size is a whole number from 1, and 2.5 was given"),
        ({"n_critic": 0}, "n_critic is a whole number from 1, and 0 was given"),
        ({"n_critic": lambda i: i - 1}, "n_critic is a whole number from 1, and -1 was given"),
        ({"rounds": -1}, "rounds is a whole number from 0, and -1 was given"),
        ({"start": -2}, "start is a whole number from 0, and -2 was given"),
        ({"data": "no-such-set"}, "unknown data set 'no-such-set'; known are rings, grid"),
    ],
)
def test_wrong_arguments_fail_at_the_call(wrong, message):
    """What is out of range raises before the first batch is asked for."""
    with pytest.raises(ValueError, match=message):
        batches(**{"data": numbered(5), "batch_size": 2, **wrong})


@pytest.mark.parametrize(
    ("samples", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.tensor([0, 1, 2]), r"\[0, 2\).* from 0 to 2"),
        (torch.zeros(3, 2), torch.tensor([0, -1, 1]), r"\[0, 2\).* from -1 to 1"),
        (torch.zeros(3, 2), torch.tensor([0, 1]), r"labels must be int64, one for each"),
        (torch.zeros(3, 2), torch.zeros(3), r"labels must be int64, .* torch\.float32 \(3,\)"),
        (torch.zeros(0, 2), torch.zeros(0).long(), r"at least one"),
        (torch.zeros(1, 2).long(), torch.zeros(1).long(), r"samples must be uint8 or floating"),
    ],
)
def test_a_broken_data_set_fails_at_the_call(samples, labels, message):
    """Labels that are no class, and tensors that do not fit together, raise at the call."""
    with pytest.raises(ValueError, match=message):
        batches(DataSet("broken", samples, labels, ("a", "b")), 2)


@pytest.mark.gpu
def test_batches_do_not_wait_for_the_device():
    """On CUDA the stream is that of the CPU, made without a single host synchronisation."""
    data = numbered(20)
    stream = batches(data, 3, n_critic=2, rounds=30, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        made = list(stream)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert indices(made) == indices(batches(data, 3, n_critic=2, rounds=30))


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("name", IDX_NAMES)
def test_torchvision_layout_is_found_first(tmp_path, monkeypatch, name, suffix):
    """Files under root, gzipped or not, win over Debian's, and nothing is downloaded."""
    monkeypatch.setattr(real, "_download", None)
    images, labels = small_images(seed=1)
    write_idx(tmp_path / IDX_NAMES[name] / "raw", images, labels, suffix)
    write_idx(tmp_path / "debian", *small_images(seed=2), ".gz")
    monkeypatch.setattr(real, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    data = load(name, root=str(tmp_path))
    assert torch.equal(data.samples, images.unsqueeze(1))
    assert torch.equal(data.labels, labels)
    assert data.labels.dtype == torch.int64
    assert data.num_classes == 10


@pytest.mark.parametrize("name", IDX_NAMES)
def test_the_test_split(tmp_path, name):
    """Its files stand beside the training files; what is made on the spot has none."""
    raw = tmp_path / IDX_NAMES[name] / "raw"
    write_idx(raw, *small_images(seed=1, size=9))
    images, labels = small_images(seed=2)
    write_idx(raw, images, labels, split="t10k")
    test = load(name, root=tmp_path, train=False)
    assert torch.equal(test.samples, images.unsqueeze(1))
    assert torch.equal(test.labels, labels)
    assert len(load(name, root=tmp_path)) == 9
    with pytest.raises(ValueError, match=r"'glyphs' has no test split; .* fashion-mnist, mnist"):
        load("glyphs", train=False)


def test_the_default_root_is_an_environment_variable(tmp_path, monkeypatch):
    """$FGAN_DATA says where to look, and without it the user's cache does."""
    write_idx(tmp_path / "MNIST" / "raw", *small_images(seed=1))
    monkeypatch.setenv("FGAN_DATA", str(tmp_path))
    assert len(load("mnist")) == 7
    monkeypatch.delenv("FGAN_DATA")
    monkeypatch.setenv("HOME", "/somewhere")
    assert real.default_root() == Path("/somewhere/.cache/fgan")


def test_debian_files_come_before_a_download(tmp_path, monkeypatch):
    """Without files under root, those of Debian's package are read."""
    monkeypatch.setattr(real, "_download", None)
    images, labels = small_images(seed=2)
    write_idx(tmp_path / "debian", images, labels, ".gz")
    monkeypatch.setattr(real, "DEBIAN_FASHION_MNIST", tmp_path / "debian")
    data = load("fashion-mnist", root=tmp_path / "empty")
    assert torch.equal(data.samples, images.unsqueeze(1))
    assert torch.equal(data.labels, labels)


@pytest.mark.skipif(
    not (real.DEBIAN_FASHION_MNIST / "train-images-idx3-ubyte.gz").is_file(),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_the_real_fashion_mnist(tmp_path):
    """Debian's package holds 6000 images of each of the ten classes."""
    data = load("fashion-mnist", root=tmp_path)
    assert data.samples.shape == (60_000, 1, 28, 28)
    assert data.labels.bincount().tolist() == [6000] * 10
    assert data.class_names[int(data.labels[0])] == "Ankle boot"
    assert abs(float(data.samples.float().mean()) / 255 - 0.2860) < 1e-4  # as published
    assert (
        load("fashion-mnist", root=tmp_path, train=False).labels.bincount().tolist() == [1000] * 10
    )


def test_torchvision_names_the_same_classes():
    """The class names kept here are those of torchvision, which is slow to import."""
    assert list(real._CLOTHES) == torchvision.datasets.FashionMNIST.classes


def test_a_download_lands_in_torchvisions_layout(tmp_path, monkeypatch, no_debian):
    """A download is moved into root, whole and without archives, and is found the next time."""
    images, labels = small_images(seed=4)
    calls = []

    def download(self):
        calls.append(type(self).__name__)
        folder = Path(self.raw_folder)
        for suffix in ("", ".gz"):
            write_idx(folder, images, labels, suffix)
            write_idx(folder, images, labels, suffix, split="t10k")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", download)
    for name in IDX_NAMES:
        for _ in range(2):
            assert torch.equal(load(name, root=tmp_path / "new").labels, labels)
    assert calls == ["FashionMNIST", "MNIST"]
    left = [path for path in (tmp_path / "new").rglob("*") if path.is_file()]
    assert len(left) == 8
    assert not any(path.suffix == ".gz" for path in left)
    assert torchvision.datasets.MNIST(tmp_path / "new").targets.tolist() == labels.tolist()


@pytest.mark.usefixtures("no_network", "no_debian")
@pytest.mark.parametrize("name", [*IDX_NAMES, "cifar10"])
def test_without_files_or_network_the_error_says_what_to_do(tmp_path, name):
    """The error names every place looked in and a set that needs none; no half file stays."""
    with pytest.raises(DataError) as raised:
        batches(name, 4, root=tmp_path)
    message = str(raised.value)
    assert str(tmp_path / IDX_NAMES.get(name, "cifar-10-batches-py")) in message
    assert f"torchvision's download into {tmp_path}: Error downloading: Name or" in message
    assert "'glyphs'" in message
    assert ("Debian's package dataset-fashion-mnist" in message) == (name == "fashion-mnist")
    assert str(real.DEBIAN_FASHION_MNIST) in message or name != "fashion-mnist"
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_root_is_a_clear_error(tmp_path, no_debian):
    """A root that cannot be made is reported like any other failed download."""
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="Not a directory"):
        load("fashion-mnist", root=tmp_path / "file" / "root")


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    """A file cut short anywhere, header or gzip stream included, raises an error with its path."""
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw, *small_images(seed=1), suffix)
    path = raw / f"train-images-idx3-ubyte{suffix}"
    whole = path.read_bytes()
    for length in (0, 1, 3, 9, 15, 17, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=f"{path} .*replace or delete it"):
            load("mnist", root=tmp_path)
    path.write_bytes(whole)
    assert len(load("mnist", root=tmp_path)) == 7


def test_corrupt_files_are_named(tmp_path):
    """A wrong type, trailing bytes and damaged gzip contents are all refused by name."""
    path = tmp_path / "images"
    for content in (b"\0\0\x09\1\0\0\0\4____", b"\0\0\x08\1\0\0\0\1____", b"GIF89a GIF89a"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=str(path)):
            real.read_idx(path, ndim=1)
    path = tmp_path / "images.gz"
    for position in (0, 10, 30, -6):  # the magic number, the deflate stream twice, the checksum
        packed = bytearray(gzip.compress(bytes(range(256)) * 9))
        packed[position] ^= 0xFF
        path.write_bytes(packed)
        with pytest.raises(DataError, match=str(path)):
            real.read_idx(path, ndim=1)


def test_images_and_labels_must_be_as_many(tmp_path):
    """Files of different lengths are refused, both named."""
    images, labels = small_images(seed=1)
    write_idx(tmp_path / "MNIST" / "raw", images, labels[:-1])
    with pytest.raises(DataError, match=r"images-idx3-ubyte holds 7 images, .* 6 labels"):
        load("mnist", root=tmp_path)


def test_cifar10_becomes_channels_first(tmp_path, monkeypatch):
    """torchvision's [N, H, W, C] pixels come as [N, C, H, W], with its labels and class names."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = small_images(seed=1, size=2 * 256)[0].view(2, 3072)
    entry = {"data": pixels.numpy(), "labels": [3, 1]}
    (folder / "data").write_bytes(pickle.dumps(entry))
    (folder / "meta").write_bytes(pickle.dumps({"label_names": list("abcd")}))
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [["data", None]])
    monkeypatch.setattr(cifar, "test_list", [["data", None]])
    monkeypatch.setattr(cifar, "meta", {"filename": "meta", "key": "label_names", "md5": None})
    data = load("cifar10", root=tmp_path)
    assert torch.equal(data.samples, pixels.view(2, 3, 32, 32))
    assert (data.labels.tolist(), data.class_names) == ([3, 1], ("a", "b", "c", "d"))


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_of_images(tmp_path):
    """Sub-folders in the order of their names are the classes; pixels and axes are kept."""
    write_image(tmp_path / "dogs" / "1.png", (255, 0, 10))
    write_image(tmp_path / "cats" / "1.png", (1, 2, 3))
    write_image(tmp_path / "cats" / "2.png", (4, 5, 6))
    data = load(f"folder:{tmp_path}")
    assert data.class_names == ("cats", "dogs")
    assert data.labels.tolist() == [0, 0, 1]
    assert data.samples.dtype == torch.uint8
    assert data.sample_shape == (3, 4, 6)  # six wide, four high
    assert data.samples[:, :, 0, 0].tolist() == [[1, 2, 3], [4, 5, 6], [255, 0, 10]]
    assert next(batches(data, 5)).real.shape == (1, 5, 3, 4, 6)


def test_a_folder_of_grayscale_images(tmp_path):
    """Grayscale files give one channel, unless a file with colours is among them."""
    write_image(tmp_path / "a" / "1.png", 7, mode="L")
    write_image(tmp_path / "b" / "1.png", 1, mode="1")
    data = load(f"folder:{tmp_path}")
    assert data.sample_shape == (1, 4, 6)
    assert data.samples[:, 0, 0, 0].tolist() == [7, 255]
    write_image(tmp_path / "b" / "2.png", (1, 2, 3, 255), mode="RGBA")
    data = load(f"folder:{tmp_path}")
    assert data.samples[:, :, 3, 5].tolist() == [[7, 7, 7], [255, 255, 255], [1, 2, 3]]


def test_images_of_several_sizes_need_image_size(tmp_path):
    """Without image_size the error names the files, sizes and the argument; with it, all fit."""
    write_image(tmp_path / "a" / "1.png", (0, 0, 0), size=(6, 4))
    path = tmp_path / "a" / "2.png"
    image = Image.new("RGB", (30, 10), (0, 0, 0))
    image.paste((255, 255, 255), (4, 0, 26, 10))  # black at both ends alone
    image.save(path)
    with pytest.raises(DataError, match=r"2\.png is 30x10 pixels, .*1\.png is 6x4: .*image_size="):
        load(f"folder:{tmp_path}")
    data = load(f"folder:{tmp_path}", image_size=5)
    assert data.sample_shape == (3, 5, 5)
    assert data.samples[0].max() == 0
    assert data.samples[1].min() == 255


def test_unreadable_folders_are_clear_errors(tmp_path):
    """No folder, no class, an empty class, a cut and a 16-bit file: each error names the path."""
    for path in ("missing", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(DataError, match=f"no images in {tmp_path / path}.*sub-folder"):
            load(f"folder:{tmp_path / path}")
    (tmp_path / "empty" / "class").mkdir()
    with pytest.raises(DataError, match="class"):
        load(f"folder:{tmp_path / 'empty'}")

    write_image(tmp_path / "deep" / "a" / "1.png", 1000, mode="I;16")
    with pytest.raises(DataError, match=r"1\.png has more than 8 bits"):
        load(f"folder:{tmp_path / 'deep'}")

    path = tmp_path / "cut" / "a" / "1.png"
    write_image(path, (1, 2, 3), size=(50, 50))
    for length in (0, 20, path.stat().st_size - 30):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match=f"{path} cannot be read"):
            load(f"folder:{tmp_path / 'cut'}")
        write_image(path, (1, 2, 3), size=(50, 50))


@pytest.mark.parametrize("name", ["folder", "folder:", "Rings", "", "mnist:x"])
def test_unknown_names_list_the_known(name):
    """A name that is not known raises an error with all those that are."""
    with pytest.raises(ValueError, match=f"unknown data set '{name}'") as raised:
        load(name)
    assert all(known in str(raised.value) for known in fgan.data.NAMES)


def test_image_size_is_for_folders(tmp_path):
    """image_size is refused for sets that have a size, and when it is no size."""
    with pytest.raises(ValueError, match="image_size is for folder:PATH alone"):
        load("glyphs", image_size=32)
    with pytest.raises(ValueError, match="image_size is a whole number from 1"):
        load(f"folder:{tmp_path}", image_size=0)


def test_cifar10_is_read_after_its_download(monkeypatch, tmp_path):
    """What was not there at first is fetched, and comes as channels, height, width."""
    import numpy

    class Fetched(torchvision.datasets.CIFAR10):
        there = False

        def __init__(self, root, train=True):
            if not Fetched.there:
                raise RuntimeError("Dataset not found or corrupted.")
            self.data = numpy.zeros((10 if train else 4, 32, 32, 3), dtype=numpy.uint8)
            self.data[..., 1] = 7
            self.targets = list(range(len(self.data)))
            self.classes = [str(i) for i in range(10)]

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Fetched)
    monkeypatch.setattr(real, "_download", lambda *_, **__: setattr(Fetched, "there", True))
    data = load("cifar10", root=tmp_path)
    assert data.sample_shape == (3, 32, 32)
    assert (data.samples[:, 1] == 7).all()
    assert data.labels.tolist() == list(range(10))
    assert len(load("cifar10", root=tmp_path, train=False)) == 4
