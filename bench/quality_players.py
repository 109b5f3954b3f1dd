"""The ways to play a run's rounds, and the clock that stands still between them."""

import time
from types import TracebackType
from typing import Any, Self

import torch
from quality_peer import Peer
from torch import Tensor

import fgan
from fgan.run.configuration import Run
from fgan.types import Batch, GANState, Noise


class Clock:
    """Seconds on the wall and of all cores, summed over the blocks in which it runs."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"
        self.wall = self.cores = 0.0

    def __enter__(self) -> Self:
        self._begin = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._is_cuda:
            torch.cuda.synchronize()
        self.wall += time.perf_counter() - self._begin[0]
        self.cores += time.process_time() - self._begin[1]

    def spent(self) -> dict[str, float]:
        """For JSON."""
        return {"seconds": round(self.wall, 3), "core_seconds": round(self.cores, 3)}


class Player:
    """A run of fgan's, eager or compiled."""

    def __init__(self, run: Run, device: torch.device, way: str, backend: str) -> None:
        self.algorithm = run.build(device)
        self._round = self.algorithm.step
        if way == "compiled":
            self._round = fgan.compile(self.algorithm, backend=backend).step
        self._state, self._size = self.algorithm.init(run.config.seed), run.config.batch_size

    def noise(self, seed: int, index: int) -> Noise:
        """Of one round."""
        return self.algorithm.noise(seed, index, self._size)

    def step(self, batch: Batch, noise: Noise) -> Tensor:
        """One round; the last critic loss."""
        self._state, info = self._round(self._state, batch, noise)
        return info.critic_loss

    def state(self) -> GANState:
        """After the rounds so far."""
        return self._state

    def restart(self, seed: int) -> None:
        """Begin anew, with what is compiled."""
        self._state = self.algorithm.init(seed)


class ImperativePlayer(Player):
    """The same run without fgan, but for the noise that both are given."""

    def __init__(self, run: Run, device: torch.device) -> None:
        super().__init__(run, device, "eager", "")
        _, *self._modules = run.built(device)
        self._config = run.config
        self.restart(run.config.seed)

    def step(self, batch: Batch, noise: Noise) -> Tensor:
        return self._peer.step(batch, noise)

    def state(self) -> GANState:
        return self._peer.state()

    def restart(self, seed: int) -> None:
        self._peer = Peer(self._config, *self._modules, self.algorithm.init(seed))


WAYS = ("compiled", "eager", "imperative")


def player_of(way: str, run: Run, device: torch.device, backend: str) -> Player:
    """Raises ValueError for a run that has no imperative peer."""
    if way == "imperative":
        return ImperativePlayer(run, device)
    return Player(run, device, way, backend)


def check_peer(run: Run, device: torch.device, given: list[tuple[Batch, Noise]]) -> None:
    """Raise SystemExit unless the peer and fgan find the same critic losses, round after round."""
    ours, theirs = (player_of(way, run, device, "") for way in ("eager", "imperative"))
    for index, (batch, noise) in enumerate(given):
        losses: list[Any] = [float(each.step(batch, noise)) for each in (ours, theirs)]
        if abs(losses[0] - losses[1]) > 1e-3 * (1 + abs(losses[0])):
            raise SystemExit(f"the peer's critic loss of round {index} is not fgan's: {losses}")
