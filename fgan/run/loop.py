"""The loop around the pure step: everything that touches clocks, files, signals and the screen."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fgan.data import DataSet, batches, fingerprint, load
from fgan.run import checkpoints, pictures, same_data
from fgan.run.configuration import Run
from fgan.run.metrics import MetricsFile
from fgan.scalars import check_count
from fgan.seeds import mix_seed
from fgan.types import Algorithm, GANInfo, GANState

if TYPE_CHECKING:
    from fgan.run.progress import Display

CONFIG, CHECKPOINT = "config.json", "checkpoint.pt"
METRICS, SAMPLES = "metrics.jsonl", "samples"
MOST_COLUMNS = 16  # classes beyond that are left out of the picture, not out of the training


class DivergenceError(RuntimeError):
    """A figure of the run is no longer finite."""


def train(
    algorithm: Algorithm,
    data: str | DataSet,
    *,
    rounds: int,
    out: str | Path,
    batch_size: int = 64,
    seed: int = 0,
    conditional: bool = True,
    resume: bool = False,
    log_every: int = 10,
    sample_every: int | None = None,
    display: Display | None = None,
    run: Run | None = None,
) -> GANState:
    """Train for `rounds` rounds and return the final state.

    Every random number follows from `seed`. The folder `out` gets `metrics.jsonl` (a line every
    `log_every` rounds), `samples/round-NNNNNN.png` (fixed latents, a column per class when
    `conditional`) and `checkpoint.pt`, both every `sample_every` rounds (default: ten times) and at
    the end. With `resume`, the run goes on from the checkpoint in `out`, and on the CPU it ends in
    the same bits as one that was never interrupted. Ctrl-C ends the run after the round in
    progress, with everything saved; a second one at once. A `run` is written as `config.json`, and
    without one the data's fingerprint alone; a run that is resumed with other data is refused.

    Raises ValueError before the first round for settings and data that do not fit, and for an `out`
    that holds another run; `fgan.run.checkpoints.CheckpointError` for a checkpoint that cannot be
    used; DivergenceError where a loss is no longer finite, with the last good checkpoint left in
    place.
    """
    for name, value in (("rounds", rounds), ("log_every", log_every), ("batch_size", batch_size)):
        check_count(name, value)
    if sample_every is not None:
        check_count("sample_every", sample_every)
    if algorithm.members:
        raise ValueError("fgan.train trains one run: step a population in a loop of your own")
    every = sample_every or max(1, rounds // 10)
    if out == "":
        raise ValueError("out is the run's folder, and an empty string was given")
    out = Path(out)
    state = algorithm.init(seed)
    device = state.round.device
    data = load(data, device=device) if isinstance(data, str) else data
    identity = fingerprint(data)
    if resume:
        same_data.check(out / CONFIG, identity)
        state = checkpoints.load(out / CHECKPOINT, like=state)
    elif (out / CHECKPOINT).exists():
        raise ValueError(f"{out} holds another run: resume it, or choose another folder")
    start = int(state.round)
    if start >= rounds:
        raise ValueError(f"{out} has {start} rounds already, and {rounds} were asked for")
    stream = batches(
        data, batch_size, algorithm.n_critic, rounds - start, seed, device, conditional, start=start
    )
    latent, labels = fixed_samples(algorithm, data, seed, conditional, state)
    # What does not fit fails here.
    drawn = draw_samples(algorithm, state, latent, labels, data)
    with torch.no_grad():
        algorithm.score(state, drawn, labels)

    (out / SAMPLES).mkdir(parents=True, exist_ok=True)
    if run is None:
        same_data.save(out / CONFIG, identity, keep=resume)
    else:
        replace(run, data=identity).save(out / CONFIG)
    with ExitStack() as stack:
        metrics = MetricsFile(out / METRICS, start)
        stack.callback(metrics.close)
        from fgan.run.progress import Display  # rich takes as long to import as all of fgan

        screen = stack.enter_context(display or Display(rounds, start))
        stopping = stack.enter_context(_interruptible())
        for index, batch in zip(range(start, rounds), stream, strict=True):
            state, info = algorithm.step(state, batch, algorithm.noise(seed, index, batch_size))
            done = index + 1
            stopped = stopping.is_set()  # once: a Ctrl-C from here on ends the next round
            last = done == rounds or stopped
            screen.advance(done)
            if done % log_every == 0 or last:
                figures = _figures(info, done)
                metrics.write(done, figures)
                screen.show(done, figures)
            if done % every == 0 or last:
                _figures(info, done)
                checkpoints.save(out / CHECKPOINT, state)
                samples = draw_samples(algorithm, state, latent, labels, data)
                save_samples(out / SAMPLES / f"round-{done:06d}.png", samples, labels, data)
            if stopped:
                break
    return state


def fixed_samples(
    algorithm: Algorithm, data: DataSet, seed: int, conditional: bool, like: GANState
) -> tuple[Tensor, Tensor | None]:
    """Latents [N, Z], the same ones for a whole run, and labels [N] that cycle through the classes.

    Images: eight rows. Points: two thousand of them.
    """
    points = len(data.sample_shape) == 1
    columns = min(data.num_classes, MOST_COLUMNS) if conditional else 8
    count = 2000 if points else 8 * columns
    parameter = next(iter(like.generator.params.values()))
    source = torch.Generator().manual_seed(mix_seed(seed, _FIXED))
    latent = torch.randn(count, algorithm.latent_dim, generator=source, device="cpu")
    latent = latent.to(parameter)
    if not conditional:
        return latent, None
    return latent, torch.arange(count, device=parameter.device) % columns


_FIXED = 3  # keeps these latents apart from those that rounds draw


def draw_samples(
    algorithm: Algorithm, state: GANState, latent: Tensor, labels: Tensor | None, data: DataSet
) -> Tensor:
    """Samples from fixed latents; raises ValueError where they do not have the data's shape."""
    with torch.no_grad():
        samples = algorithm.generate(state, latent, labels)
    if tuple(samples.shape[1:]) != data.sample_shape:
        raise ValueError(
            f"the generator makes samples of shape {list(samples.shape[1:])}, and those of "
            f"{data.name} are {list(data.sample_shape)}"
        )
    return samples


def save_samples(path: Path, samples: Tensor, labels: Tensor | None, data: DataSet) -> None:
    """Write samples as a picture: a scatter plot of points, or a grid of images."""
    if samples.ndim == 2:
        pictures.save_points(path, samples, labels, real=data.samples[: 2 * len(samples)])
    elif labels is None:
        pictures.save_images(path, samples, columns=8)
    else:
        names = data.class_names[:MOST_COLUMNS]
        pictures.save_images(path, samples, columns=len(names), headings=names)


def _figures(info: GANInfo, done: int) -> dict[str, float]:
    """The round's figures as numbers: the one place where the host waits for the device."""
    named = {name: value for name, value in info._asdict().items() if name != "terms"} | info.terms
    values = torch.stack([value.double() for value in named.values()]).tolist()
    figures = dict(zip(named, values, strict=True))
    for name, value in figures.items():
        if not math.isfinite(value):
            raise DivergenceError(
                f"round {done}: {name} is {value}. What was saved before is kept; start a run "
                "with a smaller learning rate or a stronger constraint"
            )
    return figures


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into an event, so that no round is cut in half; the second cuts."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may handle signals
        return

    def ask(signum: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
