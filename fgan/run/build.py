"""From settings to networks, optimisers and an algorithm."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fgan import augment, models
from fgan.accumulation import accumulate
from fgan.data.memory import gib, machine_memory
from fgan.optim import Optimizer, cosine, linear
from fgan.recipes import RECIPES, critic_warmup
from fgan.run.settings import Config
from fgan.scalars import Scalar, widest
from fgan.types import Algorithm, CriticUpdates

EMA_HORIZON = 15
"""The generator's average has the decay 1 - 15 / rounds: its half-life is a 22nd of the rounds."""
QUICK_RATE = 1e-3
"""The learning rate of a run from the command line, which should show something within minutes; the
papers' rates are for runs of 10⁵ rounds on larger networks."""

_NEVER = 10**9  # rounds, which no run comes to the end of

_COPIES = 3  # of a parameter in training, at least: itself, its gradient, an optimiser's average

Players = tuple[nn.Module, nn.Module]


def model_of_0_1(shape: tuple[int, ...]) -> str:
    """What "auto" stood for in version 0.1, in whose configurations it stands unresolved."""
    if len(shape) == 3 and shape[1] == shape[2]:
        if shape[1] in (28, 32, 64):
            return "conv"
        if shape[1] > 64 and shape[1] & (shape[1] - 1) == 0:
            return "resnet"
    return "mlp"


def model_of(config: Config, shape: tuple[int, ...]) -> str:
    """The networks' kind: as it was set, or the smallest that suits samples of this shape."""
    if config.model != "auto":
        return config.model
    if len(shape) == 3 and shape[1] == shape[2] > 64 and shape[1] & (shape[1] - 1) == 0:
        return "resnet"
    return "conv" if ("conv", len(shape)) in _BY_AXES else "mlp"


def players(
    config: Config, shape: tuple[int, ...], num_classes: int, device: torch.device | str
) -> Players:
    """Fresh networks on `device`.

    Raises ValueError where the settings and the sample's shape do not fit, and where the networks
    cannot be held in memory.
    """
    sizes(config, shape, num_classes)
    with torch.device("cpu"):  # whatever the default device is
        generator, critic = networks(config, shape, num_classes)
    return generator.to(device), critic.to(device)


def algorithm_of(
    config: Config, shape: tuple[int, ...], generator: nn.Module, critic: nn.Module
) -> Algorithm:
    """The recipe with these settings. Raises ValueError where they do not fit the networks."""
    settings = _settings(config) | {"augmentation": _augmentation(config, shape)}
    algorithm = RECIPES[config.recipe].function(generator, critic, **settings)
    return algorithm if config.accumulate == 1 else accumulate(algorithm, config.accumulate)


def sizes(config: Config, shape: tuple[int, ...], num_classes: int) -> tuple[int, int]:
    """The parameters of generator and critic, counted on the device meta, which takes no memory.

    Raises ValueError for networks that cannot be held in memory.
    """
    settings = f"networks of width {config.width}, latent_dim {config.latent_dim}"
    try:
        with torch.device("meta"):
            players = networks(config, shape, num_classes)
    except (RuntimeError, OverflowError, TypeError) as error:  # sizes beyond what torch counts
        raise ValueError(f"{settings}: too large to be built; make them smaller") from error
    tensors = [t for player in players for t in (*player.parameters(), *player.buffers())]
    needed = _COPIES * sum(t.numel() * t.element_size() for t in tensors)
    if needed > (there := machine_memory()):
        raise ValueError(
            f"{settings}: they and their optimisers take {gib(needed)}, and this machine has "
            f"{gib(there)}: make them smaller"
        )
    generator, critic = (sum(p.numel() for p in player.parameters()) for player in players)
    return generator, critic


def networks(config: Config, shape: tuple[int, ...], num_classes: int) -> Players:
    """Generator and critic. Raises ValueError for settings that these networks do not have."""
    kind = model_of(config, shape)
    classes = num_classes if config.conditional and num_classes else None
    ours: dict[str, Any] = {"num_classes": classes}
    if kind == "mlp":
        _check_absent(config, kind, "full_resolution", "attention")
        _check_absent(config, kind, "generator_conditioning", "critic_conditioning")
        return _mlps(config, shape, ours)
    if (kind, len(shape)) not in _BY_AXES:
        makes = "images" if kind == "resnet" else "signals, images and volumes"
        raise ValueError(f"the {kind} networks make {makes}, and a sample is {list(shape)}")
    make, judge = _BY_AXES[kind, len(shape)]
    ours |= {"attention": config.attention}
    ours |= {} if config.width is None else {"width": config.width}
    if kind == "resnet":
        _check_absent(config, kind, "full_resolution")
        full = {}
    else:
        full = {"full_resolution": config.full_resolution}
    of_generator, of_critic = config.generator_conditioning, config.critic_conditioning
    return (
        make(shape, config.latent_dim, conditioning=of_generator, **full, **ours),
        judge(shape, norm=config.critic_norm or "none", conditioning=of_critic, **ours),
    )


