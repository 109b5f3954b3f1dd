"""The state that a run starts from, where it is not drawn from the seed."""

from __future__ import annotations

from torch import Tensor

from fgan import tree
from fgan.run.checkpoints import not_finite
from fgan.scores import describe
from fgan.types import GANState


def started(state: object, like: GANState) -> GANState:
    """A copy of `state` with no rounds completed, on the device of `like`, an initial state.

    Raises ValueError naming the first difference from `like` in structure, shape or dtype, and the
    first tensor that holds NaN or infinite values although that of `like` does not.
    """
    if not isinstance(state, GANState):
        raise ValueError(
            "state is a GANState, as algorithm.init() and fgan.train give one, and "
            f"{describe(state)} was given"
        )
    given, wanted = tree.named_leaves(state), tree.named_leaves(like)
    for name in (*wanted, *given):
        if name not in given or name not in wanted:
            side = "lacks" if name not in given else "has an additional"
            raise ValueError(
                f"state is of another algorithm: it {side} {name}; make the networks, optimisers "
                "and the EMA as they were when the state was made"
            )
    for name, tensor in wanted.items():
        have = given[name]
        if not isinstance(have, Tensor) or (have.shape, have.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(
                f"state is of another algorithm: {name} is {describe(have)}, and the algorithm has "
                f"{describe(tensor)}"
            )
    if flawed := not_finite(state, since=like):
        raise ValueError(f"state holds NaN or infinite values, the first in {flawed[0]}")
    copy = tree.map(lambda a, b: a.detach().clone().to(b.device), state, like)
    return GANState(*copy)._replace(round=tree.clone(like.round))
