"""Ask for a class, get it: a conditional GAN gives both networks the label, G(z, y) and D(x, y).

min_G max_D E[log D(x|y)] + E[log(1 - D(G(z|y)))] (Mirza & Osindero 2014, arXiv 1411.1784, eq. 2),
here with the losses of WGAN-GP. A judge that learnt from real digits alone names what was made, and
between two labels lies a walk from one digit to the other.

    python examples/conditional.py
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from common import main, plt
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.func import grad
from torch.nn.functional import avg_pool2d, cross_entropy

import fgan

SIZE, LATENT = 14, 32
LOUD = 10.0  # the one of a one-hot label, to be heard beside 196 pixels
WALK = torch.linspace(0, 1, 21)


class Joined(nn.Module):
    """network(x, y), of a network with one input: the row y is joined with the features of x."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.network(torch.cat([x.flatten(1), y], dim=1))


class Found(NamedTuple):
    judge_on_real: float
    """The judge's accuracy on real digits that neither it nor the GAN has seen."""
    agreement: float  # how often it sees the digit that was asked for
    worst_class: float  # the same for the class where that is lowest
    walks_arrive: float  # walks that begin as the one digit and end as the other
    largest_step: float
    """The longest of all walks' steps, as a share of its walk's 20: 1 would be a switch."""
    walks: Tensor  # [class, latent, 21, 14, 14]
    votes: Tensor  # [2, 21], the judge's mean probability of the two ends


def learn_judge(data: fgan.data.DataSet, rounds: int):
    """A classifier of images, [B, 1, 14, 14] -> probabilities [B, K]."""
    layers = nn.Linear(SIZE**2, 128), nn.ReLU(), nn.Linear(128, data.num_classes)
    network, optimizer = fgan.make_functional(nn.Sequential(nn.Flatten(), *layers)), fgan.adam(3e-3)
    params, moments = network.params, optimizer.init(network.params)
    slope = grad(lambda p, x, y: cross_entropy(network.apply(p, {}, x)[0], y))
    for (images,), (labels,) in fgan.data.batches(data, batch_size=128, rounds=rounds, seed=1):
        params, moments = optimizer.update(slope(params, images, labels), moments, params)
    return lambda images: network.apply(params, {}, images)[0].softmax(dim=-1)


def measure(quick: bool) -> Found:
    torch.manual_seed(0)
    classes, rounds, n_critic, batch_size = (3, 80, 2, 32) if quick else (10, 900, 3, 64)
    digits = fgan.data.load("glyphs")
    small = avg_pool2d(digits.samples.float(), 2).round().to(torch.uint8)
    small, labels = small[digits.labels < classes], digits.labels[digits.labels < classes]
    seen, unseen = slice(len(labels) * 3 // 4), slice(len(labels) * 3 // 4, None)
    names = digits.class_names[:classes]
    data = replace(digits, samples=small[seen], labels=labels[seen], class_names=names)
    judge = learn_judge(data, rounds=80 if quick else 500)
    on_real = judge(fgan.data.normalise(small[unseen])).argmax(-1) == labels[unseen]

    hidden, adam = ((64, 128), (128, 128)), fgan.adam(3e-3, betas=(0.0, 0.9))
    if not quick:
        hidden, adam = ((256, 512), (256, 256)), fgan.adam(1e-3, betas=(0.0, 0.9))
    algorithm = fgan.wgan_gp(
        Joined(fgan.models.mlp_generator((1, SIZE, SIZE), LATENT + classes, hidden=hidden[0])),
        Joined(fgan.models.mlp_critic((SIZE**2 + classes,), hidden=hidden[1])),
        latent_dim=LATENT,
        n_critic=n_critic,
        generator_optimizer=adam,
        critic_optimizer=adam,
        ema_decay=0.9 if quick else 0.99,
    )
    state, one_hot = algorithm.init(seed=0), LOUD * torch.eye(classes)
    for i, (real, label) in enumerate(fgan.data.batches(data, batch_size, n_critic, rounds)):
        batch, noise = fgan.Batch(real, one_hot[label]), algorithm.noise(0, i, batch_size)
        state, _ = algorithm.step(state, batch, noise)

    # Every class from the same latents, and on to the next class with the latent held.
    start = torch.arange(classes)
    path = torch.lerp(one_hot[:, None], one_hot.roll(-1, dims=0)[:, None], WALK[:, None])
    latent = torch.randn(50, LATENT)[None, :, None].expand(classes, -1, len(WALK), -1)
    label = path[:, None].expand(-1, 50, -1, -1)
    walks = algorithm.generate(state, latent.flatten(0, 2), label.flatten(0, 2))
    votes = judge(walks).view(classes, 50, len(WALK), classes)
    walks = walks.view(classes, 50, len(WALK), SIZE, SIZE)
    right = votes[:, :, 0].argmax(-1) == start[:, None]
    arrived = right & (votes[:, :, -1].argmax(-1) == start.roll(-1)[:, None])
    steps = walks.diff(dim=2).flatten(3).norm(dim=-1)
    figures = (
        on_real,
        right,
        right.float().mean(dim=1).min(),
        arrived,
        (steps.amax(-1) / steps.sum(-1)).max(),
    )
    ends = torch.stack([votes[start, :, :, k].mean((0, 1)) for k in (start, start.roll(-1))])
    return Found(*(float(x.float().mean()) for x in figures), walks, ends)


def draw(found: Found) -> Figure:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.6), width_ratios=[1, 1, 0.8])
    for panel, digits, title in (
        (left, found.walks[:, :10, 0], "Asked for: a class in each row"),
        (middle, found.walks[:, 0, ::2], "From one label to the next"),
    ):
        grid = digits.permute(0, 2, 1, 3).flatten(0, 1).flatten(1).numpy()
        panel.imshow(grid, cmap="gray", vmin=-1, vmax=1)
        panel.set(title=title, xticks=[], yticks=[])
    for votes, label in zip(found.votes, ("the first digit", "the next digit"), strict=True):
        right.plot(WALK, votes, label=label)
    right.set(
        xlabel="share of the next label", ylabel="probability", ylim=(0, 1), title="The judge"
    )
    right.legend(loc="center left")
    return figure


def check(found: Found) -> None:
    assert found.judge_on_real > 0.95, f"the judge knows {found.judge_on_real:.0%}"
    assert found.agreement > 0.9, f"asked and got: {found.agreement:.0%}"
    assert found.worst_class > 0.7, f"in the worst class {found.worst_class:.0%}"
    assert found.walks_arrive > 0.8, f"{found.walks_arrive:.0%} of the walks arrive"
    assert found.largest_step < 0.4, f"a walk jumps {found.largest_step:.0%} of its way at once"


if __name__ == "__main__":
    main(measure, draw, check)
