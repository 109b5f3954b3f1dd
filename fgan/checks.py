"""What must hold before a round is worth its time; each raises ValueError and says what to do.

All of it is about shapes and settings, never about values, so it can be traced, and makes nothing
wait for a device.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from fgan import tree
from fgan.networks import ALTERNATIVES, check_module, mixing_layers
from fgan.optim import Optimizer, check_alike
from fgan.scalars import Scalar, check_count, check_scalar
from fgan.scores import check_rows, check_tensor, describe
from fgan.seeds import as_integer
from fgan.types import EMA, Batch, CriticUpdates, Draw, Extra, GANState, Noise, PlayerState


def check_per_sample(critic: nn.Module) -> None:
    check_module("the critic", critic)
    if mixing := mixing_layers(critic):
        raise ValueError(
            f"the critic's {', '.join(map(repr, mixing))} mixes the samples of a batch "
            f"(BatchNorm), and this penalty is defined per sample. {ALTERNATIVES}"
        )


def check_samples(real: Tensor, fake: Tensor) -> None:
    """Raise ValueError unless fakes have the shape, dtype and device of the real samples."""
    if not isinstance(fake, Tensor):
        raise ValueError(
            f"a generator gives one tensor of samples, and this one gave {describe(fake)}: return "
            "the samples alone"
        )
    check_tensor("fake", fake, like=real)
    if real.shape != fake.shape:
        raise ValueError(
            f"the generator makes samples of shape {list(fake.shape[1:])} and the data are "
            f"{list(real.shape[1:])} (batch sizes {fake.shape[0]} and {real.shape[0]})"
        )
    # The caller's own autocast makes fakes of its dtype.
    if real.dtype != fake.dtype and not torch.is_autocast_enabled(real.device.type):
        wanted = str(fake.dtype).removeprefix("torch.")
        raise ValueError(
            f"real samples are {str(real.dtype).removeprefix('torch.')} and fake ones, the "
            f"generator's, {wanted}: convert the data, real.to(torch.{wanted})"
        )


def check_latent(latent: object, latent_dim: int) -> None:
    if not isinstance(latent, Tensor) or latent.ndim != 2 or latent.shape[1] != latent_dim:
        given = list(latent.shape) if isinstance(latent, Tensor) else describe(latent)
        raise ValueError(
            f"the latent is [B, latent_dim] = [B, {latent_dim}], and {given} was given"
        )


def check_condition(condition: object, size: int, like: Tensor | None = None) -> None:
    """Raise ValueError unless there is a condition for each of `size` samples, or none at all."""
    if isinstance(condition, tuple | list | dict):
        raise ValueError(
            f"the condition is one tensor [{size}, ...] or None, and {describe(condition)} was "
            "given: concatenate several conditions along their last axis"
        )
    if condition is not None:
        check_tensor("the condition", condition, like, floating=False)
        check_rows("the condition", condition, size)


def check_type(name: str, value: object, kind: type, advice: str) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is a {kind.__name__}, and {describe(value)} was given: {advice}")


def check_gan_state(state: object, *fields: str) -> None:
    """Raise ValueError unless this is a state whose players and count are what they should be."""
    check_type("the state", state, GANState, _INIT)
    for field in fields:
        kind = Tensor if field == "round" else PlayerState
        if not isinstance(getattr(state, field), kind):
            check_type(f"state.{field}", getattr(state, field), kind, _INIT)


_INIT = "algorithm.init makes one"


def check_critic_inputs(
    state: GANState,
    real: Tensor,
    condition: object,
    latent: object,
    mix: object,
    fake: object,
    extra: Extra,
) -> None:
    """Raise ValueError unless everything that a critic's update is given has a row a sample."""
    check_gan_state(state, "critic", "round")
    check_real(real, state)
    size = real.shape[0]
    check_condition(condition, size, real)
    if fake is None and latent is None:
        raise ValueError("a critic update needs latents, or else the fakes themselves")
    if fake is None:
        check_tensor("latent", latent, real)
        check_rows("latent", latent, size, "real samples")
    else:
        check_tensor("fake", fake, real)
    if mix is not None:  # penalties at a named place read it, and refuse None themselves
        check_tensor("mix", mix, real)
        assert isinstance(mix, Tensor)
        if mix.shape != (size,):
            raise ValueError(
                f"mix has one number a sample, [{size}], and {list(mix.shape)} was given"
            )
    _check_extra(extra, real)


