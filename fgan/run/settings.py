"""The settings of a run from the command line: one table of names, types, defaults and help.

The flags of `fgan train`, the keys of `config.json` and those of a TOML file are the fields of
`Config`. A field's default is what a configuration without that key means, so it never changes: a
run is resumed with what it was trained with. What a new run gets is in `fgan.run.presets`.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from fgan.data import NAMES
from fgan.optim import adam
from fgan.penalties import SAMPLE_AT
from fgan.recipes import RECIPES
from fgan.run.json_files import shown
from fgan.scalars import check_count, check_scalar

MODELS = ("auto", "mlp", "conv", "resnet")
DECAYS = ("none", "linear", "cosine")
AUGMENTATIONS = ("colour", "translation", "cutout", "flip")
LOGGERS = ("tensorboard", "wandb")

_OWN_SETTINGS = ("loss", "clip", "penalty_weight", "k", "p", "sample_at", "gamma")
"""Settings that only some recipes have: those whose entry in the registry names them."""


def _setting(group: str, default: Any, metavar: str, help: str, off: str = "") -> Any:
    """A field of `Config`.

    group: the heading of its flag in `fgan train --help`.
    metavar: of the flag's value; "" for a field that is true or false.
    off: a further flag that sets the field to False.
    """
    about = help.format(default=default)
    metadata = {"group": group, "metavar": metavar, "help": about, "off": off}
    return field(default=default, metadata=metadata)


_of_run = partial(_setting, "the run")
_of_networks = partial(_setting, "the networks")
_of_optimisers = partial(_setting, "the optimisers")
_of_recipe = partial(_setting, "the recipe")


@dataclass(frozen=True)
class Config:
    """A run's settings; None stands for the default of the recipe, or of the network.

    Raises ValueError for a value out of range, and for settings that do not go together.

    Example:
        >>> from fgan.run.configuration import Config
        >>> config = Config(recipe="wgan-div", data="rings", rounds=100)
        >>> config.recipe, config.n_critic  # None: that of the recipe
        ('wgan-div', None)
    """

    recipe: str = _of_run("wgan-gp", "RECIPE", f"{', '.join(RECIPES)} (default: {{default}})")
    data: str = _of_run("glyphs", "NAME", f"{', '.join(NAMES)} (default: {{default}})")
    image_size: int | None = _of_run(None, "S", "folder:PATH: the middle squares, resized")
    skip_broken: bool = _of_run(
        False, "", "folder:PATH: leave broken files out, and count them (default: an error)"
    )
    flip: bool = _of_run(
        False, "", "images mirrored left to right, each with probability 1/2 (default: no)"
    )
    init_from: str | None = _of_run(
        None, "RUN", "the folder of a run, from whose weights this one starts"
    )
    init_round: int | None = _of_run(
        None, "N", "the round of the checkpoint to start from (default: the latest)"
    )
    conditional: bool = _of_run(
        True, "", "with the classes as conditions (default: yes)", off="--unconditional"
    )
    rounds: int = _of_run(500, "N", "in total (default: by the preset, else {default})")
    batch_size: int = _of_run(64, "B", "(default: by the preset, else {default})")
    seed: int = _of_run(0, "S", "of all random numbers (default: {default})")
    compile: bool | None = _of_run(
        None, "", "compile the steps (default: on CUDA, and on the CPU where the rounds repay it)"
    )
    accumulate: int = _of_run(1, "N", "parts that a batch is taken in (default: {default})")
    augment: str | None = _of_run(
        None, "NAMES", f"what the critic sees real and fake under: {','.join(AUGMENTATIONS)}"
    )
    log_every: int = _of_run(10, "N", "rounds between lines of figures (default: {default})")
    sample_every: int | None = _of_run(None, "N", "rounds between pictures and checkpoints")
    evaluate_every: int | None = _of_run(
        None, "N", "rounds between evaluations; the best checkpoint is kept (default: none)"
    )
    logger: str | None = _of_run(
        None, "NAMES", f"also log figures and pictures to: {', '.join(LOGGERS)} (default: none)"
    )

    model: str = _of_networks("auto", "NAME", f"{', '.join(MODELS)} (default: by the data)")
    latent_dim: int = _of_networks(64, "Z", "(default: by the preset, else {default})")
    width: int | None = _of_networks(None, "W", "channels or units (default: by the network)")
    critic_norm: str | None = _of_networks(
        None, "NORM", "none, layer, group, instance, spectral, weight"
    )
    generator_conditioning: str = _of_networks(
        "one_hot", "WAY", "one_hot or batch_norm (default: by the preset, else {default})"
    )
    critic_conditioning: str = _of_networks(
        "one_hot", "WAY", "one_hot or projection (default: by the preset, else {default})"
    )
    full_resolution: bool = _of_networks(
        False, "", "a stage of conv generators at full resolution (default: by the preset)"
    )
    attention: bool = _of_networks(False, "", "self-attention in both networks (default: no)")
    autocast: str | None = _of_networks(None, "DTYPE", "bfloat16: run the networks in it")

    lr: float | None = _of_optimisers(None, "RATE", "learning rate of both players")
    lr_generator: float | None = _of_optimisers(None, "RATE", "that of the generator")
    lr_critic: float | None = _of_optimisers(None, "RATE", "that of the critic")
    betas: tuple[float, float] | None = _of_optimisers(
        None, "BETA", "of Adam (default: by the preset, else by the recipe)"
    )
    decay: str = _of_optimisers(
        "none", "WAY", f"of both rates to 0: {', '.join(DECAYS)} (default: by the preset)"
    )
    decay_from: float = _of_optimisers(
        0.5, "SHARE", "of the rounds before the rates fall (default: by the preset, else {default})"
    )
    ema_decay: float | None = _of_optimisers(
        0.99, "E", "of the generator's average (default: by the preset, else {default})"
    )
    ema_warmup: bool = _of_optimisers(
        False, "", "shorter averaging at the start of the run (default: by the preset)"
    )

    n_critic: int | None = _of_recipe(None, "N", "critic updates a round")
    update: str = _of_recipe("alternating", "WAY", "{default} (default) or simultaneous")
    loss: str | None = _of_recipe(None, "LOSS", "gan: non_saturating (default) or minimax")
    clip: float | None = _of_recipe(None, "C", "wgan: bound of the critic's weights")
    critic_warmup: bool | None = _of_recipe(None, "", "wgan: 100 updates at first")
    penalty_weight: float | None = _of_recipe(
        None, "LAMBDA", "wgan-gp, dragan (default: by the preset, else 10)"
    )
    k: float | None = _of_recipe(None, "K", "wgan-div (default: by the preset, else 2)")
    p: float | None = _of_recipe(None, "P", "wgan-div (default: 6)")
    sample_at: str | None = _of_recipe(None, "PU", f"wgan-gp, wgan-div: {', '.join(SAMPLE_AT)}")
    gamma: float | None = _of_recipe(
        None, "G", "gan: R1 (default: by the preset, else 0); r3gan (default: 1)"
    )

    def __post_init__(self) -> None:
        _check_names(self)
        counts = ("rounds", "batch_size", "latent_dim", "width", "log_every", "sample_every")
        for name in (*counts, "evaluate_every", "init_round", "accumulate", "n_critic"):
            value = getattr(self, name)
            if value is not None:
                check_count(name, value)
        for name in ("lr", "lr_generator", "lr_critic"):
            if getattr(self, name) is not None:
                check_scalar(f"{name}: a learning rate", getattr(self, name), 0.0)
        check_scalar("decay_from", self.decay_from, 0.0, 1.0)
        if self.init_round is not None and self.init_from is None:
            raise ValueError("init_round is a round of the run in init_from, which is not given")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate is {self.accumulate}, and batch_size {self.batch_size} has no "
                f"{self.accumulate} equal parts"
            )
        owners = {
            name: [r for r, known in RECIPES.items() if name in known.own] for name in _OWN_SETTINGS
        }
        owners["betas"] = [r for r, known in RECIPES.items() if _has_adam(known.optimizer)]
        for name, recipes in (owners | {"critic_warmup": ["wgan"]}).items():
            if getattr(self, name) is not None and self.recipe not in recipes:
                raise ValueError(
                    f"{name} is a setting of {' and '.join(recipes)}, not {self.recipe}"
                )

    @property
    def augmentations(self) -> tuple[str, ...]:
        """The names in `augment`."""
        return () if self.augment is None else tuple(self.augment.split(","))

    @property
    def loggers(self) -> tuple[str, ...]:
        """The names in `logger`, each once."""
        return () if self.logger in (None, "none") else tuple(dict.fromkeys(self.logger.split(",")))

    def critic_updates(self) -> int:
        """Critic updates of a round, without the warm-up."""
        if self.n_critic is not None:
            return self.n_critic
        return 1 if self.update == "simultaneous" else RECIPES[self.recipe].n_critic


def _check_names(config: Config) -> None:
    """Raise ValueError for a value that is none of the known names."""
    known = {
        "recipe": tuple(RECIPES),
        "model": MODELS,
        "decay": DECAYS,
        "generator_conditioning": ("one_hot", "batch_norm"),
        "critic_conditioning": ("one_hot", "projection"),
        "autocast": (None, "bfloat16"),
    }
    for name, values in known.items():
        if (value := getattr(config, name)) not in values:
            names = ", ".join(str(each) for each in values if each is not None)
            raise ValueError(f"unknown {name} {value!r}; known are {names}")
    for name in config.augmentations:
        if name not in AUGMENTATIONS:
            raise ValueError(
                f"unknown augmentation {name!r} in augment; known are {', '.join(AUGMENTATIONS)}, "
                "several with commas between them"
            )
    for name in config.loggers:
        if name not in LOGGERS:
            raise ValueError(
                f"unknown logger {name!r}; known are {', '.join(LOGGERS)}, several with commas "
                "between them, and none"
            )


def _has_adam(optimizer: Any) -> bool:
    return getattr(optimizer, "func", optimizer) is adam


KIND_OF: dict[str, Any] = get_type_hints(Config)
"""The type of each setting."""


def check_types(content: dict[str, Any], path: Path, *, null: bool = True) -> None:
    """Raise ValueError for the first entry that is no setting, or is of another type.

    null: whether the file's format has a value that stands for None.
    """
    for name, value in content.items():
        if name not in KIND_OF:
            raise ValueError(
                f"{path}: {shown(name)} is no setting of this version of fgan; known are "
                f"{', '.join(KIND_OF)}"
            )
        kinds = [kind for kind in kinds_of(name) if null or kind is not NoneType]
        if not any(_is_of(kind, value) for kind in kinds):
            wanted = " or ".join(_KINDS[get_origin(kind) or kind] for kind in kinds)
            raise ValueError(f"{path}: {name} is {wanted}, and {shown(value)} stands there")


def kinds_of(name: str) -> tuple[Any, ...]:
    """The types that a setting's value may have: `int | None` is two."""
    hint = KIND_OF[name]
    return (hint,) if get_origin(hint) is tuple else get_args(hint) or (hint,)


def as_values(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a file, or flags, as values of `Config`: a list is a tuple."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
    }


_KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a string",
    tuple: "a list of two numbers",
    NoneType: "null",
}


def _is_of(kind: Any, value: object) -> bool:
    """Whether a value of a file is of a type; 1 stands for 1.0, unless it is too large."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        return (
            isinstance(value, list) and len(value) == len(kinds) and all(map(_is_of, kinds, value))
        )
    if kind is float and type(value) is int:
        return abs(value) < 2**1000
    return type(value) is kind
