"""The round as everybody writes it: modules, `autograd.grad(create_graph=True)`, `torch.optim`.

Written for speed: fused optimisers, fakes drawn under `no_grad`, real and fake scored separately
as in the papers' code. The usual script lets the generator's step compute the gradients of the
critic's parameters too; here they are switched off, so that fgan meets the better habit.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import fgan


class Imperative:
    """One recipe on two modules, which it changes."""

    def __init__(
        self, recipe: str, generator: nn.Module, critic: nn.Module, autocast: torch.dtype | None
    ) -> None:
        self.recipe, self.generator, self.critic = recipe, generator.train(), critic.train()
        device = next(generator.parameters()).device.type
        self.narrow = partial(torch.autocast, device, autocast, enabled=autocast is not None)
        make = {
            "gan": lambda p: torch.optim.Adam(p, 2e-4, betas=(0.5, 0.999), fused=True),
            "wgan": lambda p: torch.optim.RMSprop(p, 5e-5, foreach=True),  # it has no fused form
            "wgan-gp": lambda p: torch.optim.Adam(p, 1e-4, betas=(0.0, 0.9), fused=True),
            "wgan-div": lambda p: torch.optim.Adam(p, 2e-4, betas=(0.5, 0.999), fused=True),
        }[recipe]
        self.generator_optimizer = make(generator.parameters())
        self.critic_optimizer = make(critic.parameters())

    def step(self, batch: fgan.Batch, noise: fgan.Noise) -> tuple[Tensor, Tensor]:
        """One round; the last critic loss and the generator loss."""
        self.critic.requires_grad_(True)
        for real, latent, mix in zip(batch.real, noise.critic_latent, noise.mix, strict=True):
            with torch.no_grad(), self.narrow():
                fake = self.generator(latent).to(real.dtype)
            with self.narrow():
                loss = self.critic_loss(real, fake, mix)
            self.critic_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.critic_optimizer.step()
            if self.recipe == "wgan":
                with torch.no_grad():
                    torch._foreach_clamp_min_(list(self.critic.parameters()), -0.01)
                    torch._foreach_clamp_max_(list(self.critic.parameters()), 0.01)
        self.critic.requires_grad_(False)
        with self.narrow():
            score = self.critic(self.generator(noise.generator_latent))
            generator_loss = (softplus(-score) if self.recipe == "gan" else -score).mean()
        self.generator_optimizer.zero_grad(set_to_none=True)
        generator_loss.backward()
        self.generator_optimizer.step()
        return loss.detach(), generator_loss.detach()

    def critic_loss(self, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
        """The whole objective of one critic update."""
        if self.recipe == "gan":
            return softplus(-self.critic(real)).mean() + softplus(self.critic(fake)).mean()
        if self.recipe == "wgan":
            return self.critic(fake).mean() - self.critic(real).mean()
        if self.recipe == "wgan-gp":
            mix = mix.reshape(-1, *[1] * (real.ndim - 1))
            points = (mix * real + (1 - mix) * fake).requires_grad_(True)
            penalty = 10 * (self.norms(self.critic(points), points) - 1).square().mean()
            return self.critic(fake).mean() - self.critic(real).mean() + penalty
        points = torch.cat([real, fake]).requires_grad_(True)
        scores = self.critic(points)
        real_scores, fake_scores = scores.chunk(2)
        penalty = 2 * (self.norms(scores, points) ** 6).mean()
        return fake_scores.mean() - real_scores.mean() + penalty

    @staticmethod
    def norms(scores: Tensor, points: Tensor) -> Tensor:
        """Per-sample gradient norms with a graph behind them."""
        (slopes,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
        return slopes.flatten(1).norm(dim=1)


def imperative_step(
    recipe: str, generator: nn.Module, critic: nn.Module, autocast: torch.dtype | None = None
) -> Callable[[fgan.Batch, fgan.Noise], tuple[Tensor, Tensor]]:
    """A round as a function of its data alone."""
    return Imperative(recipe, generator, critic, autocast).step
