"""Updates without effect where a gradient or a loss is not finite.

One sample that holds NaN, or one overflow in half precision, makes every parameter of a player NaN,
and a run does not recover from that. A guarded algorithm leaves out the update, on the device: the
host does not wait for the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fgan import tree
from fgan.algorithm import of_parts
from fgan.compiler.compile import check_one_eager_run
from fgan.scalars import widest
from fgan.types import EMA, Algorithm, Data, GANState, Gradient, PlayerState


class SkipState(NamedTuple):
    """The optimiser's state of a player in a guarded algorithm."""

    inner: Any
    """The state of the player's own optimiser."""
    skipped: Tensor
    """Updates left out so far, 0-d integer."""


def skip_nonfinite(algorithm: Algorithm) -> Algorithm:
    """The same algorithm, without the updates whose gradient or loss is NaN or infinite.

    A player whose gradient, loss or new buffers hold a number that is not finite keeps its
    parameters, buffers and optimiser state, and the generator its EMA too. A buffer element that
    was not finite before, such as -inf in an attention mask, does not count. The round is counted,
    and the other updates of the round are made. A round without such a number has the same bits as
    in `algorithm`.

    `info.terms["critic_skipped"]` and `info.terms["generator_skipped"]` are the updates left out
    since `init`. The other figures of an update that is left out are not finite, as computed, so
    `fgan.train` ends the run if they are logged.

    The counts are part of the state: `init` wraps each `opt_state` in a `SkipState`. A state of the
    algorithm itself does not fit; `guarded_state` makes one that does.

    Raises ValueError for a population and for a compiled algorithm: both are to be made of the
    guarded one. An accumulated algorithm is guarded as a whole:
    `fgan.skip_nonfinite(fgan.accumulate(algorithm, parts))`. The round raises ValueError for a
    state of the algorithm itself.

    Example:
        >>> algorithm = fgan.wgan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> guarded = fgan.skip_nonfinite(algorithm)
        >>> noise, batch = guarded.noise(0, 0, batch_size=8), torch.full((5, 8, 2), torch.nan)
        >>> state, info = guarded.step(guarded.init(seed=0), fgan.Batch(batch), noise)
        >>> int(info.terms["critic_skipped"]), int(info.terms["generator_skipped"])
        (5, 0)
    """
    check_one_eager_run(algorithm, "skip_nonfinite", "algorithm", "guarded")
    whole = algorithm.parts

    def init(seed: int | None = None) -> GANState:
        return guarded_state(algorithm.init(seed))

    def critic_gradient(state: GANState, data: Data) -> Gradient:
        gradient = whole.critic_gradient(_inner(state), data)
        return _counted("critic", state.critic, gradient)

    def generator_gradient(state: GANState, latent: Tensor, data: Data) -> Gradient:
        gradient = whole.generator_gradient(_inner(state), latent, data)
        return _counted("generator", state.generator, gradient)

    def apply_to_critic(state: GANState, gradient: Gradient) -> GANState:
        new = whole.apply_critic(_inner(state), gradient)
        critic, _ = _kept("critic", state.critic, new.critic, gradient)
        return GANState(state.generator, critic, state.ema, new.round)

    def apply_to_generator(state: GANState, gradient: Gradient) -> GANState:
        new = whole.apply_generator(_inner(state), gradient)
        generator, choose = _kept("generator", state.generator, new.generator, gradient)
        ema = tree.map(choose, state.ema, new.ema) if isinstance(new.ema, EMA) else new.ema
        return GANState(generator, state.critic, ema, new.round)

    changed = whole._replace(
        critic_gradient=critic_gradient,
        apply_critic=apply_to_critic,
        generator_gradient=generator_gradient,
        apply_generator=apply_to_generator,
    )
    return algorithm._replace(init=init, **of_parts(changed))


def guarded_state(state: GANState) -> GANState:
    """A state of an algorithm as a state of `skip_nonfinite(algorithm)`, with no update left out.

    To go on from a checkpoint of the algorithm itself.
    """

    def guarded(player: PlayerState) -> PlayerState:
        count = torch.zeros_like(state.round, dtype=torch.int64)
        return PlayerState(player.params, player.buffers, SkipState(player.opt_state, count))

    return GANState(guarded(state.generator), guarded(state.critic), state.ema, state.round)


def _inner(state: GANState) -> GANState:
    """The state as the algorithm itself knows it.

    A compiled update has only one player in its state; the other one is empty.
    """

    def inner(player: PlayerState) -> PlayerState:
        opt_state = player.opt_state
        own = opt_state.inner if isinstance(opt_state, SkipState) else opt_state
        return PlayerState(player.params, player.buffers, own)

    return GANState(inner(state.generator), inner(state.critic), state.ema, state.round)


def _counted(name: str, player: PlayerState, gradient: Gradient) -> Gradient:
    """The gradient with a figure more: the updates of this player left out, this one included."""
    before = _skip_state(name, player).skipped
    loss = gradient.info[f"{name}_loss"]
    count = before + _is_nonfinite(loss, player.buffers, gradient)
    # A mean over the parts of a batch takes floating-point figures alone.
    info = {**gradient.info, f"{name}_skipped": widest(count)}
    return Gradient(gradient.params, gradient.buffers, info)


def _is_nonfinite(loss: Tensor, buffers: dict[str, Tensor], gradient: Gradient) -> Tensor:
    """Whether the loss, the gradient or a new buffer has a number that is not finite: 0-d bool."""
    finite = [torch.isfinite(leaf).all() for leaf in (loss, *gradient.params.values())]
    for key, new in gradient.buffers.items():
        if new.is_floating_point():
            finite.append((torch.isfinite(new) | ~torch.isfinite(buffers[key])).all())
    return ~torch.stack(finite).all()


def _kept(
    name: str, old: PlayerState, new: PlayerState, gradient: Gradient
) -> tuple[PlayerState, Callable[[Tensor, Tensor], Tensor]]:
    """The new player, or the old one where the update is left out; and the choice between two."""
    before = _skip_state(name, old)
    skip = gradient.info[f"{name}_skipped"] > before.skipped

    def choose(kept: Tensor, changed: Tensor) -> Tensor:
        return torch.where(skip, kept, changed)

    mine = PlayerState(old.params, old.buffers, before.inner)
    chosen: PlayerState = tree.map(choose, mine, new)
    opt_state = SkipState(chosen.opt_state, before.skipped + skip)
    return PlayerState(chosen.params, chosen.buffers, opt_state), choose


def _skip_state(name: str, player: PlayerState) -> SkipState:
    if not isinstance(player.opt_state, SkipState):
        raise ValueError(
            f"the {name}'s opt_state is a {type(player.opt_state).__name__}, and a guarded "
            "algorithm has a SkipState: take the state from the init of the guarded algorithm, or "
            "from fgan.nonfinite.guarded_state(state)"
        )
    return player.opt_state
