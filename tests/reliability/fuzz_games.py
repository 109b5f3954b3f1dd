"""Small games: networks, an algorithm, one round's inputs, and a twin for the expected values."""

import copy
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import fgan
from fgan.types import EMA

sys.path.append(str(Path(__file__).parent.parent))
from twin import POINTS, Twin, div, gp

__all__ = ["GAMES", "POINTS", "Game", "game"]

LATENT, CLASSES, SIZE, UPDATES = 3, 6, 4, 2


class Seeded(nn.Module):
    """A module of which the same one can be had twice."""

    @classmethod
    def seeded(cls) -> "Seeded":
        """One with the parameters of a fixed seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            return cls()


class OwnGenerator(Seeded):
    """[B, 3] -> [B, *shape], as a user would write it: nothing is checked."""

    def __init__(self, shape: tuple[int, ...] = (5,)) -> None:
        super().__init__()
        self.latent_dim, self.shape = LATENT, shape
        self.first = nn.Linear(LATENT, 7)
        self.last = nn.Linear(7, torch.Size(shape).numel())

    def forward(self, z: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(z))).reshape(-1, *self.shape)


class OwnLabelledGenerator(OwnGenerator):
    """The same with labels [B], added as an embedding: a single label would broadcast."""

    def __init__(self, shape: tuple[int, ...] = (5,)) -> None:
        super().__init__(shape)
        self.label = nn.Embedding(CLASSES, 7)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        h = torch.tanh(self.first(z) + self.label(y))
        return self.last(h).reshape(-1, *self.shape)


class OwnCritic(Seeded):
    """[B, *shape] -> [B, 1]"""

    def __init__(self, shape: tuple[int, ...] = (5,)) -> None:
        super().__init__()
        self.first = nn.Linear(torch.Size(shape).numel(), 8)
        self.last = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x.flatten(1))))


class OwnLabelledCritic(OwnCritic):
    """The same with labels [B], by projection: a single label would broadcast."""

    def __init__(self, shape: tuple[int, ...] = (5,)) -> None:
        super().__init__(shape)
        self.label = nn.Embedding(CLASSES, 8)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = torch.tanh(self.first(x.flatten(1)))
        return self.last(h) + (h * self.label(y)).sum(dim=1, keepdim=True)


Modules = tuple[nn.Module, nn.Module]


def _own(shape: tuple[int, ...] = (5,)) -> Modules:
    return OwnGenerator(shape), OwnCritic(shape)


def _own_labelled() -> Modules:
    return OwnLabelledGenerator(), OwnLabelledCritic()


def _models(classes: int | None = None, shape: tuple[int, ...] = (5,), norm: str = "none",
            of_critic: str = "none") -> Modules:  # fmt: skip
    return (
        fgan.models.mlp_generator(shape, LATENT, classes, hidden=(7, 6), norm=norm),
        fgan.models.mlp_critic(shape, classes, hidden=(8,), norm=of_critic),
    )


def _relativistic(generator: nn.Module, critic: nn.Module, **options: Any) -> Any:
    """With real scores in the generator's loss, a draw, and a penalty of every second round."""
    from fgan.objectives import Draw, GeneratorObjective, Penalty, adversarial
    from fgan.objectives import adversarial_generator as of_generator
    from fgan.penalties import Points, zero_centered_penalty

    near = Penalty(
        zero_centered_penalty, 0.5,
        at=lambda data: Points(data.real + 0.1 * data.extra["shift"], ()), name="near real",
    )  # fmt: skip
    objective = adversarial(fgan.losses.relativistic_critic_loss, near)
    player = of_generator(fgan.losses.relativistic_generator_loss, uses_real=True)
    assert isinstance(player, GeneratorObjective)
    return fgan.make_algorithm(
        generator, critic, objective._replace(draws={"shift": Draw(shape=(5,))}), player,
        generator_optimizer=fgan.adam(1e-3), critic_optimizer=fgan.sgd(1e-2, 0.9), **options,
    )  # fmt: skip