def _mlps(config: Config, shape: tuple[int, ...], conditions: dict[str, Any]) -> Players:
    hidden = {"hidden": (config.width,) * 3} if config.width is not None else {}
    points = {"norm": "none", "hidden": (config.width or 128,) * 3}
    mine: dict[str, Any] = points if len(shape) == 1 else hidden
    return (
        models.mlp_generator(shape, config.latent_dim, **conditions, **mine),
        models.mlp_critic(shape, **conditions, **mine | {"norm": config.critic_norm or "none"}),
    )


_BY_AXES: dict[tuple[str, int], tuple[Callable[..., nn.Module], Callable[..., nn.Module]]] = {
    ("conv", 2): (models.conv1d_generator, models.conv1d_critic),
    ("conv", 3): (models.conv_generator, models.conv_critic),
    ("conv", 4): (models.conv3d_generator, models.conv3d_critic),
    ("resnet", 3): (models.resnet_generator, models.resnet_critic),
}
"""The convolutional networks, by name and the number of axes of a sample, channels included."""


def _check_absent(config: Config, kind: str, *names: str) -> None:
    """Raise ValueError for a setting that the networks of this kind do not have."""
    for name in names:
        if getattr(config, name) not in (False, "one_hot"):
            raise ValueError(
                f"{name} is no setting of the {kind} networks: leave it out, or choose another "
                "--model"
            )


def _settings(config: Config) -> dict[str, Any]:
    """The keywords of the recipe that do not depend on the data."""
    recipe = RECIPES[config.recipe]
    settings: dict[str, Any] = {
        name: getattr(config, name)
        for name in recipe.own
        if getattr(config, name, None) is not None
    }
    n_critic: CriticUpdates = config.critic_updates()
    if config.critic_warmup:
        n_critic = critic_warmup(config.critic_updates())
    optimizers = {
        "generator_optimizer": _optimizer(config, config.lr_generator, 1),
        "critic_optimizer": _optimizer(config, config.lr_critic, n_critic),
    }
    autocast = None if config.autocast is None else getattr(torch, config.autocast)
    others = {"update": config.update, "ema_decay": _average(config), "autocast": autocast}
    return settings | optimizers | others | {"n_critic": n_critic}


def _average(config: Config) -> Scalar | None:
    """The decay of the generator's average: constant, or at first that of a run so far.

    With `ema_warmup` it is 1 - 15 / (rounds + 1) up to `ema_decay`, so that an average in the
    middle of a run has forgotten the first rounds as the average at its end has. A constant decay
    makes the average stand still at first: after t rounds, the weights of the beginning count
    decay^t. An average of this form is a power function of the rounds (Karras et al. 2024, arXiv
    2312.02696, section 3.1).
    """
    limit = config.ema_decay
    if limit is None or not config.ema_warmup:
        return limit
    most: float = limit

    def schedule(count: Tensor) -> Tensor:
        return (1 - EMA_HORIZON / (widest(count) + 1)).clamp(0.0, most)

    return schedule


def _optimizer(config: Config, own_rate: float | None, updates: CriticUpdates) -> Optimizer:
    """A player's optimiser: its own rate, that of both, or the default of the command line."""
    rate = next(each for each in (own_rate, config.lr, QUICK_RATE) if each is not None)
    betas = {} if config.betas is None else {"betas": config.betas}
    return RECIPES[config.recipe].optimizer(_decayed(config, rate, updates), **betas)


def _decayed(config: Config, rate: float, updates: CriticUpdates) -> Scalar:
    """The rate as a function of the player's updates: constant, then falling to 0.

    updates: of this player in a round, a number or a function of the round's index.
    """
    if config.decay == "none" or config.rounds > _NEVER:
        return rate
    first_round = int(config.decay_from * config.rounds)
    if callable(updates):
        begin = sum(map(updates, range(first_round)))
        end = begin + sum(map(updates, range(first_round, config.rounds)))
    else:
        begin, end = first_round * updates, config.rounds * updates
    falling = {"linear": linear, "cosine": cosine}[config.decay](rate, 0.0, end - begin)

    def schedule(count: Tensor) -> float | Tensor:
        return falling((count - begin).clamp(min=0))

    return schedule


def _augmentation(config: Config, shape: tuple[int, ...]) -> augment.Augmentation | None:
    """The augmentations of the configuration as one."""
    if not config.augmentations:
        return None
    if len(shape) < 2:
        raise ValueError(
            f"augment is for samples with channels, such as images, and a sample is {list(shape)}"
        )
    axes = len(shape) - 1
    make = {
        "colour": augment.colour,
        "translation": lambda: augment.translation(axes=axes),
        "cutout": lambda: augment.cutout(axes=axes),
        "flip": augment.flip,
    }
    return augment.chain(*(make[name]() for name in config.augmentations))
