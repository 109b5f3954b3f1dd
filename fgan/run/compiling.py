"""Whether a run compiles its steps where nobody says, and what happens without a compiler."""

from collections.abc import Callable
from dataclasses import replace

import torch

from fgan.compiler.compile import compile as compiled
from fgan.run.limits import no_compiler
from fgan.run.settings import Config
from fgan.types import Algorithm, Batch, GANInfo, GANState, Noise

REPAYING_UPDATES = 4_000
"""Updates of either player from which on compiling repays its seconds on a CPU: it takes some 17 s
to 25 s, and a compiled update of the networks in the README is 6 ms to 8 ms shorter on two cores.

A number, and no timing: the same settings have the same bits, however busy the machine is."""


def updates(config: Config) -> int:
    """The updates of both players in the whole run, without a warm-up."""
    return config.rounds * (config.critic_updates() + 1)


def repays(config: Config) -> bool:
    """Whether compiling repays its seconds on a CPU."""
    return updates(config) >= REPAYING_UPDATES


def decided(config: Config, device: torch.device, is_new: bool) -> Config:
    """The settings with `compile` true or false.

    is_new: a resumed run without the setting is of an earlier version: compiled on CUDA alone.
    """
    if config.compile is not None:
        return config
    on_cpu = is_new and device.type == "cpu" and repays(config)
    return replace(config, compile=on_cpu or device.type == "cuda")


def reason(config: Config) -> str:
    """Whether a run on the CPU compiles by itself, and why."""
    count = f"{updates(config):,} updates"
    if config.compile:
        return f"yes: {count} repay the seconds of compiling (see --no-compile)"
    return f"no: {count}, which compiling would not shorten by much (see --compile)"


def compiled_if_possible(algorithm: Algorithm, say: Callable[[str], None]) -> Algorithm:
    """`fgan.compile`, and the algorithm as it is from the first round on without a C++ compiler.

    say: is given a line where there is none.
    """
    made = compiled(algorithm)
    step = made.step

    def step_or_fall_back(state: GANState, batch: Batch, noise: Noise) -> tuple[GANState, GANInfo]:
        nonlocal step
        try:
            return step(state, batch, noise)
        except Exception as error:
            if step is algorithm.step or no_compiler(error) is None:
                raise
            step = algorithm.step
        say("compiled   no: no C++ compiler works here (g++ or clang), and a round takes longer")
        return step(state, batch, noise)

    return made._replace(step=step_or_fall_back)