class Game:
    """An algorithm beside its modules and the inputs of a round."""

    def __init__(
        self,
        name: str,
        build: Callable[..., Any],
        modules: Callable[[], Modules],
        spec: dict[str, Any] | None = None,
        torch_optimizer: Callable[..., Any] | None = None,
        *,
        wrap: Callable[[Any], Any] | None = None,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            self.generator, self.critic = (m.to(dtype) for m in modules())
        self.name, self.spec, self.torch_optimizer = name, spec, torch_optimizer
        self.options, self.dtype = options, dtype
        self.updates = 1 if options.get("update") == "simultaneous" else UPDATES
        options.setdefault("n_critic", self.updates)
        self.plain = build(self.generator, self.critic, **options)
        self.algorithm = wrap(self.plain) if wrap else self.plain
        self.members = bool(self.algorithm.members)
        is_labelled = isinstance(self.generator, OwnLabelledGenerator)
        self.classes = getattr(self.generator, "num_classes", CLASSES if is_labelled else None)
        # A compiled step reads no labels.
        self.strict = hasattr(self.generator, "num_classes") and name != "compiled"
        shape = getattr(self.generator, "sample_shape", None) or self.generator.shape
        self.shape = tuple(shape)
        seed: Any = (3, 4) if self.members else 3
        self.seed = seed
        self.state = self.algorithm.init(seed)
        self.noise = self.algorithm.noise(seed, 0, SIZE)
        source = torch.Generator().manual_seed(7)
        options_of = dict(generator=source, dtype=dtype)
        self.real = torch.randn(self.updates, SIZE, *self.shape, **options_of)
        labels = torch.randint(self.classes or 1, (self.updates, SIZE), generator=source)
        self.condition = labels if self.classes else None
        self.batch = fgan.Batch(self.real, self.condition)
        # A batch's axis first, or that of the members before it.
        self.latent = self.noise.generator_latent
        self.shared_latent = torch.randn(SIZE, LATENT, **options_of)
        self.extra = {k: v for k, v in self.noise.extra.items()}

    def loaded(self, state: Any, part: str = "generator") -> nn.Module:
        """The module with the parameters and buffers of a state."""
        module = copy.deepcopy(self.critic if part == "critic" else self.generator)
        kept = state.ema if part == "ema" and isinstance(state.ema, EMA) else None
        player = kept or (state.critic if part == "critic" else state.generator)
        module.load_state_dict({**player.params, **player.buffers})
        return module

    def twin(self) -> Twin:
        """The imperative loop that starts where the state stands."""
        assert self.spec is not None
        assert self.torch_optimizer is not None
        return Twin(
            self.loaded(self.state), self.loaded(self.state, "critic"), self.spec,
            self.torch_optimizer, self.options.get("ema_decay"),
        )  # fmt: skip

    def label(self, i: int) -> tuple[Tensor, ...]:
        """The condition of critic update i, as the twin takes it."""
        return () if self.condition is None else (self.condition[i],)


_ADAM = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))
_GP = partial(torch.optim.Adam, lr=1e-4, betas=(0.0, 0.9))
_RMS = partial(torch.optim.RMSprop, lr=5e-5)
_WGAN = dict(loss="wasserstein", clip=0.01)


def _interpreted(algorithm: Any) -> Any:
    return fgan.compile(algorithm, donate=False, backend="interpreter")


def _rates(generator: nn.Module, critic: nn.Module, **options: Any) -> Any:
    """A function of a learning rate, for a population of values."""
    return lambda rate: fgan.wgan(generator, critic, critic_optimizer=fgan.rmsprop(rate), **options)