def check_generator_inputs(
    state: GANState, latent: Tensor, condition: object, real: Tensor | None, extra: Extra
) -> None:
    """Raise ValueError unless everything that a generator's update is given has a row a sample."""
    check_gan_state(state, "generator")
    check_tensor("the latent", latent)
    if latent.ndim < 2:
        raise ValueError(f"the latent is a tensor [B, Z], and {describe(latent)} was given")
    check_condition(condition, latent.shape[0], latent)
    if real is not None:
        check_real(real, state)
        check_rows("real", real, latent.shape[0], "latents")
    _check_extra(extra, latent)


def _check_extra(extra: object, like: Tensor) -> None:
    """`check_draws` checks the shapes of declared tensors. The objective checks all others."""
    if not isinstance(extra, dict):
        raise ValueError(f"extra is a dict of tensors by name, and {describe(extra)} was given")
    for name, tensor in extra.items():
        check_tensor(f"extra[{name!r}]", tensor, like, floating=False)


def check_draws(draws: dict[str, Draw], extra: Extra, rows: Tensor, like: Tensor | None) -> None:
    """Raise ValueError unless there is every tensor that an objective has declared.

    rows: a tensor with the rows, dtype and device of the update.
    like: its samples, where they are known; a draw without a shape of its own has theirs.
    """
    for name, draw in draws.items():
        if name not in extra:
            raise ValueError(
                f"the objective has declared the random tensor {name!r}, and extra="
                f"{describe(extra)} was given without it: algorithm.noise draws it"
            )
        check_tensor(f"extra[{name!r}]", extra[name], rows)
        check_rows(f"extra[{name!r}]", extra[name], rows.shape[0])
        if extra[name].dtype is not rows.dtype:
            raise ValueError(
                f"extra[{name!r}] is {extra[name].dtype}, and what it meets {rows.dtype}: "
                "algorithm.noise draws it"
            )
        rest = draw.shape if draw.shape is not None else None if like is None else like.shape[1:]
        given = tuple(extra[name].shape[1:])
        if rest is not None and given != tuple(rest):
            raise ValueError(
                f"the random tensor {name!r} is [B, ...] with {list(rest)} for each sample, and it "
                f"has {list(given)}"
            )


def check_real(real: Tensor, state: GANState | None = None) -> None:
    check_type("real", real, Tensor, "samples [B, ...]")
    if real.ndim == 0:
        raise ValueError(f"real samples are a tensor [B, ...], and {describe(real)} was given")
    if not real.is_floating_point():
        raise ValueError(
            f"real samples are floating point, and {real.dtype} was given: normalise them"
        )
    check_tensor("real", real, like=None if state is None else state.round)


def check_average(state: GANState, is_kept: bool) -> None:
    """Raise ValueError where a state has an EMA and the algorithm keeps none, or the reverse."""
    ema = state.ema
    if isinstance(ema, EMA) and is_kept:
        for field in ("params", "buffers"):
            check_alike(f"the EMA's {field}", getattr(ema, field), getattr(state.generator, field))
    elif isinstance(ema, EMA) or is_kept:
        kept, has = ("keeps an", "has none") if is_kept else ("keeps no", "has one")
        raise ValueError(
            f"the algorithm {kept} EMA of the generator (ema_decay), and the state {has}: take a "
            "state of this algorithm, algorithm.init"
        )


