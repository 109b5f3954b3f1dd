"""What a run writes reaches the disk in order, by one run a folder, or is named."""

import errno
import fcntl
import json
import math
import os
import socket
from pathlib import Path

import pytest
import torch
from helpers import Critic, Generator, assert_close, assert_identical
from torch.utils._python_dispatch import TorchDispatchMode

import fgan
from fgan.data import DataSet
from fgan.data.files import make_folder, remove_temporary, replacing
from fgan.run import checkpoints, lock
from fgan.run.loop import DivergenceError, SaveError
from fgan.run.metrics import MetricsFile

SETTINGS = {"batch_size": 8, "conditional": False, "log_every": 1, "sample_every": 2}


def points(features=2):
    """Points on a line, of one class."""
    samples = torch.linspace(-1, 1, 64).repeat(features, 1).T.contiguous()
    return DataSet("line", samples, torch.zeros(64, dtype=torch.int64), ("all",))


def game(recipe=fgan.wgan_gp, **options):
    """A small unconditional game on points, in float32."""
    return recipe(Generator().float(), Critic().float(), n_critic=1, **options)


def train(out, rounds=4, algorithm=None, **options):
    """A few rounds into a folder."""
    return fgan.train(algorithm or game(), points(), rounds=rounds, out=out, **SETTINGS | options)


def tree_of(folder):
    """Every file's bytes by its path."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def synced(monkeypatch):
    """The order of synchronised files, by name at that moment, and of names given."""
    seen, sync, replace = [], os.fsync, os.replace

    def watch_sync(descriptor):
        seen.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))
        sync(descriptor)

    def watch_replace(source, target):
        seen.append(("name", Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watch_sync)
    monkeypatch.setattr(os, "replace", watch_replace)
    return seen


def test_a_file_reaches_the_disk_before_its_name_and_its_name_before_the_end(tmp_path, synced):
    """Content, name, folder: in this order for whatever is replaced."""
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert synced == [("sync", temporary), ("name", tmp_path / "a"), ("sync", tmp_path)]


def test_figures_and_the_picture_are_on_the_disk_before_the_checkpoint(tmp_path, synced):
    """A checkpoint never counts on a line or a picture that a power cut could take."""
    train(tmp_path / "run", rounds=2)
    order = [what for what in synced if what[0] == "name" or what[1].name == "metrics.jsonl"]
    assert [(kind, path.name) for kind, path in order[-3:]] == [
        ("sync", "metrics.jsonl"),
        ("name", "round-000002.png"),
        ("name", "checkpoint.pt"),
    ]
    new = [path for kind, path in synced if kind == "sync" and path.is_dir()]
    assert {tmp_path, tmp_path / "run", tmp_path / "run" / "samples"} <= set(new)


def test_a_system_that_opens_no_folder_keeps_a_run(tmp_path, monkeypatch):
    """Windows raises PermissionError for os.open of a folder; the files are whole all the same."""
    real = os.open

    def windows(path, flags, *more, **named):
        if os.path.isdir(path) and not flags & os.O_DIRECTORY:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", windows)
    state = train(tmp_path / "run")
    assert_identical(checkpoints.load(tmp_path / "run" / "checkpoint.pt", like=state), state)


def test_an_error_of_a_disk_is_not_taken_for_a_folder_that_cannot_be_synchronised(
    tmp_path, monkeypatch
):
    """What the system cannot do is passed over; what went wrong is not."""

    def fail(number):
        def fsync(descriptor):
            if os.path.isdir(os.readlink(f"/proc/self/fd/{descriptor}")):
                raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", fail(errno.EINVAL))
    make_folder(tmp_path / "a")
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        make_folder(tmp_path / "b")


class NoFloat64(TorchDispatchMode):
    """Raises as Apple's GPU does, wherever an operation makes a float64 tensor."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in fgan.tree.leaves(out):
            if isinstance(leaf, torch.Tensor) and leaf.dtype is torch.float64:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return out


def test_a_run_in_float32_needs_no_float64(tmp_path):
    """Figures, pictures and checkpoints are made on devices without it, with the same values."""
    rate = fgan.rmsprop(1e-3)
    settings = {"generator_optimizer": rate, "critic_optimizer": rate}
    plain = train(tmp_path / "a", algorithm=game(fgan.wgan, **settings))
    with NoFloat64():
        state = train(tmp_path / "b", algorithm=game(fgan.wgan, **settings))
    assert_identical(state, plain)
    lines = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in "ab"]
    assert lines[0] == lines[1]


