"""The installable peers that still run, each with its own training step on the bench's networks.

    pip install --no-deps torchgan==0.1.0 torch-mimicry==0.1.16

A peer is a contestant where its step computes the same losses as the others on the same weights:

- torchgan (github.com/torchgan/torchgan): `gan`, by `train_ops` of its minimax losses;
- torch-mimicry (arXiv 2005.02494): `gan`, by `train_step` of its base networks with the loss "ns",
  and `wgan-gp`, by `train_step` of `WGANGPBaseGenerator` and `WGANGPBaseDiscriminator`.

These compute something else, and are left out:

- torchgan's `WassersteinGradientPenalty` takes one norm and one ε for the whole batch, leaves the
  generator in the graph, and makes an optimiser step of its own on fakes of its own;
- torchgan's `WassersteinDiscriminatorLoss` clips before an update and not after it, so that the
  first update starts from other weights and the generator meets a critic outside the bounds;
- torch-mimicry has no clipping, and neither has WGAN-div.

Both draw their noise inside, so during a round `torch.randn` and `torch.rand` hand out the round's.
All else is theirs as published: fakes are drawn with a graph and then detached, the generator's
step computes the critic's gradients too, losses are read with `.item()` at each update. The
optimisers, which both leave to the caller, are the imperative contestant's.
"""

import copy
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import fgan

Play = Callable[[fgan.Batch, fgan.Noise], tuple[Tensor, Tensor]]

ADAM = {"gan": (2e-4, (0.5, 0.999)), "wgan-gp": (1e-4, (0.0, 0.9))}


def peer_steps(recipe: str, generator: nn.Module, critic: nn.Module) -> dict[str, Play]:
    """The peers that have this recipe, on copies of the modules; those that cannot run say so."""
    found = {}
    for name, (recipes, make) in PEERS.items():
        if recipe in recipes:
            try:
                found[name] = make(recipe, *copy.deepcopy((generator.train(), critic.train())))
            except Exception as error:  # whatever an old package meets in a new torch
                print(f"{name} is left out: {type(error).__name__}: {error}")
    return found


def adam(recipe: str, module: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimiser."""
    rate, betas = ADAM[recipe]
    return torch.optim.Adam(module.parameters(), rate, betas=betas, fused=True)


@contextmanager
def drawing(latent: Tensor, mix: Any = None) -> Iterator[None]:
    """Within, `torch.randn` returns this latent and `torch.rand` this ε."""
    with patch.multiple(torch, randn=lambda *a, **k: latent, rand=lambda *a, **k: mix):
        yield


def torchgan(recipe: str, generator: nn.Module, critic: nn.Module) -> Play:
    """`train_ops` of torchgan's losses, as its `Trainer` calls them."""
    from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss

    generator.encoding_dims = generator.latent_dim
    generator.label_type = critic.label_type = "none"
    of_generator, of_critic = adam(recipe, generator), adam(recipe, critic)
    generator_loss, critic_loss = MinimaxGeneratorLoss(), MinimaxDiscriminatorLoss()

    def play(batch: fgan.Batch, noise: fgan.Noise) -> tuple[Tensor, Tensor]:
        device = batch.real.device
        for real, latent in zip(batch.real, noise.critic_latent, strict=True):
            with drawing(latent):
                lost = critic_loss.train_ops(generator, critic, of_critic, real, device)
        with drawing(noise.generator_latent):
            made = generator_loss.train_ops(generator, critic, of_generator, device, len(real))
        return torch.tensor(lost), torch.tensor(made)

    return play


class Epsilon:
    """The round's ε, where torch-mimicry expands `torch.rand(B, 1)` to the images' shape.

    Its code says 3 channels there; these are as many as the samples have. Nothing else in its step
    minds images of one channel.
    """

    def __init__(self, mix: Tensor, shape: torch.Size) -> None:
        self.mix, self.shape = mix[:, None], shape

    def expand(self, *sizes: int) -> "Epsilon":
        self.mix = self.mix.expand(*sizes).contiguous()
        return self

    def contiguous(self) -> "Epsilon":
        return self

    def view(self, *sizes: int) -> Tensor:
        return self.mix.view(self.shape)


def mimicry(recipe: str, generator: nn.Module, critic: nn.Module) -> Play:
    """`train_step` of torch-mimicry's networks, with the bench's in place of their layers."""
    if "torch_mimicry" not in sys.modules and (spec := importlib.util.find_spec("torch_mimicry")):
        # Unexecuted: the package's root imports TensorFlow and TensorBoard, for FID and its logs.
        sys.modules["torch_mimicry"] = importlib.util.module_from_spec(spec)
    from torch_mimicry.nets.gan.gan import BaseDiscriminator, BaseGenerator
    from torch_mimicry.nets.wgan_gp.wgan_gp_base import WGANGPBaseDiscriminator, WGANGPBaseGenerator

    generator_base, critic_base, loss_type = {
        "gan": (BaseGenerator, BaseDiscriminator, "ns"),
        "wgan-gp": (WGANGPBaseGenerator, WGANGPBaseDiscriminator, "wasserstein"),
    }[recipe]

    class Generator(generator_base):
        def __init__(self) -> None:
            super().__init__(generator.latent_dim, ngf=0, bottom_width=0, loss_type=loss_type)
            self.net = generator

        def forward(self, latent: Tensor) -> Tensor:
            return as_images(self.net(latent))

    class Critic(critic_base):
        penalty = torch.zeros(())

        def __init__(self) -> None:
            super().__init__(ndf=0, loss_type=loss_type)
            self.net = critic

        def forward(self, images: Tensor) -> Tensor:
            return self.net(images.reshape(-1, *critic.sample_shape))[:, None]

        def compute_gradient_penalty_loss(self, **inputs: Any) -> Tensor:
            penalty = super().compute_gradient_penalty_loss(**inputs)
            self.penalty = penalty.detach()  # the step logs the loss without it
            return penalty

    own, other, log = Generator(), Critic(), Log()
    of_generator, of_critic = adam(recipe, generator), adam(recipe, critic)

    def play(batch: fgan.Batch, noise: fgan.Noise) -> tuple[Tensor, Tensor]:
        for real, latent, mix in zip(batch.real, noise.critic_latent, noise.mix, strict=True):
            pair = as_images(real), None
            with drawing(latent, Epsilon(mix, pair[0].shape)):
                other.train_step(pair, own, of_critic, log)
        with drawing(noise.generator_latent):
            own.train_step(pair, other, of_generator, log)
        return log["errD"] + other.penalty, torch.tensor(log["errG"])

    return play


def as_images(samples: Tensor) -> Tensor:
    """[B, n] as [B, n, 1, 1], since torch-mimicry knows only images."""
    return samples if samples.ndim == 4 else samples[..., None, None]


class Log(dict):
    """What a training step reports, read at once as by torch-mimicry's `MetricLog`."""

    def add_metric(self, name: str, value: Any, group: str | None = None) -> None:
        self[name] = value.item() if isinstance(value, Tensor) else value


PEERS = {"torchgan": ({"gan"}, torchgan), "torch-mimicry": ({"gan", "wgan-gp"}, mimicry)}
