"""What a run from the command line is made of, and how its networks and recipe are built."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import torch
from torch import nn

from fgan import models
from fgan.data import Fingerprint
from fgan.data.files import replacing
from fgan.data.memory import gib, machine_memory
from fgan.recipes import RECIPES, critic_warmup
from fgan.run import same_data
from fgan.run.json_files import read_object, shown
from fgan.scalars import check_count
from fgan.types import Algorithm

MODELS = ("auto", "mlp", "conv", "resnet")

QUICK_RATE = 1e-3
"""The learning rate of a run from the command line, which should show something within minutes; the
papers' rates are for runs of 10⁵ rounds on larger networks."""

_OWN_SETTINGS = ("loss", "clip", "penalty_weight", "k", "p", "sample_at", "gamma")
"""Settings that only some recipes have: those whose entry in the registry names them."""


_COPIES = 3  # of a parameter in training, at least: itself, its gradient, an optimiser's average


@dataclass(frozen=True)
class Config:
    """A run's settings; None stands for the default of the recipe, or of the network."""

    recipe: str = "wgan-gp"
    data: str = "glyphs"
    image_size: int | None = None
    conditional: bool = True
    rounds: int = 500
    batch_size: int = 64
    seed: int = 0
    model: str = "auto"
    latent_dim: int = 64
    width: int | None = None
    critic_norm: str | None = None
    n_critic: int | None = None
    lr: float | None = None
    ema_decay: float | None = 0.99
    update: str = "alternating"
    loss: str | None = None
    clip: float | None = None
    critic_warmup: bool | None = None
    penalty_weight: float | None = None
    k: float | None = None
    p: float | None = None
    sample_at: str | None = None
    gamma: float | None = None
    log_every: int = 10
    sample_every: int | None = None

    def __post_init__(self) -> None:
        if self.recipe not in RECIPES:
            raise ValueError(f"unknown recipe {self.recipe!r}; known are {', '.join(RECIPES)}")
        if self.model not in MODELS:
            raise ValueError(f"unknown model {self.model!r}; known are {', '.join(MODELS)}")
        counts = ("rounds", "batch_size", "latent_dim", "width", "log_every", "sample_every")
        for name in counts:
            value = getattr(self, name)
            if value is not None:
                check_count(name, value)
        owners = {
            name: [r for r, known in RECIPES.items() if name in known.own] for name in _OWN_SETTINGS
        }
        for name, recipes in (owners | {"critic_warmup": ["wgan"]}).items():
            if getattr(self, name) is not None and self.recipe not in recipes:
                raise ValueError(
                    f"{name} is a setting of {' and '.join(recipes)}, not {self.recipe}"
                )