def check_round(
    batch: Batch, noise: Noise, latent_dim: int, uses_real: bool, like: Tensor | None = None
) -> None:
    """Raise ValueError unless a batch and noise make a round.

    uses_real: whether a generator's update needs a real sample for each latent.
    like: a tensor on the device that all has to be on.
    """
    check_type("the batch", batch, Batch, "fgan.Batch(real [n_critic, B, ...], condition)")
    check_type("the noise", noise, Noise, "algorithm.noise(seed, round_index, batch_size) draws it")
    check_real(batch.real)
    for name, value in ("critic_latent", noise.critic_latent), ("mix", noise.mix):
        check_tensor(f"noise.{name}", value, like)
    check_tensor("noise.generator_latent", noise.generator_latent, like)
    check_tensor("batch.real", batch.real, like)
    for name, value in ("critic", noise.critic_latent), ("generator", noise.generator_latent):
        if value.dtype is not batch.real.dtype:
            raise ValueError(
                f"batch.real is {batch.real.dtype}, and noise.{name}_latent, in the dtype of the "
                f"networks, {value.dtype}: convert the data, real.to({value.dtype})"
            )
    if batch.real.ndim < 2:
        raise ValueError(f"batch.real is [n_critic, B, ...], and it is {list(batch.real.shape)}")
    if batch.condition is not None and not isinstance(batch.condition, Tensor):
        check_condition(batch.condition, batch.real.shape[0])
    if batch.condition is not None:
        check_tensor("batch.condition", batch.condition, like, floating=False)
    lead = tuple(batch.real.shape[:2])
    if min(lead) < 1:
        raise ValueError(
            "a round needs at least one critic update of at least one sample, and batch.real "
            f"begins with [n_critic, B] = {list(lead)}"
        )
    for name, tensor in [
        ("noise.critic_latent", noise.critic_latent),
        ("noise.mix", noise.mix),
        ("batch.condition", batch.condition),
    ]:
        if tensor is not None and tuple(tensor.shape[:2]) != lead:
            raise ValueError(
                f"batch.real begins with [n_critic, B] = {list(lead)}, and {name} with "
                f"{list(tensor.shape[:2])}"
            )
    if tuple(noise.critic_latent.shape[-2:]) != (lead[1], latent_dim):
        raise ValueError(
            f"noise.critic_latent ends with [B, latent_dim] = {[lead[1], latent_dim]}, and it is "
            f"{list(noise.critic_latent.shape)}"
        )
    latents = noise.generator_latent.shape
    if len(latents) != 2 or latents[1] != latent_dim or latents[0] < 1:
        raise ValueError(
            f"noise.generator_latent is [B, latent_dim] = {[lead[1], latent_dim]}, and it is "
            f"{list(latents)}"
        )
    if (uses_real or batch.condition is not None) and latents[0] > lead[0] * lead[1]:
        raise ValueError(
            f"noise.generator_latent has {latents[0]} latents, and the batch {lead[0] * lead[1]} "
            "real samples: the generator's update takes a condition or real sample for each latent"
        )


def check_members(
    lead: tuple[int, ...], batch: Batch, noise: Noise, latent_dim: int, uses_real: bool
) -> None:
    """`check_round` for a population, with noise for as many members as its state has."""
    given = (
        noise.critic_latent.shape[1:-2],
        noise.generator_latent.shape[:-2],
        noise.mix.shape[1:-1],
    )
    if any(tuple(other) != lead for other in given):
        raise ValueError(
            "a population's noise comes from its own `noise(seeds, ...)`, one seed a member: the "
            f"state has members {list(lead)}, and the noise {[list(other) for other in given]}"
        )
    first: Any = (0,) * len(lead)  # the first member's part of the noise
    in_each: Any = (slice(None), *first)
    latents, mix = noise.critic_latent[in_each], noise.mix[in_each]
    only = Noise(latents, noise.generator_latent[first], mix)
    check_round(batch, only, latent_dim, uses_real)


def check_state(
    members: tuple[int | None, ...], values: object, state: GANState
) -> tuple[int, ...]:
    """The members of a state: as many as the population has, and where its values are.

    Within `vmap` a number on the CPU does not mix with tensors of another device.
    """
    check_gan_state(state, "generator", "critic", "round")
    lead = tuple(state.round.shape)
    if len(lead) != len(members) or any(
        known not in (None, size) for known, size in zip(members, lead, strict=True)
    ):
        wanted = ", ".join("any number" if known is None else str(known) for known in members)
        raise ValueError(
            "a population's state comes from its own `init(seeds)`, one seed a member: its members "
            f"are [{wanted}], and the state's {list(lead)}"
        )
    for value in tree.leaves(values):
        if isinstance(value, Tensor) and value.device != state.round.device:
            raise ValueError(
                f"the values are on {value.device} and the state on {state.round.device}: give "
                "fgan.population values on the device of the networks"
            )
    return lead


