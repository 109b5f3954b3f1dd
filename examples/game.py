"""The game: D learns to tell real from fake, G learns to be taken for real, until neither can win.

    min over G, max over D of  V(D, G) = E log D(x) + E log(1 - D(G(z)))

The best D for a G is p_data / (p_data + p_g), and its V is least, -log 4, where p_g = p_data and
D says 1/2: Goodfellow et al. 2014 (arXiv 1406.2661), eq. 1, proposition 1 and theorem 1. Here play
gets there under both orders of updates. G is then a sampler alone, and D alone is a classifier.

    python examples/game.py
"""

from math import log
from typing import Any, NamedTuple

import torch
from common import FAKE, REAL, main, plt
from matplotlib.figure import Figure
from torch import Tensor

import fgan
from fgan.optim import linear

UPDATES = "alternating", "simultaneous"
LINE = torch.linspace(-3, 3, 121)[:, None]
GENERATOR = fgan.models.mlp_generator((1,), latent_dim=2, hidden=(32, 32), norm="none")
CRITIC = fgan.models.mlp_critic((1,), hidden=(32, 32))


def data(n: int, seed: int) -> Tensor:
    """Two equal Gaussians on a line, [n, 1]."""
    side, place = torch.randn(2, n, 1, generator=torch.Generator().manual_seed(seed))
    return side.sign() + 0.5 * place


UNSEEN = data(4096, seed=1)  # no update ever sees these


class Found(NamedTuple):
    off_half: float  # |D - 1/2| for D's mean over real or over fake samples; the worse game's end
    w1_untrained: float  # Wasserstein-1 distance of G's samples from the data, sorted with sorted
    w1_trained: float
    accuracy_untrained: float  # of a new D, trained against the untrained G as it stands
    accuracy_trained: float  # against the trained G of the worse game
    value_trained: float  # V of the new D
    lessons: list[Any]  # (accuracy, V, answers on LINE) of new D's: untrained G, then UPDATES
    games: list[Any]  # for each of UPDATES: rounds, fakes, D on UNSEEN, on the fakes, on LINE


def measure(quick: bool) -> Found:
    rounds, every, size, rate = (100, 10, 256, 1e-2) if quick else (1500, 5, 512, 2e-3)
    real = data((rounds + 1) * size, seed=0).view(-1, 1, size, 1)

    def play(update: str) -> list[Any]:
        # Rates that fall to 0 let the players settle.
        slow, fast = (fgan.adam(linear(r, 0, rounds), (0, 0.9)) for r in (rate, 2 * rate))
        algorithm = fgan.gan(
            GENERATOR, CRITIC, update=update, generator_optimizer=slow, critic_optimizer=fast
        )
        state, seen = algorithm.init(seed=0), []
        for i, batch in enumerate(real):
            if i % every == 0:
                fakes = algorithm.generate(state, algorithm.noise(1, 0, 4096).generator_latent)
                answers = (algorithm.score(state, x).sigmoid() for x in (UNSEEN, fakes, LINE))
                seen.append((i, fakes, *answers))
            noise = algorithm.noise(seed=0, round_index=i, batch_size=size)
            state, _ = algorithm.step(state, fgan.Batch(batch), noise)
        return list(zip(*seen, strict=True))

    def lesson(fakes: Tensor) -> tuple[float, float, Tensor]:
        """A new D learns to tell these fakes from the data, and is tested on other samples."""
        algorithm = fgan.gan(GENERATOR, CRITIC, critic_optimizer=fgan.adam(1e-2))
        state, learnt = algorithm.init(seed=1), data(2048, seed=3)
        for _ in range(50 if quick else 500):
            state, _ = algorithm.critic_update(state, learnt, None, None, None, fakes[:2048])
        on_real, on_fake = (algorithm.score(state, x[2048:]) for x in (UNSEEN, fakes))
        accuracy = (torch.cat([on_real, -on_fake]) > 0).double().mean().item()
        value = -fgan.losses.minimax_critic_loss(on_real, on_fake).mean().item()
        return accuracy, value, algorithm.score(state, LINE).sigmoid()

    games = [play(update) for update in UPDATES]
    fakes = torch.stack([games[0][1][0], *(game[1][-1] for game in games)])
    w1 = (fakes.sort(dim=1).values - UNSEEN.sort(dim=0).values).abs().mean(dim=(1, 2)).tolist()
    lessons = [lesson(x) for x in fakes]
    off_half = max(abs(D[-1].mean().item() - 0.5) for game in games for D in game[2:4])
    (untrained, *_), (accuracy, value, _) = lessons[0], max(lessons[1:])
    return Found(off_half, w1[0], max(w1[1:]), untrained, accuracy, value, lessons, games)


def draw(found: Found) -> Figure:
    figure, axes = plt.subplots(2, 4, figsize=(9, 4.4), width_ratios=(1, 1, 1, 1.2))
    for row, update, game, last in zip(axes, UPDATES, found.games, found.lessons[1:], strict=True):
        rounds, fakes, on_real, on_fake, on_line = game
        means = [torch.stack(D).mean(dim=1) for D in (on_real, on_fake)]
        surest = int((means[0] - means[1]).argmax())
        for ax, i, new in zip(row, (0, surest, -1), (found.lessons[0], (), last), strict=False):
            for x, color in ((UNSEEN, REAL), (fakes[i], FAKE)):
                ax.hist(x.flatten(), LINE.flatten()[::3], density=True, color=color, alpha=0.5)
            ax.plot(LINE, on_line[i], color="black", label="D in the game")
            ax.set(title=f"round {rounds[i]}", ylim=(0, 1), xlabel="x")
            if new:
                ax.plot(LINE, new[2], color="black", ls=":", label="a new D, trained on this round")
                ax.set(title=f"round {rounds[i]}: new D {new[0]:.0%} right")
        for mean, color, name in zip(means, (REAL, FAKE), ("real", "fake"), strict=True):
            row[3].plot(rounds[1:], mean[1:], color=color, label=name)
        row[3].set(title="mean of D in the game", xlabel="round", xscale="log", ylim=(0.35, 0.65))
        row[0].set_ylabel(f"{update} updates\ndensity; D")
    figure.legend(handles=[*row[3].lines, *row[0].lines], loc="outside lower center", ncols=4)
    return figure


def check(found: Found) -> None:
    assert found.off_half < 0.05, f"D is {found.off_half:.3f} away from 1/2"
    assert found.w1_trained < found.w1_untrained / 4, f"G's W1 is {found.w1_trained:.3f}"
    assert found.accuracy_untrained > 0.9, f"D is right {found.accuracy_untrained:.0%} of the time"
    assert found.accuracy_trained < 0.62, f"a new D is still right {found.accuracy_trained:.0%}"
    assert abs(found.value_trained + log(4)) < 0.06, f"max V is {found.value_trained}, not -log 4"


if __name__ == "__main__":
    main(measure, draw, check)
