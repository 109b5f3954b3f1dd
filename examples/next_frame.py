"""A condition that is not a label: the next frame of a moving digit, given the last two.

The digit turns left or right, and nobody can know which. The best guess by squared error is the
mean of both futures, a blur that is neither; a conditional critic D(x, past) knows no such frame,
so G(z, past) has to commit itself, and z decides to what (Mathieu et al. 2016, arXiv 1511.05440,
section 3, on why one predicts video with an adversary).

    python examples/next_frame.py
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from common import main, plt
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import grad

import fgan

SIZE, REACH, LATENT = 16, 9, 2  # pixels of a frame, of the motion kernel, numbers in z
DIGITS = F.avg_pool2d(fgan.data.load("glyphs").samples.float() / 255, 2)


class Motion(nn.Module):
    """The next frame is the last one under a kernel of REACH x REACH, made from (z, past)."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = LATENT
        self.kernel = nn.Sequential(
            *(nn.Conv2d(2 + LATENT, 16, 5, stride=2, padding=2), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Flatten()),
            *(nn.Linear(2 * SIZE**2, 128), nn.LeakyReLU(0.2), nn.Linear(128, REACH**2)),
        )

    def forward(self, z: Tensor, past: Tensor) -> Tensor:
        planes = z[:, :, None, None].expand(-1, -1, SIZE, SIZE)
        kernel = self.kernel(torch.cat([past, planes], dim=1)).softmax(dim=1)
        light = 1 + past[None, :, -1]  # black is -1
        kernel = kernel.view(-1, 1, REACH, REACH)
        return F.conv2d(light, kernel, padding=REACH // 2, groups=len(z))[0] - 1


class Judge(nn.Module):
    """D(x, past), of the three frames together."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = fgan.models.mlp_critic((3, SIZE, SIZE), hidden=(128, 128))

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return self.critic(torch.cat([past, x[:, None]], dim=1))


class Found(NamedTuple):
    error_of_mean: float  # to the nearer future, root mean square: of the mean of both futures,
    error_of_regression: float  # of the network that learnt by squared error,
    error_of_gan: float  # and of the same network that learnt against a critic
    scenes_with_both: float  # where 8 samples contain both futures
    share_left: float  # of all samples
    past: Tensor  # [N, 2, 16, 16]
    futures: Tensor  # [N, 2, 16, 16]: left, right
    guess: Tensor  # [N, 16, 16]
    samples: Tensor  # [8, N, 16, 16]


def place(digits: Tensor, centre: Tensor) -> Tensor:
    """Digits [N, 1, 14, 14] at [N, 2] pixels from the middle of a frame: [N, 16, 16] in [-1, 1]."""
    zoom = SIZE / 12
    move = torch.cat(
        [zoom * torch.eye(2).expand(len(centre), 2, 2), -zoom / 8 * centre[..., None]], 2
    )
    at = F.affine_grid(move, [len(centre), 1, SIZE, SIZE], align_corners=False)
    return 2 * F.grid_sample(digits, at, align_corners=False)[:, 0] - 1


def scenes(n: int, source: torch.Generator, unseen: bool = False) -> tuple[Tensor, ...]:
    """Digits on their way up: past [n, 2, ...], both futures [n, 2, ...], the one that comes."""
    half = len(DIGITS) // 2
    digits = DIGITS[torch.randint(half, (n,), generator=source) + half * unseen]
    here = 3 * torch.rand(n, 2, generator=source) - 1.5
    speed = 2 + torch.rand(n, 1, generator=source)
    up, side = speed * torch.tensor([0.0, -1.0]), speed * torch.tensor([1.0, 0.0])
    past = torch.stack([place(digits, here - up), place(digits, here)], dim=1)
    futures = torch.stack([place(digits, here - side), place(digits, here + side)], dim=1)
    coin = torch.randint(2, (n,), generator=source)
    return past, futures, futures[torch.arange(n), coin]


def regression(rounds: int, source: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The same network by squared error, z = 0; its prediction is a function of the past."""
    network, optimizer = fgan.make_functional(Motion()), fgan.adam(2e-3)
    params, moments, z = network.params, optimizer.init(network.params), torch.zeros(64, LATENT)
    slope = grad(lambda p, past, x: (network.apply(p, {}, z, past)[0] - x).square().mean())
    for _ in range(rounds):
        past, _, comes = scenes(64, source)
        params, moments = optimizer.update(slope(params, past, comes), moments, params)
    return lambda past: network.apply(params, {}, torch.zeros(len(past), LATENT), past)[0]


def measure(quick: bool) -> Found:
    torch.manual_seed(0)
    source = torch.Generator().manual_seed(0)
    rounds, n_critic, size, rate = (120, 2, 24, 3e-3) if quick else (400, 3, 48, 1e-3)
    predict = regression(60 if quick else 400, source)
    adam = fgan.adam(rate, betas=(0.0, 0.9))
    options = dict(penalty_weight=1.0, n_critic=n_critic, ema_decay=0.9)
    algorithm = fgan.wgan_gp(
        Motion(), Judge(), generator_optimizer=adam, critic_optimizer=adam, **options
    )
    state = algorithm.init(seed=0)
    for i in range(rounds):
        past, _, comes = scenes(n_critic * size, source)
        batch = fgan.Batch(*(x.unflatten(0, (n_critic, size)) for x in (comes, past)))
        state, _ = algorithm.step(state, batch, algorithm.noise(0, i, size))

    past, futures, _ = scenes(256, source, unseen=True)
    latents = torch.randn(8, 256, LATENT, generator=source)
    guess = predict(past)
    samples = torch.stack([algorithm.generate(state, z, past) for z in latents])

    def errors(frames: Tensor) -> Tensor:
        """Mean squares from both futures, [..., N, 2]."""
        return (frames[..., None, :, :] - futures).square().mean(dim=(-1, -2))

    of_samples = errors(samples)
    left = of_samples.argmin(dim=-1) == 0  # [8, N]
    return Found(
        *(errors(x).amin(-1).mean().sqrt().item() for x in (futures.mean(1), guess, samples)),
        (left.any(dim=0) & ~left.all(dim=0)).double().mean().item(),
        left.double().mean().item(),
        *(past, futures, guess, samples),
    )


def draw(found: Found) -> Figure:
    figure, axes = plt.subplots(4, 9, figsize=(9, 4.2))
    titles = ["last but one", "last", "left", "right", "squared error", *["a sample"] * 4]
    for scene, row in enumerate(axes):
        frames = [*found.past[scene], *found.futures[scene], found.guess[scene]]
        for panel, frame in zip(row, [*frames, *found.samples[:4, scene]], strict=True):
            panel.imshow(frame.numpy(), cmap="gray", vmin=-1, vmax=1)
            panel.set(xticks=[], yticks=[])
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title, fontsize=8)
    return figure


def check(found: Found) -> None:
    mean, regression, gan, both, left, *_ = found
    assert abs(regression / mean - 1) < 0.15, f"{regression:.2f}, not the mean's {mean:.2f}"
    assert gan < 0.8 * mean, f"the samples are {gan:.2f} away, the mean {mean:.2f}"
    assert both > 0.6, f"8 samples show both futures in {both:.0%} of the scenes"
    assert 0.2 < left < 0.8, f"{left:.0%} turn left"


if __name__ == "__main__":
    main(measure, draw, check)
