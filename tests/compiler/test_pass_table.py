"""The table of graph passes: names, what runs where, passes that are switched off, and the log."""

import logging
from pathlib import Path

import pytest
import torch
from graphs import needs_cpp_compiler, traced
from helpers import assert_close, make_round, pair

import fgan
from fgan.compiler.passes import PASSES, onednn_linear
from fgan.compiler.passes.manager import PassManager, passes_of

NAMES = [each.name for each in PASSES]


def test_names_are_unique_and_every_entry_is_complete():
    """Device and stage are known ones, and each pass says what it gains."""
    assert len(set(NAMES)) == len(NAMES)
    for each in PASSES:
        assert each.device in ("any", "cpu", "cuda")
        assert each.stage in ("pre_grad", "joint", "post_grad")
        assert each.gain


def test_every_pass_is_in_a_module_of_its_name():
    """A reader who has the name from the log finds the file."""
    for each in PASSES:
        assert each.function.__module__ == f"fgan.compiler.passes.{each.name}"


def test_the_bench_names_modules_that_exist():
    """bench/README.md states the gains by file."""
    root = Path(fgan.__file__).parent.parent
    bench = root / "bench" / "README.md"
    if not bench.exists():
        pytest.skip("fgan is installed without its bench")
    words = bench.read_text().replace("`", " ").replace("(", " ").replace(")", " ").split()
    named = [word for word in words if word.startswith("fgan/compiler/passes/")]
    assert named
    for name in named:
        assert (root / name).exists()


def test_a_device_gets_its_own_passes_and_those_for_any(monkeypatch):
    """In the order of the table."""
    monkeypatch.setattr(onednn_linear, "is_faster", lambda: True)
    for device, other in (("cpu", "cuda"), ("cuda", "cpu")):
        for stage in ("pre_grad", "joint", "post_grad"):
            expected = [p for p in PASSES if p.stage == stage and p.device != other]
            assert list(passes_of(stage, device)) == expected


def test_an_unknown_pass_is_refused_with_the_list():
    """At once, also by a backend that runs no passes."""
    for backend in ("inductor", "interpreter"):
        with pytest.raises(ValueError, match=r"no pass 'csee'.*zero_propagation"):
            fgan.compile(fgan.gan(*pair()), backend=backend, disable_passes=("cse", "csee"))


def test_one_name_alone_is_no_list_of_names():
    """A string is not taken for the sequence of its letters."""
    with pytest.raises(TypeError, match=r"disable_passes=\('cse',\)"):
        fgan.compile(fgan.gan(*pair()), backend="interpreter", disable_passes="cse")


def test_passes_are_part_of_the_key_of_the_cache():
    """One set of passes has one key, in every process; another set has another key."""
    every, fewer = passes_of("joint", "cpu"), passes_of("joint", "cpu", ("cse",))
    assert len(fewer) == len(every) - 1
    assert PassManager(every).uuid() == PassManager(every).uuid() is not None
    assert PassManager(every, program="other").uuid() == PassManager(every).uuid()
    assert PassManager(every).uuid() != PassManager(fewer).uuid()


def test_the_log_says_how_often_each_pass_fired(caplog):
    """One debug record for a program and a stage."""
    caplog.set_level(logging.DEBUG, "fgan.compiler")

    def function(x):
        return (torch.tanh(x) + torch.tanh(x) + torch.zeros_like(x)) * 2

    x = torch.ones(3)
    PassManager(passes_of("joint", "cpu"), "joint", "critic_update")(traced(function, x).graph)
    PassManager(passes_of("joint", "cpu"), "joint", "other")(traced(torch.sin, x).graph)
    records = [each for each in caplog.records if each.name == "fgan.compiler"]
    fired, quiet = (each.getMessage() for each in records)
    assert fired == "critic_update, joint passes: cse 1, zero_propagation 1"
    assert quiet == "other, joint passes: no change"


@needs_cpp_compiler
def test_a_round_without_passes_equals_the_eager_round():
    """Without those passes that only save time."""
    needed = {each.name for each in PASSES if each.gain == "needed for correctness"}
    assert needed == {"view_to_reshape", "copy_before_overwrite"}
    algorithm = fgan.wgan_gp(*pair(), n_critic=1)
    compiled = fgan.compile(algorithm, disable_passes=[n for n in NAMES if n not in needed])
    inputs = make_round(algorithm)
    assert_close(
        compiled.step(algorithm.init(), *inputs), algorithm.step(algorithm.init(), *inputs)
    )
