"""Checkpoints: whole or not at all, and only for the model they were made of."""

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
