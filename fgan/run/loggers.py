"""Where the figures and pictures of a run go besides its folder: `fgan.train(loggers=...)`.

`MetricsFile`, the JSON lines of every run, is the first logger; `Curves` draws its picture.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

__all__ = ["Logger", "TensorBoard", "WandB"]


class Logger(Protocol):
    """What `fgan.train` tells of a run. What it raises ends the run, the last checkpoint kept.

    Example:
        >>> class Printed:
        ...     def on_round(self, done, figures):
        ...         print(done, figures)
        ...     def on_samples(self, done, samples, labels, picture):
        ...         pass
        ...     def on_end(self, done):
        ...         print("ended after", done)
        >>> logger: fgan.run.loggers.Logger = Printed()  # for fgan.train(loggers=[logger])
        >>> logger.on_round(3, {"penalty": 0.5})
        3 {'penalty': 0.5}
    """

    def on_round(self, done: int, figures: Mapping[str, float]) -> None:
        """After every logged round `done`: its figures by name, which are finite numbers."""

    def on_samples(
        self, done: int, samples: Tensor, labels: Tensor | None, picture: Path | None
    ) -> None:
        """After every checkpoint: samples [N, ...] of the fixed latents and their labels [N].

        picture: the file of their picture, or None where samples of that shape have none.
        """

    def on_end(self, done: int) -> None:
        """Once, after round `done`, when the run ends: complete, interrupted or with an error."""


def check_loggers(loggers: object) -> tuple[Logger, ...]:
    """The loggers as a tuple. Raises ValueError, naming the first that is none."""
    if not isinstance(loggers, Sequence):
        raise ValueError(f"loggers is a sequence of loggers, and {loggers!r} was given")
    for logger in loggers:
        for name in ("on_round", "on_samples", "on_end"):
            if not callable(getattr(logger, name, None)):
                raise ValueError(
                    f"a logger has on_round, on_samples and on_end (fgan.run.loggers.Logger), and "
                    f"{type(logger).__name__} has no {name}"
                )
    return tuple(loggers)


class TensorBoard:
    """Scalars and pictures for TensorBoard (extra `tensorboard`), in event files in `folder`.

    A run that is resumed into the same folder hides what a lost continuation wrote.

    Raises ValueError where TensorBoard is not installed.

    Example:
        >>> logger = fgan.run.loggers.TensorBoard("runs/board")  # for fgan.train(loggers=[logger])
        >>> logger.on_round(1, {"penalty": 0.5})
        >>> logger.on_end(1)
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError as error:
            raise ValueError(
                "TensorBoard is not installed: pip install 'fgan[tensorboard]', or pip install "
                "tensorboard"
            ) from error
        self._make: Callable[..., Any] = tensorboard.SummaryWriter
        self._folder = str(folder)
        self._writer: Any = None

    def on_round(self, done: int, figures: Mapping[str, float]) -> None:
        """A scalar for every figure."""
        for name, value in figures.items():
            self._opened(done).add_scalar(name, value, done)

    def on_samples(
        self, done: int, samples: Tensor, labels: Tensor | None, picture: Path | None
    ) -> None:
        """The picture, where there is one; all so far reaches the disk."""
        writer = self._opened(done)
        if picture is not None:
            with Image.open(picture) as image:
                pixels = np.asarray(image.convert("RGB"))
            writer.add_image("samples", pixels, done, dataformats="HWC")
        writer.flush()

    def on_end(self, done: int) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _opened(self, done: int) -> Any:
        if self._writer is None:  # only now is the round known that a resumed run goes on from
            self._writer = self._make(self._folder, purge_step=done)
        return self._writer


class WandB:
    """Figures, and on request pictures, for a tracker: any object with `log(dict, step=...)`.

    run: such as `wandb.init(...)` (extra `wandb`), or a local tracker with the same interface.
        Whoever made it finishes it.
    image: makes of the path of a picture what the tracker logs as one, such as `wandb.Image`;
        without it no pictures are logged.

    Raises ValueError for a `run` without `log`.

    Example:
        >>> class Tracker:
        ...     def log(self, figures, step):
        ...         print(step, figures)
        >>> fgan.run.loggers.WandB(Tracker()).on_round(3, {"penalty": 0.5})
        3 {'penalty': 0.5}
    """

    def __init__(self, run: Any, image: Callable[[str], Any] | None = None) -> None:
        if not callable(getattr(run, "log", None)):
            raise ValueError(
                f"run has a method log(dict, step=...), as wandb.init gives it, and {run!r} was "
                "given"
            )
        self._run, self._image = run, image

    def on_round(self, done: int, figures: Mapping[str, float]) -> None:
        """All figures at once, at the step `done`."""
        self._run.log(dict(figures), step=done)

    def on_samples(
        self, done: int, samples: Tensor, labels: Tensor | None, picture: Path | None
    ) -> None:
        """The picture, where there is one and `image` was given."""
        if self._image is not None and picture is not None:
            self._run.log({"samples": self._image(str(picture))}, step=done)

    def on_end(self, done: int) -> None:
        """Nothing: the run of the tracker belongs to whoever made it."""
