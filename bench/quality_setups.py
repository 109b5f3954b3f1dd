"""What `quality.py` compares: recipes with their settings, and the data, budgets and bars."""

from typing import Any, NamedTuple

from fgan.data import DataSet
from fgan.penalties import SAMPLE_AT
from fgan.recipes import RECIPES
from fgan.run.configuration import Config
from fgan.run.presets import DEFAULT, complete

CONTESTANTS: dict[str, dict[str, Any]] = {
    "gan": {"recipe": "gan"},
    "gan minimax": {"recipe": "gan", "loss": "minimax"},
    "gan without R1": {"recipe": "gan", "gamma": 0.0},
    "wgan": {"recipe": "wgan"},
    "wgan-gp": {"recipe": "wgan-gp"},
    "hinge-gan": {"recipe": "hinge-gan"},
    "lsgan": {"recipe": "lsgan"},
    "dragan": {"recipe": "dragan"},
    "r3gan": {"recipe": "r3gan"},
    "wgan-div": {"recipe": "wgan-div"},
} | {
    f"wgan-div {at}": {"recipe": "wgan-div", "sample_at": at}
    for at in SAMPLE_AT
    if at != "real_and_fake"
}
"""Settings of the command line by the name in the table; all others are the preset's."""
PAPERS: dict[str, dict[str, Any]] = {
    f"{name} paper": {"recipe": name, "preset": "paper"} for name in RECIPES
}
"""The papers' values, which are played where they are named."""


class Preset(NamedTuple):
    """A data set and what a run on it may cost."""

    data: str
    contestants: tuple[str, ...]
    conditional: tuple[bool, ...] = (True, False)
    core_seconds: float | None = None
    seconds: float | None = None
    rounds: int | None = None
    """Where neither budget is given: of every run."""
    settings: dict[str, Any] = {}  # noqa: RUF012 (never written to)
    features: str = "classifier"
    accuracy: float = 0.0
    """That the classifier has at least."""
    frechet: float = 0.0
    """The bar of the time to quality, in the features of this preset."""
    label_accuracy: float = 0.85


PRESETS = {
    "fashion-mnist": Preset(
        "fashion-mnist", tuple(CONTESTANTS), rounds=13_000, accuracy=0.9, frechet=2.0
    ),
    "grid": Preset("grid", ("wgan-gp", "wgan-div"), (False,), rounds=24_000),
    "cifar10": Preset(
        "cifar10",
        tuple(CONTESTANTS),
        seconds=3600,
        settings={"model": "resnet", "width": 128, "batch_size": 64},
        features="inception",
    ),
    "toy": Preset("glyphs", ("wgan-gp",), (True,), rounds=2, frechet=1e9, label_accuracy=0.0),
}


def config_of(
    contestant: str, preset: Preset, conditional: bool, seed: int, rounds: int, data: DataSet
) -> Config:
    """The settings of a run, completed as `fgan train` completes them."""
    given = (CONTESTANTS | PAPERS)[contestant] | preset.settings
    given |= {"data": preset.data, "conditional": conditional, "seed": seed, "rounds": rounds}
    if preset is PRESETS["toy"]:
        given |= {"width": 4, "latent_dim": 4, "batch_size": 8, "compile": False}
    preset_name = given.pop("preset", DEFAULT)
    return complete(given, preset_name, data.sample_shape, data.num_classes)
