"""Checkpoints: whole or not at all, and only for the model they were made of."""

import zipfile

import pytest
import torch

import fgan
from fgan import tree
from fgan.data.files import replacing
from fgan.run import checkpoints


def algorithm(width=8, ema_decay=None):
    """A tiny WGAN-GP on points."""
    generator = fgan.models.mlp_generator((2,), 3, hidden=(width,), norm="none")
    critic = fgan.models.mlp_critic((2,), hidden=(width,))
    return fgan.wgan_gp(generator, critic, ema_decay=ema_decay)


def test_a_state_comes_back_bit_for_bit(tmp_path):
    """Every leaf, its dtype and the tree around it survive the disk."""
    state = algorithm(ema_decay=0.9).init(seed=1)
    checkpoints.save(tmp_path / "c.pt", state)
    loaded = checkpoints.load(tmp_path / "c.pt", like=algorithm(ema_decay=0.9).init(seed=2))
    assert tree.same_structure(state, loaded)
    for name, leaf in tree.named_leaves(state).items():
        assert torch.equal(leaf, tree.named_leaves(loaded)[name]), name


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"width": 9}, r"float32 \[8\], expected float32 \[9\]|float32 \[8, 3\], expected"),
        ({"ema_decay": 0.5}, "lacks .ema"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, other, message):
    """The first leaf that differs is named, with what was found and what was expected."""
    checkpoints.save(tmp_path / "c.pt", algorithm().init(seed=0))
    with pytest.raises(checkpoints.CheckpointError, match="another model") as caught:
        checkpoints.load(tmp_path / "c.pt", like=algorithm(**other).init(seed=0))
    assert caught.match(message)