def without_float64(recipe, out):
    """A run whose counts are on a device without float64, which schedules and Adam meet."""
    rate = fgan.optim.warmup(fgan.optim.linear(1e-2, 0.0, 20), 3)
    settings = {"generator_optimizer": fgan.adam(rate, (0.5, 0.999))}
    if recipe is not fgan.wgan_gp:
        settings["critic_optimizer"] = fgan.adamw(fgan.optim.cosine(1e-2, 1e-3, 9), (0.0, 0.9))
    algorithm = fgan.skip_nonfinite(game(recipe, ema_decay=0.9, **settings))
    return train(out, algorithm=algorithm)


@pytest.mark.parametrize("recipe", [fgan.gan, fgan.wgan_gp, fgan.wgan_div])
def test_adam_and_schedules_need_no_float64(recipe, tmp_path, monkeypatch):
    """On such a device they are computed in float32, and give the values that float64 gives."""
    plain = without_float64(recipe, tmp_path / "a")
    monkeypatch.setattr("fgan.scalars.NO_FLOAT64", {"cpu"})
    with NoFloat64():
        state = without_float64(recipe, tmp_path / "b")
    assert_close(state, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("beta", "rel"),
    [(0.999, 1e-6), (torch.tensor(0.999), 2e-5)],  # the second: of 0.999 in float32 itself
    ids=["number", "tensor"],
)
def test_adams_corrections_in_float32_lose_no_digits(beta, rel):
    """1 - βᵗ of a count in float32, beside float64."""
    for count in (1, 2, 10, 1000, 100_000):
        exact = 1 - 0.999**count
        got = fgan.optim._correction(beta, torch.tensor(float(count)))
        assert got.dtype == torch.float32
        assert float(got) == pytest.approx(exact, rel=rel)
    assert float(fgan.optim._correction(0.0, torch.tensor(1.0))) == 1.0


@pytest.mark.parametrize("resume", [False, True])
def test_a_second_run_in_a_folder_is_refused_by_name(resume, tmp_path):
    """The message names process, host and time; nothing in the folder changes; then it is free."""
    train(tmp_path, rounds=2)
    with lock.exclusive(tmp_path):
        before = tree_of(tmp_path)
        holder = json.loads((tmp_path / lock.LOCK).read_text())
        with pytest.raises(ValueError, match="in use by another run") as caught:
            train(tmp_path, resume=resume)
        assert f"process {os.getpid()} on {socket.gethostname()}, since" in str(caught.value)
        assert holder["since"] in str(caught.value)
        assert tree_of(tmp_path) == before
    train(tmp_path, resume=True)
    assert not (tmp_path / lock.LOCK).exists()


def test_a_run_holds_its_folder_until_it_ends(tmp_path):
    """Within a round, nobody else can have it; after an error, it is free."""
    algorithm = game()

    def step(state, batch, noise):
        with pytest.raises(lock.FolderInUseError), lock.exclusive(tmp_path):
            pass
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        train(tmp_path, algorithm=algorithm._replace(step=step))
    with lock.exclusive(tmp_path):
        pass


