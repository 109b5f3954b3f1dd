"""Signals end a run after its round, and a reader that goes away ends nothing."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import assert_identical
from rich.console import Console
from test_durable import train
from test_resume import SMALL, files

from fgan.cli import main
from fgan.run import checkpoints, signals
from fgan.run.outlet import Outlet
from fgan.run.progress import Display

ROOT = Path(__file__).resolve().parents[2]


class Signalled(Display):
    """Signals after round 2 has begun to be written down."""

    def __init__(self, *numbers):
        super().__init__(100, console=Console(file=io.StringIO()))
        self.numbers = numbers

    def advance(self, done):
        super().advance(done)
        if done == 2:
            for number in self.numbers:
                signal.raise_signal(number)


@pytest.fixture
def handlers():
    """Handlers that make an end by the signal itself visible, and what they saw."""
    seen = []
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {n: signal.signal(n, lambda number, frame: seen.append(number)) for n in numbers}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM,),
        (signal.SIGHUP,),
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
def test_a_signal_ends_the_run_after_its_round(numbers, tmp_path, handlers):
    """The state of the last round is on the disk, and the handlers are those of before."""
    ours = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    state = train(tmp_path, rounds=100, display=Signalled(*numbers))
    assert state.round == 3
    assert handlers == []
    assert_identical(checkpoints.load(tmp_path / "checkpoint.pt", like=state), state)
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    assert [signal.getsignal(number) for number in numbers] == ours


def test_a_second_ctrl_c_cuts(tmp_path):
    """Also after a SIGTERM, whose own repetition changes nothing."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, rounds=100, display=Signalled(signal.SIGTERM, signal.SIGINT))


def test_nohup_is_respected(tmp_path, handlers):
    """A SIGHUP that is ignored before the run is ignored in it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    state = train(tmp_path, rounds=4, display=Signalled(signal.SIGHUP))
    assert state.round == 4


class Gone(io.StringIO):
    """A stream whose reader has gone away."""

    def __init__(self, error):
        super().__init__()
        self.error, self.tries = error, 0

    def write(self, text):
        self.tries += 1
        raise self.error


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "I/O error")])
def test_a_display_that_nobody_sees_ends_nothing(error, terminal, tmp_path):
    """A closed pipe and a closed terminal; it is tried once."""
    stream = Gone(error)
    console = Console(file=Outlet(stream), force_terminal=terminal)
    state = train(tmp_path, rounds=4, display=Display(4, console=console))
    assert state.round == 4
    assert stream.tries == 1


def test_a_command_whose_reader_leaves_trains_to_the_end(tmp_path, monkeypatch):
    """As in `fgan train | head -1`: exit status 0, and the files of an undisturbed run."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert main(["train", *SMALL, "--rounds", "4", "--out", str(whole)]) == 0
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["train", *SMALL, "--rounds", "4", "--out", str(out)]) == 0
        stream.flush()  # Python does this when it ends: nothing is left to fail
    monkeypatch.undo()
    assert files(out) == files(whole)


def test_output_in_another_encoding_is_printed_as_far_as_it_goes():
    """A letter that the terminal lacks is replaced, and what follows is printed."""
    raw = io.BytesIO()
    outlet = Outlet(io.TextIOWrapper(raw, encoding="ascii"))
    outlet.write("a·b ")
    outlet.write("c")
    outlet.flush()
    assert raw.getvalue() == b"a?b c"
    assert outlet.encoding == "ascii"


def test_without_standard_output_nothing_is_printed(monkeypatch):
    """Python has none where it was started with a closed one."""
    monkeypatch.setattr(sys, "stdout", None)
    outlet = Outlet()
    assert outlet.write("text") == 4
    outlet.flush()


@pytest.fixture
def slow_torch(tmp_path):
    """A torch whose import is interrupted, in a folder that goes first on the path."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n"
    )
    (tmp_path / "fgan").write_text("import sys\nfrom fgan.cli import main\nsys.exit(main())\n")
    return tmp_path


def python(folder, *arguments):
    """Python with the interrupted torch, started with an ordinary Ctrl-C."""
    start = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    call = "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    return subprocess.run(
        [sys.executable, "-c", start + call, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("way", [["-m", "fgan"], ["fgan"]])
def test_ctrl_c_in_the_imports_of_a_command_leaves_no_traceback(way, slow_torch):
    """Exit status 130, for `python -m fgan` and for the script."""
    way = way if way[0] == "-m" else [slow_torch / "fgan"]
    ended = python(slow_torch, *way, "train")
    assert (ended.returncode, ended.stdout, ended.stderr) == (signals.INTERRUPTED, "", "")


def test_ctrl_c_in_the_import_of_the_library_is_an_exception(slow_torch):
    """A program that imports fgan may catch it."""
    code = "try:\n    import fgan\nexcept KeyboardInterrupt:\n    print('caught')"
    ended = python(slow_torch, "-c", code)
    assert (ended.returncode, ended.stdout) == (0, "caught\n"), ended.stderr
