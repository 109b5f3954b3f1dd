"""What a new run gets where neither a flag nor a file says so: presets by name.

A preset completes the settings that were given, once the shape of a sample is known. All that it
chose is written into the run's `config.json`.
"""

from collections.abc import Callable
from typing import Any

from fgan.recipes import RECIPES
from fgan.run.build import EMA_HORIZON, QUICK_RATE, model_of
from fgan.run.settings import Config

Given = dict[str, Any]

_ADAM: Given = {"betas": (0.0, 0.99)}
_FOR_MINUTES: Given = {
    "n_critic": 1,
    "decay": "linear",
    "decay_from": 0.1,
}
_FOR_IMAGES: Given = _FOR_MINUTES | {
    "lr": 3e-3,
    "batch_size": 32,
    "generator_conditioning": "batch_norm",
    "critic_conditioning": "projection",
}
_ON_IMAGES: dict[str, Given] = {
    "gan": _FOR_IMAGES | _ADAM | {"gamma": 1.0},
    "wgan": _FOR_IMAGES | {"clip": 0.05},
    "wgan-gp": _FOR_IMAGES | _ADAM | {"penalty_weight": 1.0},
    "wgan-div": _FOR_IMAGES | _ADAM | {"k": 1.0, "p": 6.0},
    "hinge-gan": _FOR_IMAGES | _ADAM | {"critic_norm": "spectral"},
    "lsgan": _FOR_IMAGES | _ADAM | {"critic_norm": "spectral"},
    "dragan": _FOR_IMAGES | _ADAM | {"penalty_weight": 1.0},
    "r3gan": _FOR_IMAGES | _ADAM | {"gamma": 1.0},
}
"""The choice for convolutional networks on images, by recipe."""

_FOR_POINTS: Given = _FOR_MINUTES | _ADAM | {"lr": 2e-3, "batch_size": 256}
_ON_POINTS: dict[str, Given] = {
    "wgan-gp": _FOR_POINTS | {"penalty_weight": 0.1},
    "wgan-div": _FOR_POINTS,
}
"""The choice for points of at most three numbers, by recipe."""
_POINTS_OF_A_RUN = 12_288_000
"""24,000 rounds of one critic update and one generator update on batches of 256."""

_IMAGES_OF_A_RUN = 832_000
"""13,000 rounds of one critic update and one generator update on batches of 32."""
_DIGITS_OF_A_RUN = 128_000
"""The same for `glyphs`, whose digits are crisp after 2,000 such rounds."""


def minutes(given: Given, shape: tuple[int, ...], num_classes: int) -> Given:
    """Settings for a run of minutes on two cores of a CPU.

    They were found by trying on 28 x 28 images and on 25 Gaussians in the plane. With samples or
    networks of another kind the defaults of the fields remain.
    """
    chosen: Given = {"lr": QUICK_RATE}
    if len(shape) == 1 and shape[0] <= 3:
        return _on_points(chosen, given, shape[0])
    if not _has_conv_images(given, shape):
        return chosen | given
    chosen |= {"full_resolution": True, "ema_warmup": True} | _ON_IMAGES[Config(**given).recipe]
    if not (Config(**given).conditional and num_classes):
        chosen = {k: v for k, v in chosen.items() if not k.endswith("conditioning")}
    chosen |= given
    rounds = chosen.setdefault("rounds", _rounds(Config(**chosen), _images(given)))
    return {"ema_decay": average(rounds)} | chosen


def _on_points(chosen: Given, given: Given, width: int) -> Given:
    recipe = Config(**given).recipe
    if recipe not in _ON_POINTS:
        return chosen | given
    # As many latent numbers as coordinates: a map from more to fewer has blurred modes.
    chosen |= {"latent_dim": width} | _ON_POINTS[recipe] | given
    rounds = chosen.setdefault("rounds", _rounds(Config(**chosen), _POINTS_OF_A_RUN))
    return {"ema_decay": average(rounds)} | chosen


def paper(given: Given, shape: tuple[int, ...], num_classes: int) -> Given:
    """The values of each recipe's paper, with its learning rate, and the generator not averaged.

    Papers train for 10⁵ rounds and more: give --rounds.
    """
    recipe = Config(**given).recipe
    chosen: Given = {"lr": RECIPES[recipe].lr, "ema_decay": None}
    chosen |= {"critic_norm": "spectral"} if recipe == "hinge-gan" else {}
    chosen |= given
    if _has_conv_images(given, shape):
        chosen.setdefault("rounds", _rounds(Config(**chosen), _images(given)))
    return chosen


DEFAULT = "minutes"
PRESETS: dict[str, Callable[[Given, tuple[int, ...], int], Given]] = {
    DEFAULT: minutes,
    "paper": paper,
}
"""From settings that were given, a sample's shape and the number of classes to all settings."""


def complete(given: Given, preset: str, shape: tuple[int, ...], num_classes: int) -> Config:
    """The settings of a new run on samples of this shape, of so many classes or of none.

    Raises ValueError for an unknown preset, and for settings that do not go together.
    """
    check_preset(preset)
    return Config(**PRESETS[preset](given, shape, num_classes))


def check_preset(name: str) -> None:
    """Raise ValueError for an unknown preset."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")


def average(rounds: int) -> float:
    """The decay of the generator's average: 1 - 15 / rounds, and from 0.9 to 0.9995.

    The half-life is then a 22nd of the run, whatever its length: the average has forgotten the bad
    generators of the start, and still evens out the rounds at the end.
    """
    return round(min(max(1 - EMA_HORIZON / rounds, 0.9), 0.9995), 5)


def _has_conv_images(given: Given, shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and model_of(Config(**given), shape) == "conv"


def _images(given: Given) -> int:
    return _DIGITS_OF_A_RUN if Config(**given).data == "glyphs" else _IMAGES_OF_A_RUN


def _rounds(config: Config, samples: int) -> int:
    """As many rounds as the samples of a run allow, counted with those of both players."""
    of_round = config.batch_size * (config.critic_updates() + 1)
    return max(100, 100 * round(samples / of_round / 100))