def check_seeds(seeds: object, members: int | None) -> None:
    if not isinstance(seeds, Sequence) or isinstance(seeds, str):
        raise ValueError(f"a population takes a sequence of seeds, one a member, not {seeds!r}")
    for seed in seeds:
        if as_integer(seed) is None and not isinstance(seed, Sequence):
            raise ValueError(f"a seed of a population is an integer, and {seed!r} was given")
    if not seeds or members not in (None, len(seeds)):
        wanted = "at least one seed" if members is None else f"as many seeds as members, {members}"
        raise ValueError(f"a population takes {wanted}, and {len(seeds)} were given")


def latent_shape_of(
    generator: nn.Module, latent_dim: object, latent_shape: object
) -> tuple[int, ...]:
    """The shape of one latent, of the settings or else of the generator's attributes."""
    if latent_dim is None and latent_shape is None:
        latent_dim = getattr(generator, "latent_dim", None)
    if latent_shape is None:
        latent_shape = getattr(generator, "latent_shape", None)
    if latent_dim is None and latent_shape is None:
        raise ValueError(
            f"{type(generator).__name__} has no attribute latent_dim: pass latent_dim=..."
        )
    dim = None if latent_dim is None else check_count("latent_dim", latent_dim)
    if latent_shape is None:
        assert dim is not None
        return (dim,)
    shape = _sizes("latent_shape", latent_shape)
    if not shape or dim not in (None, prod(shape)):
        raise ValueError(
            f"latent_shape is {shape}, of {prod(shape)} numbers, and latent_dim {dim}: latent_dim "
            "is the number of a latent's numbers, and follows from latent_shape"
        )
    return shape


def _sizes(name: str, shape: object) -> tuple[int, ...]:
    if not isinstance(shape, tuple | list):
        raise ValueError(f"{name} is a tuple of sizes, and {describe(shape)} was given")
    return tuple(check_count(f"a size in {name}", size) for size in shape)


def sample_shape_of(
    generator: nn.Module, given: tuple[int, ...] | None, is_needed: bool
) -> tuple[int, ...] | None:
    """The shape of one sample, where an objective asks for random tensors of that shape."""
    shape = getattr(generator, "sample_shape", None) if given is None else given
    if is_needed and shape is None:
        raise ValueError(
            f"an objective draws tensors of the sample's shape, and {type(generator).__name__} has "
            "no attribute sample_shape: pass sample_shape=..."
        )
    if shape is None:
        return None
    return _sizes("sample_shape", shape)


def check_optimizers(
    generator_optimizer: object, critic_optimizer: object
) -> tuple[Optimizer, Optimizer]:
    for name, given in ("generator", generator_optimizer), ("critic", critic_optimizer):
        if not isinstance(given, Optimizer):
            raise ValueError(
                f"{name}_optimizer is a functional one such as fgan.adam(1e-4), and {given!r} was "
                "given"
            )
    assert isinstance(generator_optimizer, Optimizer)
    assert isinstance(critic_optimizer, Optimizer)
    return generator_optimizer, critic_optimizer


def check_game(
    n_critic: CriticUpdates, ema_decay: object, update: str, autocast: torch.dtype | None
) -> tuple[CriticUpdates, Scalar | None]:
    """The number of critic updates and the EMA decay, as numbers of Python."""
    n_critic = n_critic if callable(n_critic) else check_count("n_critic", n_critic)
    decay = None if ema_decay is None else check_scalar("ema_decay", ema_decay, 0.0, 1.0)
    if update not in ("alternating", "simultaneous"):
        raise ValueError(f"update is 'alternating' or 'simultaneous', and {update!r} was given")
    if update == "simultaneous" and n_critic != 1:
        raise ValueError(f"a simultaneous round has one critic update, not n_critic={n_critic}")
    if autocast not in (None, torch.bfloat16):  # float16 would need its losses scaled
        raise ValueError(f"autocast is torch.bfloat16 or None, and {autocast} was given")
    return n_critic, decay