GAMES: dict[str, Callable[[], Game]] = {
    "gan": lambda: Game("gan", fgan.gan, _own, dict(loss="non_saturating"), _ADAM),
    "minimax": lambda: Game(
        "minimax", fgan.gan, _own_labelled, dict(loss="minimax"), _ADAM, loss="minimax",
        ema_decay=0.9),
    "wgan": lambda: Game("wgan", fgan.wgan, _own, _WGAN, _RMS, ema_decay=0.9),
    "wgan_gp": lambda: Game("wgan_gp", fgan.wgan_gp, _own_labelled, gp(), _GP),
    "wgan_div": lambda: Game(
        "wgan_div", fgan.wgan_div, partial(_models, CLASSES), div(), _ADAM, ema_decay=0.9),
    "norms": lambda: Game(
        "norms", fgan.wgan_gp, partial(_models, None, (5,), "batch", "spectral"), gp(), _GP),
    "simultaneous": lambda: Game(
        "simultaneous", fgan.gan, partial(_models, CLASSES, (1, 2, 3)),
        dict(loss="non_saturating"), _ADAM, update="simultaneous"),
    "relativistic": lambda: Game("relativistic", _relativistic, _own),
    "float64": lambda: Game(
        "float64", fgan.wgan_gp, partial(_own, (2, 3)), gp(), _GP, dtype=torch.float64),
    "accumulated": lambda: Game(
        "accumulated", fgan.wgan_gp, partial(_models, CLASSES), gp(), _GP,
        wrap=lambda a: fgan.accumulate(a, 2)),
    "population": lambda: Game("population", fgan.wgan, _own, _WGAN, _RMS, wrap=fgan.population),
    "values": lambda: Game(
        "values", _rates, partial(_models, CLASSES),
        wrap=lambda f: fgan.population(f, torch.tensor([1e-3, 1e-4]))),
    "compiled": lambda: Game(
        "compiled", fgan.wgan_gp, partial(_models, CLASSES), gp(), _GP, wrap=_interpreted),
}  # fmt: skip


@cache
def game(name: str) -> Game:
    """The game of that name, built once."""
    return GAMES[name]()


@cache
def other_states(name: str) -> dict[str, Any]:
    """States of other networks, optimisers and runs, with which a game may be confused."""
    own = game(name)
    seed: Any = own.seed

    def wide() -> Modules:
        first, second = OwnGenerator(own.shape), OwnCritic(own.shape)
        first.first, first.last = nn.Linear(3, 9), nn.Linear(9, torch.Size(own.shape).numel())
        second.first, second.last = nn.Linear(torch.Size(own.shape).numel(), 9), nn.Linear(9, 1)
        return first.to(own.dtype), second.to(own.dtype)

    def of(modules: Modules) -> Any:
        other = fgan.gan(*modules, generator_optimizer=fgan.adam(1e-3))
        return fgan.population(other).init(seed) if own.members else other.init(seed)

    first = fgan.models.mlp_generator(own.shape, LATENT, own.classes, hidden=(17,))
    second = fgan.models.mlp_critic(own.shape, own.classes, hidden=(18,))
    found = {
        "of wider networks": of(wide()),
        "of other networks": of((first.to(own.dtype), second.to(own.dtype))),
        "of a population" if not own.members else "of one run": (
            own.plain.init(3) if own.members and not callable(own.plain)
            else fgan.population(fgan.gan(*_own(own.shape))).init((0, 1)) if not own.members
            else fgan.gan(*_own(own.shape)).init(0)
        ),
    }  # fmt: skip
    return found


@cache
def other_noises(name: str) -> dict[str, Any]:
    """Noise of other sizes."""
    own = game(name)
    draw = own.algorithm.noise
    wide = OwnGenerator(own.shape)
    wide.latent_dim, wide.first = 8, nn.Linear(8, 7)
    other = fgan.gan(wide.to(own.dtype), OwnCritic(own.shape).to(own.dtype), n_critic=own.updates)
    found = {
        "of another batch size": draw(own.seed, 0, SIZE + 1),
        "of another latent size": (
            fgan.population(other).noise(own.seed, 0, SIZE) if own.members
            else other.noise(own.seed, 0, SIZE)
        ),
    }  # fmt: skip
    if own.members:
        found["of one run"] = fgan.gan(*_own(own.shape), n_critic=own.updates).noise(0, 0, SIZE)
    return found