@dataclass(frozen=True)
class Run:
    """A configuration and what it was applied to: enough to build the networks without the data."""

    config: Config
    sample_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    data: Fingerprint | None = None
    """The data's identity; None until it is known."""

    def save(self, path: Path) -> None:
        """Write as JSON, with the kind of the networks in place of "auto"."""
        content = asdict(self.config) | {"model": self.model}
        content |= (
            {"sample_shape": self.sample_shape, "class_names": self.class_names}
            if self.data is None
            else same_data.as_json(self.data)
        )
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> "Run":
        """Read what `save` wrote.

        Raises ValueError where it cannot be read, naming the file, and the key where there is one.
        """
        if not os.path.lexists(path):
            raise ValueError(f"there is no run in {path.parent}: no {path.name}")
        content = read_object(path)
        data = same_data.of_json(content, path)
        for name in ("sample_shape", "class_names", same_data.KEY):
            content.pop(name, None)
        if "recipe" not in content:
            raise ValueError(
                f"{path} has no recipe: a script made the networks of this run, and only a script "
                "can build them again"
            )
        _check_types(content, path)
        try:
            return Run(Config(**content), data.sample_shape, data.class_names, data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def model(self) -> str:
        """The networks' kind: as it was set, or chosen by the shape of a sample for "auto"."""
        return _model_for(self.sample_shape) if self.config.model == "auto" else self.config.model

    def build(self, device: torch.device | str = "cpu") -> Algorithm:
        """The algorithm with fresh networks on `device`.

        Raises ValueError where the settings, the recipe and the sample's shape do not fit, and
        where the networks cannot be held in memory.
        """
        self._check_size()
        with torch.device("cpu"):  # whatever the default device is
            generator, critic = self._networks()
        return self._recipe()(generator.to(device), critic.to(device))

    def _check_size(self) -> None:
        """Build the networks on the device meta, which takes no memory, and add up their bytes."""
        settings = f"networks of width {self.config.width}, latent_dim {self.config.latent_dim}"
        try:
            with torch.device("meta"):
                players = self._networks()
        except (RuntimeError, OverflowError, TypeError) as error:  # sizes beyond what torch counts
            raise ValueError(f"{settings}: too large to be built; make them smaller") from error
        tensors = [t for player in players for t in (*player.parameters(), *player.buffers())]
        needed = _COPIES * sum(t.numel() * t.element_size() for t in tensors)
        if needed > (there := machine_memory()):
            raise ValueError(
                f"{settings}: they and their optimisers take {gib(needed)}, and this machine has "
                f"{gib(there)}: make them smaller"
            )

    def _recipe(self) -> Callable[[nn.Module, nn.Module], Algorithm]:
        config = self.config
        settings: dict[str, Any] = {
            name: getattr(config, name)
            for name in (*_OWN_SETTINGS, "n_critic")
            if getattr(config, name) is not None
        }
        if config.critic_warmup:
            settings["n_critic"] = critic_warmup(config.n_critic or 5)
        recipe = RECIPES[config.recipe]
        chosen = recipe.optimizer(QUICK_RATE if config.lr is None else config.lr)
        settings |= {"generator_optimizer": chosen, "critic_optimizer": chosen}
        settings |= {"ema_decay": config.ema_decay, "update": config.update}
        return lambda generator, critic: recipe.function(generator, critic, **settings)

    def _networks(self) -> tuple[nn.Module, nn.Module]:
        config, shape = self.config, self.sample_shape
        kind = self.model
        conditions: dict[str, Any] = {
            "num_classes": len(self.class_names) or None if config.conditional else None
        }
        norm = config.critic_norm or "none"
        width: dict[str, Any] = {} if config.width is None else {"width": config.width}
        if kind == "mlp":
            hidden = {"hidden": (config.width,) * 3} if config.width is not None else {}
            points = {"norm": "none", "hidden": (config.width or 128,) * 3}
            mine: dict[str, Any] = points if len(shape) == 1 else hidden
            return (
                models.mlp_generator(shape, config.latent_dim, **conditions, **mine),
                models.mlp_critic(shape, **conditions, **mine | {"norm": norm}),
            )
        if (kind, len(shape)) not in _BY_AXES:
            makes = "images" if kind == "resnet" else "signals, images and volumes"
            raise ValueError(f"the {kind} networks make {makes}, and a sample is {list(shape)}")
        make, judge = _BY_AXES[kind, len(shape)]
        return (
            make(shape, config.latent_dim, **conditions, **width),
            judge(shape, norm=norm, **conditions, **width),
        )


_BY_AXES: dict[tuple[str, int], tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    ("conv", 2): (models.conv1d_generator, models.conv1d_critic),
    ("conv", 3): (models.conv_generator, models.conv_critic),
    ("conv", 4): (models.conv3d_generator, models.conv3d_critic),
    ("resnet", 3): (models.resnet_generator, models.resnet_critic),
}
"""The convolutional networks, by name and the number of axes of a sample, channels included."""


def _model_for(shape: tuple[int, ...]) -> str:
    """The smallest network that suits samples of this shape."""
    if len(shape) == 3 and shape[1] == shape[2] > 64 and shape[1] & (shape[1] - 1) == 0:
        return "resnet"
    return "conv" if ("conv", len(shape)) in _BY_AXES else "mlp"


def _check_types(content: dict[str, Any], path: Path) -> None:
    """Raise ValueError for the first entry that is no setting, or is of another type."""
    hints = get_type_hints(Config)
    for name, value in content.items():
        if name not in hints:
            raise ValueError(
                f"{path}: {shown(name)} is no setting of this version of fgan; known are "
                f"{', '.join(hints)}"
            )
        kinds = get_args(hints[name]) or (hints[name],)
        if type(value) not in kinds and not (float in kinds and _is_number(value)):
            wanted = " or ".join(_KINDS[kind] for kind in kinds)
            raise ValueError(f"{path}: {name} is {wanted}, and {shown(value)} stands there")


_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    NoneType: "null",
}


def _is_number(value: object) -> bool:
    """Whether a JSON value can stand for a float: 1 for 1.0, unless it is too large."""
    return type(value) is int and abs(value) < 2**1000
