"""What a run left behind: its algorithm, its state, its networks, and samples of them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fgan.data.devices import working_device
from fgan.networks.functional import arity, copied, make_functional
from fgan.recipes import gan
from fgan.run import checkpoints, same_data
from fgan.run.best import read_checkpoint
from fgan.run.configuration import Config, Run
from fgan.run.json_files import read_object
from fgan.run.latents import latents
from fgan.run.loop import CONFIG
from fgan.run.weights import PLAYERS, fill, is_export, read_round, read_weights
from fgan.scalars import check_count, check_flag
from fgan.scores import as_scores, describe
from fgan.seeds import as_integer
from fgan.types import EMA, Algorithm, GANState, Params, PlayerState

__all__ = ["Trained", "load"]

_TOGETHER = 1000  # samples that are generated at once
_EMA = 0.999  # stands for the decay that the script chose, which samples do not depend on


@dataclass(frozen=True)
class ScriptConfig:
    """What is known of a run whose networks a script made."""

    data: str
    """What the data set is called."""
    conditional: bool
    """Whether the generator needs a condition."""
    image_size: None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A run as `fgan.load` reads it.

    Example:
        >>> generator = fgan.models.mlp_generator((2,), latent_dim=4, hidden=(8,))
        >>> critic = fgan.models.mlp_critic((2,), hidden=(8,))
        >>> points = fgan.data.DataSet("points", torch.randn(100, 2))
        >>> state = fgan.train(fgan.gan(generator, critic), points, rounds=1, out="runs/trained")
        round 1/1 ...
        >>> trained = fgan.load("runs/trained", generator=generator, critic=critic)
        >>> trained.sample(8, seed=1).shape, trained.generator(torch.zeros(3, 4)).shape
        (torch.Size([8, 2]), torch.Size([3, 2]))
    """

    algorithm: Algorithm
    """The run's algorithm. Of a script's run only `generate`, `score`, `init` and `noise` are
    known; the rest raises ValueError."""
    state: GANState
    """Of a script's run, and of a folder of `fgan export`, without the optimisers' moments."""
    config: Config | ScriptConfig
    class_names: tuple[str, ...]
    generator: nn.Module
    """In evaluation mode, with the EMA's weights where the run keeps an average; a copy. A run
    with autocast samples under it, and the module alone does not."""
    critic: nn.Module
    """In evaluation mode; a copy."""

    def sample(
        self,
        num: int,
        condition: str | int | Tensor | None = None,
        seed: int = 0,
        truncation: float | None = None,
    ) -> Tensor:
        """Samples [num, ...], on the device of the state.

        condition: the name or the number of a class, or a tensor [num, ...]; None stands for all
            classes in turn, or for no condition where the run has none.
        seed: of the latents.
        truncation: latents of the normal distribution truncated to ±truncation
            (`fgan.run.latents.truncated`).

        Raises ValueError for a condition that the run does not have, with the names of its classes.
        """
        labels = self.conditions(check_count("num", num), condition)
        return self.generate(
            latents(num, self.algorithm.latent_dim, self._like, seed, truncation), labels
        )

    def conditions(self, num: int, condition: str | int | Tensor | None = None) -> Tensor | None:
        """`condition`, as `sample` takes it, as a tensor [num, ...]; None without conditions."""
        names, device = self.class_names, self._like.device
        if condition is None and not self.config.conditional:
            return None
        takes_none = isinstance(self.config, Config) or arity(self.generator)[1] < 2
        if not self.config.conditional and takes_none:
            raise ValueError("the run is unconditional: leave the condition out")
        if condition is None:
            if not names:
                raise ValueError("the run has no class names: give its conditions, a tensor")
            return torch.arange(num, device=device) % len(names)
        if isinstance(condition, Tensor) and condition.ndim > 0:
            return self._checked(num, condition).to(device)
        return torch.full((num,), label_of(condition, names), device=device)

    def _checked(self, num: int, condition: Tensor) -> Tensor:
        if len(condition) != num:
            raise ValueError(
                f"{num} samples have {num} conditions, and {describe(condition)} was given"
            )
        known = len(self.class_names)
        if condition.dtype == torch.int64 and condition.ndim == 1 and known:
            low, high = (int(end) for end in condition.aminmax())
            label_of(low, self.class_names)
            label_of(high, self.class_names)
        return condition

    def generate(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """latent [B, Z] -> samples [B, ...], without gradients, a thousand at a time."""
        parts = latent.split(_TOGETHER)
        labels: Sequence[Tensor | None] = [None] * len(parts)
        if condition is not None:
            labels = condition.split(_TOGETHER)
        with torch.no_grad():
            made = [
                self.algorithm.generate(self.state, z, y)
                for z, y in zip(parts, labels, strict=True)
            ]
        return torch.cat(made)

    @property
    def _like(self) -> Tensor:
        return next(iter(self.state.generator.params.values()))


def load(
    folder: str | Path,
    device: torch.device | str | None = None,
    *,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    best: bool = False,
) -> Trained:
    """What the run in `folder` left behind, from its latest whole checkpoint.

    folder: of `fgan train` or `fgan.train`, or one that `fgan export --to safetensors` made.
    device: default: CUDA where there is one, else the CPU; that of `generator` where it is given.
    generator, critic: the networks of a run that a script made; `config.json` says nothing of
        them. Their weights and buffers are of no account, and they are not changed.
    best: take the best checkpoint in place of the latest, of a run that evaluated itself
        (`evaluate_every`); `state.round` tells its round.

    Raises ValueError for a folder without a run, for networks that are missing or do not fit, and
    `fgan.run.checkpoints.CheckpointError`, a ValueError, where no checkpoint can be used.

    Example:
        >>> generator = fgan.models.mlp_generator((2,), latent_dim=4, hidden=(8,))
        >>> critic = fgan.models.mlp_critic((2,), hidden=(8,))
        >>> points = fgan.data.DataSet("points", torch.randn(100, 2))
        >>> state = fgan.train(fgan.gan(generator, critic), points, rounds=1, out="runs/to-load")
        round 1/1 ...
        >>> trained = fgan.load("runs/to-load", generator=generator, critic=critic)
        >>> trained.sample(8).shape
        torch.Size([8, 2])
    """
    if not isinstance(folder, str | os.PathLike) or not str(folder):
        raise ValueError(f"folder is the path of a run's folder, and {describe(folder)} was given")
    folder = Path(folder)
    if (generator is None) != (critic is None):
        raise ValueError("generator and critic are given together, or neither of the two")
    players = None if generator is None or critic is None else _Players(generator, critic)
    for name, module in zip(PLAYERS, players or (), strict=False):
        if not isinstance(module, nn.Module):
            raise ValueError(f"the {name} is a torch.nn.Module, and {describe(module)} was given")
    target = _target(device, players)
    if players is not None:
        players = _Players(*(copied(module, str(target)) for module in players))
    if not os.path.lexists(folder / CONFIG):
        raise ValueError(f"there is no run in {folder}: no {CONFIG}")
    content = read_object(folder / CONFIG)
    check_flag("best", best)
    of_weights = is_export(folder)
    if of_weights and best:
        raise ValueError(f"{folder} is an export, which has one state: leave best out")
    if "recipe" in content:
        run = Run.load(folder / CONFIG)
        algorithm, players = _of_run(run, folder, target, players)
        if of_weights:
            state = _from_weights(folder, algorithm, players)
        else:
            like = algorithm.init()
            state = read_checkpoint(folder, best, lambda path: checkpoints.load(path, like))
        conditional = run.config.conditional and bool(run.class_names)  # not without classes
        config = replace(run.config, conditional=conditional)
        return _trained(algorithm, state, config, run.class_names, players)
    if players is None:
        raise ValueError(
            f"{folder / CONFIG} has no recipe: a script made the networks of this run, and hands "
            "them in: fgan.load(folder, generator=..., critic=...)"
        )
    data = same_data.of_json(content, folder / CONFIG)
    if of_weights:
        algorithm = _without_rounds(players, keeps_ema=False)
        state = _from_weights(folder, algorithm, players)
    else:
        algorithm, state = read_checkpoint(folder, best, partial(_of_script, players))
    trained = _trained(algorithm, state, ScriptConfig(data.name, False), data.class_names, players)
    of_script = ScriptConfig(data.name, _needs_condition(trained))
    return _trained(algorithm, state, of_script, data.class_names, players)


def label_of(condition: str | int | Tensor, names: Sequence[str]) -> int:
    """A class by its name or its number. Raises ValueError, with all names, for any other."""
    if isinstance(condition, str):
        if condition in names:
            return names.index(condition)
        number = int(condition) if condition.isdecimal() else None
    else:
        number = None if isinstance(condition, bool) else as_integer(condition)
    if number is not None and 0 <= number < len(names):
        return number
    if not names:
        raise ValueError("the run has no class names: give its conditions, a tensor [num, ...]")
    close = difflib.get_close_matches(str(condition), names, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise ValueError(
        f"{condition!r} is no class of this run{hint}; its classes are 0 to {len(names) - 1}: "
        f"{', '.join(names)}"
    )


class _Players(NamedTuple):
    generator: nn.Module
    critic: nn.Module


def _target(device: torch.device | str | None, players: _Players | None) -> torch.device:
    if device is None and players is not None:
        parameter = next(players.generator.parameters(), None)
        return torch.device("cpu") if parameter is None else parameter.device
    return working_device(device)


def _of_run(
    run: Run, folder: Path, device: torch.device, players: _Players | None
) -> tuple[Algorithm, _Players]:
    try:
        if players is not None:
            return run.algorithm(*players), players
        algorithm, *built = run.built(device)
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG}: {error}") from error
    return algorithm, _Players(*built)


def _of_script(players: _Players, path: Path) -> tuple[Algorithm, GANState]:
    """The algorithm and the state in a checkpoint of a script's run.

    Which optimisers the script took is not written down, so their moments are left out.
    """
    found = checkpoints.read(path)
    keeps_ema = any(name.startswith(".ema") for name in found)
    algorithm = _without_rounds(players, keeps_ema)
    known = {name: leaf for name, leaf in found.items() if ".opt_state" not in name}
    return algorithm, checkpoints.fitted(path, known, _bare(algorithm.init()))


def _bare(state: GANState) -> GANState:
    """The state without the optimisers' moments."""
    generator, critic = (
        PlayerState(p.params, p.buffers, {}) for p in (state.generator, state.critic)
    )
    return GANState(generator, critic, state.ema, state.round)


def _without_rounds(players: _Players, keeps_ema: bool) -> Algorithm:
    """An algorithm of networks that draws and scores; the recipe of its rounds is not known."""
    sizes = (getattr(players.generator, name, None) for name in ("latent_dim", "latent_shape"))
    if all(size is None for size in sizes):
        raise ValueError(
            f"{type(players.generator).__name__} does not say the size of its latent: set the "
            "attribute generator.latent_dim (or latent_shape) before fgan.load"
        )
    algorithm = gan(*players, ema_decay=_EMA if keeps_ema else None)
    apply = make_functional(players.critic).apply

    def score(state: GANState, samples: Tensor, condition: Tensor | None = None) -> Tensor:
        conditions = () if condition is None else (condition,)
        params, buffers, _ = state.critic
        output, _ = apply(params, buffers, samples, *conditions, training=False)
        # A critic with heads gives its scores first; which heads the script had is not known.
        return as_scores(output[0] if isinstance(output, tuple | list) else output, samples)

    return algorithm._replace(
        score=score, step=_refused, critic_update=_refused, generator_update=_refused
    )


def _refused(*_: Any, **__: Any) -> Any:
    raise ValueError(
        "a script made this run, and its recipe is not written down: the rounds are those of the "
        "script's own algorithm"
    )


def _from_weights(folder: Path, algorithm: Algorithm, players: _Players) -> GANState:
    """A first state with the weights of a folder of `fgan export`.

    The generator's are those of the EMA where one was kept; the moments begin anew.
    """
    for name, module in zip(PLAYERS, players, strict=True):
        read_weights(folder, name, module)
    state = algorithm.init()
    done = torch.full_like(state.round, read_round(folder))
    return GANState(state.generator, state.critic, state.ema, done)


def _trained(
    algorithm: Algorithm,
    state: GANState,
    config: Config | ScriptConfig,
    class_names: tuple[str, ...],
    players: _Players,
) -> Trained:
    kept = state.ema if isinstance(state.ema, EMA) else state.generator
    of_critic = state.critic

    def filled(module: nn.Module, params: Params, buffers: Params) -> nn.Module:
        device = next(iter(params.values())).device
        return fill(copied(module, str(device)), params | buffers).eval()

    generator = filled(players.generator, kept.params, kept.buffers)
    critic = filled(players.critic, of_critic.params, of_critic.buffers)
    return Trained(algorithm, state, config, class_names, generator, critic)


def _needs_condition(trained: Trained) -> bool:
    """Whether the generator takes a condition, and does not do without it."""
    fewest, most = arity(trained.generator)
    if most < 2 or fewest > 1:
        return fewest > 1
    try:
        trained.generate(
            torch.zeros(2, trained.algorithm.latent_dim, device="cpu").to(trained._like)
        )
    except Exception:  # a module that needs one says so in its own way
        return True
    return False