def test_a_lock_that_nobody_wrote_into_is_still_a_lock(tmp_path):
    """The holder may have been stopped before it could say who it is."""
    with (tmp_path / lock.LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(lock.FolderInUseError, match="another run: wait"):
            train(tmp_path)


def test_a_file_system_without_locks_warns_and_trains(tmp_path, monkeypatch):
    """Some network file systems have none."""

    def flock(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked .No locks available"):
        train(tmp_path, rounds=1)


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    """Temporary files of any process go; hidden files of others stay."""
    for folder in (tmp_path, tmp_path / "samples", tmp_path / "checkpoints"):
        folder.mkdir(exist_ok=True)
        (folder / ".checkpoint.pt.123.tmp").write_text("half")
        (folder / ".mine.tmp").write_text("mine")
    train(tmp_path, rounds=2)
    assert sorted(path.name for path in tmp_path.rglob(".*")) == [".mine.tmp"] * 3
    remove_temporary(tmp_path / "none")  # a folder that is not there has nothing to remove


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    """The figures of a round do not show its own last update; the state does."""
    good, algorithm = train(tmp_path, rounds=2), game()

    def step(state, batch, noise):
        state, info = algorithm.step(state, batch, noise)
        params = {name: value.clone() for name, value in state.critic.params.items()}
        if state.round == 4:
            params[next(iter(params))].view(-1)[0] = math.nan
        return state._replace(critic=state.critic._replace(params=params)), info

    message = r"round 4: the state's \.critic\.params.* is not finite\. Round 2 is kept"
    with pytest.raises(DivergenceError, match=message):
        train(tmp_path, algorithm=algorithm._replace(step=step), resume=True, log_every=9)
    assert_identical(checkpoints.load(tmp_path / "checkpoint.pt", like=good), good)
    assert not (tmp_path / "samples" / "round-000004.png").exists()


def test_a_mask_of_infinities_is_no_divergence(tmp_path):
    """A buffer that is not finite from the start, such as an attention mask, may stay so."""
    critic = Critic().float()
    critic.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    state = train(tmp_path, algorithm=fgan.gan(Generator().float(), critic))
    assert state.round == 4


@pytest.mark.parametrize("written", [False, True])
def test_a_full_disk_is_named_with_the_round_that_is_left(written, tmp_path, monkeypatch):
    """Which file, why, and from where to resume; and then it can be resumed."""
    whole = train(tmp_path / "whole", rounds=6)
    out, sync = tmp_path / "run", MetricsFile.on_samples

    def full(self, *about):
        sync(self, *about)
        if (out / "checkpoint.pt").exists() == written:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MetricsFile, "on_samples", full)
    with pytest.raises(SaveError) as caught:
        train(out, rounds=6)
    assert caught.value.errno == errno.ENOSPC
    assert str(out) in str(caught.value)
    said = "kept up to round 2: make room" if written else "nothing has been saved yet"
    assert said in str(caught.value)
    monkeypatch.undo()
    assert_identical(train(out, rounds=6, resume=written), whole)


def test_a_full_disk_names_the_checkpoint(tmp_path, monkeypatch):
    """The file that did not fit is the one in the message, and not a temporary one."""
    write = Path.open

    def full(path, mode="r", *more, **named):
        if path.name.startswith(".checkpoint.pt"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, mode, *more, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(SaveError, match=r"checkpoint\.pt was not written .No space left on device"):
        train(tmp_path)


def test_a_line_that_is_nearly_written_is_not_written_twice(tmp_path):
    """What a full disk cuts off stays cut off when the file is closed, and is dropped later."""
    metrics = MetricsFile(tmp_path / "m.jsonl")
    metrics.on_round(1, {"loss": 1.0})
    metrics.on_end(1)
    with (tmp_path / "m.jsonl").open("a") as file:
        file.write('{"round": 2, "lo')
    MetricsFile(tmp_path / "m.jsonl", rounds_done=2).on_end(2)
    assert (tmp_path / "m.jsonl").read_text() == '{"round": 1, "loss": 1.0}\n'


@pytest.mark.parametrize(
    "line", [b"garbage", b"[1]", b'{"round": "2"}', b'{"round": true}', b"\xff\xfe", b"null", b""]
)
def test_a_damaged_line_among_the_figures_is_named(line, tmp_path):
    """A crash damages the end of a file; damage before that is somebody's, and nothing is lost."""
    path = tmp_path / "m.jsonl"
    content = b'{"round": 1}\n' + line + b'\n{"round": 3}\n'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"m\.jsonl, line 2, is "):
        MetricsFile(path, rounds_done=3)
    assert path.read_bytes() == content
    MetricsFile(path, rounds_done=1).on_end(1)  # where it belongs to no round that is done
    assert path.read_bytes() == b'{"round": 1}\n'


def test_what_no_picture_suits_is_trained_without(tmp_path):
    """Samples of five axes, such as films of volumes."""
    shape = (1, 2, 2, 2, 2)
    generator = fgan.models.mlp_generator(shape, 2, hidden=(4,), norm="none")
    critic = fgan.models.mlp_critic(shape, hidden=(4,))
    data = DataSet("films", torch.randn(16, *shape))
    fgan.train(fgan.gan(generator, critic), data, rounds=2, out=tmp_path, **SETTINGS)
    assert list((tmp_path / "samples").iterdir()) == []
    assert (tmp_path / "checkpoint.pt").exists()