def test_other_files_are_refused(tmp_path):
    """A missing file, foreign bytes, a foreign torch file and half a checkpoint are all told."""
    state = algorithm().init(seed=0)
    with pytest.raises(checkpoints.CheckpointError, match="no checkpoint at"):
        checkpoints.load(tmp_path / "none.pt", like=state)
    (tmp_path / "text.pt").write_text("hello")
    torch.save({"a": torch.zeros(1)}, tmp_path / "foreign.pt")
    checkpoints.save(tmp_path / "half.pt", state)
    whole = (tmp_path / "half.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    for name, message in [("text", "cannot be read"), ("foreign", "not a"), ("half", "truncated")]:
        with pytest.raises(checkpoints.CheckpointError, match=message):
            checkpoints.load(tmp_path / f"{name}.pt", like=state)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    """A pickle that would call a function when it is loaded is refused instead."""

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": "fgan state 1", "leaves": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(checkpoints.CheckpointError):
        checkpoints.load(tmp_path / "trap.pt", like=algorithm().init(seed=0))
    assert not (tmp_path / "sprung").exists()


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    """When the disk fills up in the middle, the former checkpoint is whole and nothing is left."""
    state = algorithm().init(seed=0)
    checkpoints.save(tmp_path / "c.pt", state)
    before = (tmp_path / "c.pt").read_bytes()

    def fail(content, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        checkpoints.save(tmp_path / "c.pt", state)
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
    assert (tmp_path / "c.pt").read_bytes() == before


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    """A write that fails leaves the old content, and nothing beside it."""
    path = tmp_path / "settings"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fail()
    assert path.read_text() == "old"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def malformed(state):
    """Contents of a file by what is wrong with them, and a part of the message."""
    leaves = tree.named_leaves(state)
    name, leaf = next(iter(leaves.items()))
    good = {"format": "fgan state 2", "leaves": leaves}
    yield None, "does not say its format"
    yield [1, 2], "does not say its format"
    yield good | {"format": 2}, "does not say its format"
    yield good | {"format": "fgan state 1"}, "reads 'fgan state 2': its format is 'fgan state 1'"
    yield good | {"format": "fgan state 3"}, "Use the version of fgan that wrote it"
    yield {"format": "fgan state 2"}, "its leaves are None"
    yield good | {"leaves": list(leaves.values())}, "its leaves are a list"
    yield good | {"leaves": {1: leaf}}, "a leaf is named 1, no string"
    yield good | {"leaves": {}}, f"it lacks {name}"
    for wrong, said in (
        (None, "None"),
        ("x", "a str"),
        (leaf.to("meta"), "a Tensor on meta"),
        (leaf.float().to_sparse(), "a Tensor on cpu, sparse_coo"),
        (
            torch.quantize_per_tensor(leaf.float(), 0.1, 0, torch.quint8),
            "a Tensor on cpu, strided, torch.quint8",
        ),
    ):
        yield good | {"leaves": leaves | {name: wrong}}, f"{name} is {said}"


@pytest.mark.filterwarnings("ignore")  # torch's own, about quantised tensors
def test_every_malformed_content_is_named(tmp_path):
    """Whatever stands in the place of the format, the leaves, or one of them."""
    state = algorithm().init(seed=0)
    for content, message in malformed(state):
        torch.save(content, tmp_path / "c.pt")
        with pytest.raises(checkpoints.CheckpointError) as caught:
            checkpoints.load(tmp_path / "c.pt", like=state)
        assert message in str(caught.value)
        assert "c.pt" in str(caught.value)


def test_the_first_difference_is_the_first_in_the_order_of_the_state(tmp_path):
    """Of several leaves that are missing or additional, always the same one is named."""
    state = algorithm().init(seed=0)
    leaves = tree.named_leaves(state)
    other = {f"{name}_": leaf for name, leaf in leaves.items()}
    torch.save({"format": "fgan state 2", "leaves": other}, tmp_path / "c.pt")
    with pytest.raises(checkpoints.CheckpointError) as caught:
        checkpoints.load(tmp_path / "c.pt", like=state)
    assert str(caught.value).endswith(f"it lacks {next(iter(leaves))}")


def test_changed_bits_are_refused(tmp_path):
    """In a number, in the pickle, and in the archive's directory, which no CRC covers."""
    state = algorithm().init(seed=0)
    checkpoints.save(tmp_path / "c.pt", state)
    whole = (tmp_path / "c.pt").read_bytes()
    leaf = tree.named_leaves(state)[".generator.params['layers.0.weight']"]
    for at in (whole.index(leaf.numpy().tobytes()), whole.index(b"fgan state 2")):
        changed = bytearray(whole)
        changed[at] ^= 1
        (tmp_path / "c.pt").write_bytes(changed)
        with pytest.raises(checkpoints.DamagedError, match="damaged: the checksum of"):
            checkpoints.load(tmp_path / "c.pt", like=state)
    changed = whole.replace(b"data/1", b"data/0")  # every leaf of this size, in both places
    (tmp_path / "c.pt").write_bytes(changed)
    with pytest.raises(checkpoints.DamagedError):
        checkpoints.load(tmp_path / "c.pt", like=state)


def test_values_that_do_not_agree_with_their_checksum_are_refused(tmp_path):
    """Also where every record of the archive does agree with its own."""
    state = algorithm().init(seed=0)
    checkpoints.save(tmp_path / "c.pt", state)
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    content["leaves"][".generator.params['layers.0.weight']"][0, 0] += 1
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(checkpoints.DamagedError, match="checksum of its content"):
        checkpoints.load(tmp_path / "c.pt", like=state)


def test_a_compressed_archive_is_refused(tmp_path):
    """A few bytes of it could stand for more than the memory holds."""
    state = algorithm().init(seed=0)
    checkpoints.save(tmp_path / "c.pt", state)
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(tmp_path / "c.pt") as old, zipfile.ZipFile(packed, "w", 8) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    with pytest.raises(checkpoints.CheckpointError, match="is compressed"):
        checkpoints.load(packed, like=state)


def test_checksums_are_written_where_they_are_turned_off(tmp_path):
    """The option of torch is put back as it was."""
    state = algorithm().init(seed=0)
    torch.serialization.set_crc32_options(False)
    try:
        checkpoints.save(tmp_path / "c.pt", state)
        assert not torch.serialization.get_crc32_options()
    finally:
        torch.serialization.set_crc32_options(True)
    checkpoints.load(tmp_path / "c.pt", like=state)


def test_loaded_leaves_share_no_memory(tmp_path):
    """A donated step writes into them one by one."""
    state = algorithm().init(seed=0)
    same = torch.zeros(8)
    leaves = {
        name: same if leaf.shape == (8,) else leaf
        for name, leaf in tree.named_leaves(state).items()
    }
    torch.save({"format": "fgan state 2", "leaves": leaves}, tmp_path / "c.pt")
    loaded = tree.leaves(checkpoints.load(tmp_path / "c.pt", like=state))
    assert len({leaf.data_ptr() for leaf in loaded}) == len(loaded)
