"""Why GANs are hard to train: a poor D's gradient is noise, and a perfect D's gradient is nothing.

The loss of the best D is 2 log 2 - 2 JSD (Goodfellow et al. 2014, arXiv 1406.2661, theorem 1). Thin
supports all but miss each other: D can tell them apart perfectly, JSD is log 2, and G's gradient
under the minimax loss vanishes (Arjovsky & Bottou 2017, arXiv 1701.04862, theorems 2.2 to 2.4).

    python examples/hard_to_train.py
"""

from typing import NamedTuple

import torch
from common import FAKE, REAL, main, plt
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import functional_call, vmap

import fgan

RUNS = 16  # discriminators that learn side by side, from other weights and other batches
# Real and fake, z and z + 1/2 on each of 8 axes: two Gaussians, with mass everywhere.
BLOBS = [{"weight": torch.eye(8), "bias": torch.full((8,), place)} for place in (0.0, 0.5)]


class Curve(nn.Linear):
    """A Fourier series in z: a smooth closed curve in 20 dimensions, without volume."""

    def forward(self, z: Tensor) -> Tensor:
        waves = z * torch.arange(1, 4)
        return super().forward(torch.cat([waves.sin(), waves.cos()], dim=-1))


CURVE, RANDOM = Curve(6, 20, bias=False), torch.Generator().manual_seed(2)
CURVES = [{"weight": weight} for weight in torch.randn(2, 20, 6, generator=RANDOM)]


class Found(NamedTuple):
    loss_of_best: float  # 2 log 2 - 2 JSD of the Gaussians, from their densities
    loss_on_blobs: float  # mean over the runs, at the end
    loss_on_curves: float
    accuracy_on_curves: float
    minimax_falls: float  # G's gradient on the curves: how many times smaller at the end
    non_saturating_rises: float  # how many times larger
    agreement_untrained: float  # mean cosine of the gradients that two D's give G, on the blobs
    agreement_trained: float
    agreement_on_curves: float
    lessons: list[Tensor]


def teach(generator: nn.Module, real: dict, fake: dict, latent_dim: int, quick: bool) -> Tensor:
    """RUNS discriminators learn, G stays. On samples that they are yet to see, [6, T, RUNS]:
    updates, loss, accuracy, norms of G's minimax and non-saturating gradients, agreement."""
    updates, rate, size = (40, 1e-2, 128) if quick else (1000, 3e-3, 256)
    critic = fgan.models.mlp_critic(fake["weight"].shape[:1], hidden=(64, 64))
    # Descent at rate 1 moves G by the gradient itself.
    players = {"critic_optimizer": fgan.adam(rate), "generator_optimizer": fgan.sgd(1.0)}
    losses = "minimax", "non_saturating"
    gans = [fgan.gan(generator, critic, loss=x, latent_dim=latent_dim, **players) for x in losses]
    runs = [gans[0].init(seed=i) for i in range(RUNS)]
    runs = [run._replace(generator=run.generator._replace(params=fake)) for run in runs]
    state, seen, source = fgan.tree.stack(runs), [], torch.Generator().manual_seed(0)
    score, learn = vmap(gans[0].score), vmap(gans[0].critic_update, in_dims=(0, 0, None, 0, None))
    for i in range(updates + 1):
        z, latent = torch.randn(2, RUNS, size, latent_dim, generator=source)
        x = functional_call(generator, real, z)
        before, (state, info) = state, learn(state, x, None, latent, None)
        if i in {0, *(round(updates ** (j / 14)) for j in range(15))}:
            on_real, on_fake = (
                score(before, s) for s in (x, functional_call(generator, fake, latent))
            )
            right = (torch.cat([on_real, -on_fake], dim=1) > 0).double().mean(dim=1)
            (moved, first), (_, second) = (vmap(a.generator_update)(before, latent) for a in gans)
            norms = first.generator_grad_norm, second.generator_grad_norm
            moves = [(moved.generator.params[k] - fake[k]).flatten(1) for k in fake]
            ways = nn.functional.normalize(torch.cat(moves, dim=1))
            cosine = ((ways @ ways.T).sum(dim=1) - 1) / (RUNS - 1)
            seen.append(
                torch.stack([torch.full((RUNS,), i), info.critic_loss, right, *norms, cosine])
            )
    return torch.stack(seen, dim=1)


def measure(quick: bool) -> Found:
    z = torch.randn(1_000_000, 8, generator=torch.Generator().manual_seed(1))
    best = [1 - x.sum(dim=1) / 2 for x in (z, z + 0.5)]  # log(p_data / p_g), exactly
    lessons = [teach(nn.Linear(8, 8), *BLOBS, 8, quick), teach(CURVE, *CURVES, 1, quick)]
    (_, loss, *_, agree), curves = (lesson.mean(dim=2).tolist() for lesson in lessons)
    _, apart, right, minimax, other, disagree = curves
    ratios = minimax[0] / minimax[-1], other[-1] / other[0]
    ends = loss[-1], apart[-1], right[-1], *ratios, agree[0], agree[-1], disagree[-1]
    return Found(fgan.losses.minimax_critic_loss(*best).mean().item(), *ends, lessons)


def draw(found: Found) -> Figure:
    figure, ((plane, losses), (norms, cosines)) = plt.subplots(2, 2, figsize=(9, 6))
    circle = torch.linspace(0, 2 * torch.pi, 400)[:, None]
    for weights, color, name in zip(CURVES, (REAL, FAKE), ("real", "fake"), strict=True):
        plane.plot(*functional_call(CURVE, weights, circle)[:, :2].T, color=color, label=name)
    plane.set(title="the curves, on two of their 20 axes", xlabel="x₁", ylabel="x₂")
    for lesson, color in zip(found.lessons, ("tab:green", "black"), strict=True):
        updates, loss, _, minimax, other, cosine = lesson
        panels = (
            (losses, loss, "-"),
            (norms, minimax, "-"),
            (norms, other, "--"),
            (cosines, cosine, "-"),
        )
        for ax, y, line in panels:
            ax.plot(updates[:, 0], y.mean(dim=1), line, color=color)
            ax.fill_between(updates[:, 0], y.amin(dim=1), y.amax(dim=1), color=color, alpha=0.15)
            ax.set(xscale="symlog", xlabel="updates of D")
    losses.axhline(found.loss_of_best, color="tab:green", ls=":")
    losses.set(title="loss of D; dotted: 2 log 2 - 2 JSD of the Gaussians")
    norms.set(title="norm of G's gradient; dashed: non-saturating", yscale="log")
    cosines.set(title="cosine between the gradients that two D's give G")
    plane.legend()
    losses.legend(losses.lines[:2], ("Gaussians", "curves"))
    return figure


def check(found: Found) -> None:
    gap = found.loss_on_blobs - found.loss_of_best
    assert abs(gap) < 0.06, f"D's loss is {gap:.3f} off 2 log 2 - 2 JSD"
    assert found.loss_on_curves < 0.02, f"D's loss on the curves is {found.loss_on_curves:.3f}"
    assert found.accuracy_on_curves > 0.999, f"D is right on {found.accuracy_on_curves:.2%}"
    assert found.minimax_falls > 8, f"G's gradient shrinks only {found.minimax_falls:.1f}-fold"
    assert found.non_saturating_rises > 8, f"it rises only {found.non_saturating_rises:.1f}-fold"
    assert found.agreement_untrained < 0.3, f"untrained D's agree: {found.agreement_untrained:.2f}"
    assert found.agreement_trained > 0.7, f"D's disagree: {found.agreement_trained:.2f}"


if __name__ == "__main__":
    main(measure, draw, check)
