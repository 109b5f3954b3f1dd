"""WGAN-GP: the critic's slope between real and fake goes to 1, and it has to be each sample's own.

The critic minimises D(G(z)) - D(x) + λ (‖∇D(x̂)‖₂ - 1)² at x̂ = εx + (1 - ε)G(z) (Gulrajani et al.
2017, arXiv 1704.00028, prop. 1, eq. 3, section 4). ∇D is per sample, `vmap(grad(D))`; one backward
pass of Σ D(x_i) equals it where ∂D_i/∂x_j = 0 for i ≠ j. BatchNorm breaks that and is refused.

    python examples/gradient_norms.py
"""

import textwrap
from functools import partial
from typing import NamedTuple

import torch
from common import COLORS, main, plt
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from torch import Tensor

import fgan
from fgan.networks import batch_dependence
from fgan.penalties import batched_input_gradients, gradient_norms, input_gradients, interpolate

NORMS = ["none", "layer", "instance", "weight", "batch"]


class Found(NamedTuple):
    slope_before: float
    slope_after: float
    """Median of ‖∇D(x̂)‖₂ on fresh interpolates: before, and in the last quarter of training."""
    sum_error: float
    """Largest difference of Σ D's gradient from `vmap(grad(D))`, over the critics fgan takes."""
    batch_norm_mixing: float
    """With BatchNorm, Σ_j ‖∂D_i/∂x_j‖₂ over the others j, over ‖∂D_i/∂x_i‖₂; mean over i."""
    quantiles: dict[int, Tensor]
    """10, 25, 50, 75 and 90 % of ‖∇D(x̂)‖₂ by round."""
    dependence: dict[str, Tensor]
    """‖∂D_i/∂x_j‖₂ of a critic with each norm: [8, 8]."""
    refusal: str
    """What fgan says to a BatchNorm critic under a penalty."""


def slopes(rounds: int, every: int) -> dict[int, Tensor]:
    """The quantiles of ‖∇D(x̂)‖₂ while WGAN-GP learns a spiral."""
    generator = fgan.models.mlp_generator((2,), latent_dim=2, hidden=(64, 64), norm="none")
    critic = fgan.models.mlp_critic((2,), hidden=(64, 64))
    adam = fgan.adam(1e-3, betas=(0.0, 0.9))
    algorithm = fgan.wgan_gp(generator, critic, generator_optimizer=adam, critic_optimizer=adam)
    state = algorithm.init(seed=0)
    real = fgan.data.load("swiss-roll").samples[:1000]
    fresh = algorithm.noise(seed=1, round_index=0, batch_size=1000)
    batches = fgan.data.batches("swiss-roll", 128, algorithm.n_critic, conditional=False)
    quantiles = {}
    for i, batch in zip(range(rounds + 1), batches, strict=False):
        if i % every == 0:
            fake = algorithm.generate(state, fresh.generator_latent)
            points = interpolate(real, fake, fresh.mix[0])
            norms = gradient_norms(input_gradients(partial(algorithm.score, state), points))
            quantiles[i] = norms.quantile(torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]))
        state, _ = algorithm.step(state, batch, algorithm.noise(0, i, 128))
    return quantiles


def measure(quick: bool) -> Found:
    quantiles = slopes(20, every=4) if quick else slopes(500, every=5)
    dependence, errors = {}, []
    for norm in NORMS:
        torch.manual_seed(0)
        images = torch.randn(8, 1, 28, 28)
        module = fgan.models.conv_critic((1, 28, 28), width=8, norm=norm)
        apply, params, buffers = fgan.make_functional(module)
        critic = lambda x, f=apply, p=params, b=buffers: f(p, b, x)[0]  # noqa: E731
        dependence[norm] = batch_dependence(critic, images)
        try:
            fgan.wgan_gp(fgan.models.conv_generator((1, 28, 28)), module)
            error = input_gradients(critic, images) - batched_input_gradients(critic, images)
            errors.append(float(error.abs().max()))
        except ValueError as refused:
            refusal = str(refused)
    first, *_, late = torch.stack(list(quantiles.values()))[:, 2].tensor_split(4)
    mixing = (dependence["batch"].sum(dim=1) / dependence["batch"].diagonal() - 1).mean()
    summary = float(first[0]), float(late.mean()), max(errors), float(mixing)
    return Found(*summary, quantiles, dependence, refusal)


def draw(found: Found) -> Figure:
    figure = plt.figure(figsize=(9, 5.4))
    axes = figure.subplot_mosaic([["slopes"] * 5, NORMS], height_ratios=[1.25, 1])
    top, rounds, red = axes["slopes"], list(found.quantiles), COLORS["wgan-gp"]
    low, quarter, median, three_quarters, high = torch.stack(list(found.quantiles.values())).T
    top.plot(rounds, median, color=red, label="median")
    top.fill_between(rounds, quarter, three_quarters, color=red, alpha=0.35, label="half of them")
    top.fill_between(rounds, low, high, color=red, alpha=0.15, label="80 % of them")
    top.axhline(1, color="black", linewidth=0.8, linestyle=":")
    top.set(xlabel="round", ylabel="‖∇D(x̂)‖₂", title="The critic's slope at interpolates goes to 1")
    top.set(xlim=(0, rounds[-1]), ylim=(0, None))
    top.legend(loc="lower right", ncols=3)
    for norm in NORMS:
        # A logarithmic scale masks zeros: what is white is not small but exactly zero.
        image = axes[norm].imshow(found.dependence[norm].numpy(), "Blues", norm=LogNorm(1e-3, 1))
        axes[norm].set(title=f'norm="{norm}"', xlabel="sample j", xticks=[0, 7], yticks=[0, 7])
        axes[norm].spines[:].set_visible(True)
    axes["none"].set_ylabel("score i")
    figure.colorbar(image, ax=[axes[norm] for norm in NORMS], label="‖∂D_i/∂x_j‖₂; white: 0")
    figure.supxlabel(textwrap.fill(f"fgan on BatchNorm: “{found.refusal}”", 130), fontsize=8)
    return figure


def check(found: Found) -> None:
    assert found.slope_before < 0.3, f"the slope began at {found.slope_before:.2f}"
    assert abs(found.slope_after - 1) < 0.25, f"the slope ended at {found.slope_after:.2f}"
    assert found.sum_error < 1e-5, f"the two gradients differ by {found.sum_error}"
    for norm, matrix in found.dependence.items():
        mixes = bool((matrix - matrix.diagonal().diag()).any())
        assert mixes == (norm == "batch"), f"{norm}: {matrix}"
    assert "'layers.2'" in found.refusal, f"the layer is not named: {found.refusal!r}"


if __name__ == "__main__":
    main(measure, draw, check)
