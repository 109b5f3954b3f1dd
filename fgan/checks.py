"""What must hold before a round is worth its time; each raises ValueError and says what to do.

All of it is about shapes and settings, never about values, so it can be traced, and makes nothing
wait for a device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fgan import tree
from fgan.networks import ALTERNATIVES, mixing_layers
from fgan.optim import Optimizer
from fgan.scalars import check_count, check_scalar
from fgan.types import Batch, CriticUpdates, GANState, Noise


def as_scores(output: object, samples: Tensor) -> Tensor:
    """Scores [B] from a critic that returns [B] or [B, 1]."""
    size = samples.shape[0]
    if not isinstance(output, Tensor):
        parts = f" of {len(output)}" if isinstance(output, tuple | list | dict) else ""
        raise ValueError(
            f"a critic gives one tensor of scores, and this one gave a {type(output).__name__}"
            f"{parts}: fgan.objectives.adversarial takes a Head for each further output of a "
            "critic that returns (scores, ...)"
        )
    if output.shape not in ((size,), (size, 1)):
        raise ValueError(
            f"a critic gives one score a sample, [{size}] or [{size}, 1]; "
            f"this one gave {list(output.shape)} for samples {list(samples.shape)}"
        )
    return output.reshape(size)


def check_per_sample(critic: nn.Module) -> None:
    if mixing := mixing_layers(critic):
        raise ValueError(
            f"the critic's {', '.join(map(repr, mixing))} mixes the samples of a batch "
            f"(BatchNorm), and this penalty is defined per sample. {ALTERNATIVES}"
        )


def check_samples(real: Tensor, fake: Tensor) -> None:
    if not real.is_floating_point():
        raise ValueError(
            f"real samples are floating point, and {real.dtype} was given: normalise them"
        )
    if real.shape != fake.shape:
        raise ValueError(
            f"the generator makes samples of shape {list(fake.shape[1:])} and the data are "
            f"{list(real.shape[1:])} (batch sizes {fake.shape[0]} and {real.shape[0]})"
        )


def check_latent(latent: Tensor, latent_dim: int) -> None:
    if latent.ndim != 2 or latent.shape[1] != latent_dim:
        raise ValueError(
            f"the latent is [B, latent_dim] = [B, {latent_dim}], and {list(latent.shape)} was given"
        )


def check_round(batch: Batch, noise: Noise, latent_dim: int, labelled: bool) -> None:
    """labelled: whether a generator's update needs a real sample or a condition for each latent."""
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
    if (labelled or batch.condition is not None) and latents[0] > lead[0] * lead[1]:
        raise ValueError(
            f"noise.generator_latent has {latents[0]} latents, and the batch {lead[0] * lead[1]} "
            "real samples: the generator's update takes a condition or real sample for each latent"
        )


def check_members(
    lead: tuple[int, ...], batch: Batch, noise: Noise, latent_dim: int, labelled: bool
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
    check_round(batch, only, latent_dim, labelled)


def check_state(
    members: tuple[int | None, ...], values: object, state: GANState
) -> tuple[int, ...]:
    """The members of a state: as many as the population has, and where its values are.

    Within `vmap` a number on the CPU does not mix with tensors of another device.
    """
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
    if not seeds or members not in (None, len(seeds)):
        wanted = "at least one seed" if members is None else f"as many seeds as members, {members}"
        raise ValueError(f"a population takes {wanted}, and {len(seeds)} were given")


def latent_dim_of(generator: nn.Module, given: int | None) -> int:
    latent_dim = getattr(generator, "latent_dim", None) if given is None else given
    if latent_dim is None:
        raise ValueError(
            f"{type(generator).__name__} has no attribute latent_dim: pass latent_dim=..."
        )
    check_count("latent_dim", latent_dim)
    return int(latent_dim)


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
    return None if shape is None else tuple(shape)


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
) -> None:
    if not callable(n_critic):
        check_count("n_critic", n_critic)
    if ema_decay is not None:
        check_scalar("ema_decay", ema_decay, 0.0, 1.0)
    if update not in ("alternating", "simultaneous"):
        raise ValueError(f"update is 'alternating' or 'simultaneous', and {update!r} was given")
    if update == "simultaneous" and n_critic != 1:
        raise ValueError(f"a simultaneous round has one critic update, not n_critic={n_critic}")
    if autocast not in (None, torch.bfloat16):  # float16 would need its losses scaled
        raise ValueError(f"autocast is torch.bfloat16 or None, and {autocast} was given")
