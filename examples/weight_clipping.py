"""Weight clipping: weights pile up at ±c, gradients vanish or explode, value surfaces stay simple.

A WGAN's critic is brought back into |w| ≤ c after each update (Arjovsky et al. 2017, arXiv
1701.07875, algorithm 1). What that does to it beside the gradient penalty: Gulrajani et al. 2017,
arXiv 1704.00028, section 3, figure 1. The generator stays fixed: real points plus noise.

    python examples/weight_clipping.py
"""

from functools import partial
from typing import NamedTuple

import torch
from common import COLORS, REAL, main, plt
from matplotlib.figure import Figure
from torch import Tensor
from torch.func import grad, vmap

import fgan

CLIPS = 0.001, 0.01, 0.1
SPIRAL = fgan.data.load("swiss-roll").samples.double()
AXIS = torch.linspace(-2, 2, 60).double()
PLANE = torch.cartesian_prod(AXIS, AXIS)
PARABOLA = torch.stack([x * y for x in (1 + 0 * PLANE[:, 0], *PLANE.T) for y in (1, *PLANE.T)], 1)
GENERATOR = fgan.models.mlp_generator((2,), latent_dim=2, hidden=(2,), norm="none").double()


class Found(NamedTuple):
    weights_at_bounds: float
    """Share of the weights with |w| > 0.99 c, in the 12-layer critic with c = 0.1."""
    growth_small_c: float
    growth_middle_c: float
    growth_large_c: float
    growth_penalty: float
    """‖∂D/∂h‖ at the first hidden layer over that at the last: 12 layers, c = 0.001, 0.01, 0.1."""
    parabola_clipped: float
    parabola_penalty: float
    """Share of the value surface (variance over the square) that a parabola explains."""
    norms: dict[str, Tensor]  # ‖∂D(x)/∂h_l‖ by hidden layer l, mean over real x: [11]
    weights: dict[str, Tensor]
    surfaces: dict[str, Tensor]  # D on PLANE


def learn(recipe, layers: int, width: int, noise: float, updates: int, size: int):
    """Train a critic alone; what gives its scores as a function of (params, x), and its params."""
    critic = fgan.models.mlp_critic((2,), hidden=(width,) * (layers - 1)).double()
    algorithm = recipe(GENERATOR, critic)
    state, source = algorithm.init(seed=0), torch.Generator().manual_seed(0)
    for _ in range(updates):
        real, fake = SPIRAL[torch.randint(len(SPIRAL), (2, size), generator=source)]
        fake = fake + noise * torch.randn(size, 2, generator=source)
        mix = torch.rand(size, generator=source).double()
        state, _ = algorithm.critic_update(state, real, None, None, mix, fake)

    def score(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return algorithm.score(state._replace(critic=state.critic._replace(params=params)), x)

    return score, state.critic.params


def slopes_by_layer(score, params: dict[str, Tensor]) -> Tensor:
    """‖∂D(x)/∂h_l‖. A bias is added to h_l, so the slope in the bias is that in h_l."""
    slopes = vmap(grad(lambda p, x: score(p, x[None])[0]), in_dims=(None, 0))(params, SPIRAL[:99])
    biases = [slope for name, slope in slopes.items() if name.endswith("bias")]
    return torch.stack([slope.norm(dim=1).mean() for slope in biases[:-1]])


def explained_by_a_parabola(values: Tensor) -> float:
    fitted = PARABOLA @ torch.linalg.lstsq(PARABOLA, values[:, None], driver="gelsd").solution
    return float(1 - (values - fitted[:, 0]).var() / values.var())


def measure(quick: bool) -> Found:
    updates, more, size, width = (20, 300, 96, 64) if quick else (600, 800, 256, 128)
    slow, fast = fgan.rmsprop(1e-3), fgan.adam(5e-3, betas=(0.5, 0.9))
    clipped = {f"c = {c}": partial(fgan.wgan, clip=c, critic_optimizer=slow) for c in CLIPS}
    penalised = {"penalty": partial(fgan.wgan_gp, penalty_weight=1.0, critic_optimizer=fast)}
    deep = {name: learn(r, 12, 64, 1.0, updates, size) for name, r in (clipped | penalised).items()}
    norms = {name: slopes_by_layer(*critic) for name, critic in deep.items()}
    weights = {
        name: torch.cat([p.flatten() for key, p in params.items() if key.endswith("weight")])
        for name, (_, params) in deep.items()
    }
    surfaces = {}
    for name in ("c = 0.1", "penalty"):
        score, params = learn((clipped | penalised)[name], 4, width, 0.5, more, size)
        surfaces[name] = score(params, PLANE)
    return Found(
        float((weights["c = 0.1"].abs() > 0.099).double().mean()),
        *(float(norm[0] / norm[-1]) for norm in norms.values()),
        *map(explained_by_a_parabola, surfaces.values()),
        norms,
        weights,
        surfaces,
    )


def draw(found: Found) -> Figure:
    figure, panels = plt.subplots(1, 4, figsize=(11, 3))
    for (name, norms), style in zip(found.norms.items(), (":", "--", "-", "-"), strict=True):
        color = COLORS["wgan-gp" if name == "penalty" else "wgan"]
        panels[0].semilogy(range(1, 12), norms, style, color=color, label=name)
    panels[0].set(
        xlabel="hidden layer", ylabel="‖∂D/∂h‖", title="12 layers: slopes", xticks=[1, 6, 11]
    )
    panels[0].legend()
    bins = torch.linspace(-0.4, 0.4, 81)
    for name, method in ("penalty", "wgan-gp"), ("c = 0.1", "wgan"):
        weights = found.weights[name]
        panels[1].hist(weights, bins, color=COLORS[method], alpha=0.7, label=name, density=True)
    panels[1].set(xlabel="weight", ylabel="density", yscale="log", title="Weights pile up at ±c")
    panels[1].legend()
    for panel, (name, values) in zip(panels[2:], found.surfaces.items(), strict=True):
        panel.contourf(AXIS, AXIS, values.reshape(60, 60).T, 16, cmap="Greys")
        panel.scatter(*SPIRAL[:400].T, s=1, color=REAL)
        panel.set(title=f"D(x), {name} (dark: high)", aspect="equal", xticks=[], yticks=[])
    return figure


def check(found: Found) -> None:
    at_bounds, small, middle, large, penalty, simple, rich = found[:7]
    assert at_bounds > 0.5, f"{at_bounds:.0%} of the weights at ±c"
    assert small < middle < 1e-6, f"c = 0.001, 0.01: {small:.0e}, {middle:.0e}; not vanishing"
    assert large > 1e3, f"c = 0.1: {large:.0e}; not exploding"
    assert 0.1 < penalty < 10, f"penalty: {penalty:.0e} from layer to layer"
    assert 1 - rich > 1.3 * (1 - simple), (
        f"a parabola explains {simple:.0%} clipped, {rich:.0%} penalised"
    )


if __name__ == "__main__":
    main(measure, draw, check)
