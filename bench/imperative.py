"""The round as everybody writes it: modules, `autograd.grad(create_graph=True)`, `torch.optim`.

Written for speed: fused optimisers, fakes drawn under `no_grad`, real and fake scored separately
as in the papers' code. The usual script lets the generator's step compute the gradients of the
critic's parameters too; here they are switched off, so that fgan meets the better habit.
"""

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

import fgan


class Imperative:
    """One recipe on two modules, which it changes."""

    def __init__(
        self,
        recipe: str,
        generator: nn.Module,
        critic: nn.Module,
        autocast: torch.dtype | None,
        capturable: bool = False,
    ) -> None:
        self.recipe, self.generator, self.critic = recipe, generator.train(), critic.train()
        device = next(generator.parameters()).device.type
        self.narrow = partial(torch.autocast, device, autocast, enabled=autocast is not None)
        fused = dict(fused=True, capturable=capturable)
        foreach = dict(foreach=True, capturable=capturable)  # RMSprop has no fused form
        make = {
            "gan": lambda p: torch.optim.Adam(p, 2e-4, betas=(0.5, 0.999), **fused),
            "wgan": lambda p: torch.optim.RMSprop(p, 5e-5, **foreach),
            "wgan-gp": lambda p: torch.optim.Adam(p, 1e-4, betas=(0.0, 0.9), **fused),
            "wgan-div": lambda p: torch.optim.Adam(p, 2e-4, betas=(0.5, 0.999), **fused),
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


class Captured:
    """The imperative round captured by hand in one CUDA graph, as torch's notes on them describe.

    What a user who wants no compiler would write for speed: three warm-up rounds on a side stream,
    whose changes are undone, then the whole round captured over memory of its own.
    """

    def __init__(
        self, recipe: str, generator: nn.Module, critic: nn.Module, autocast: torch.dtype | None
    ) -> None:
        self.round = Imperative(recipe, generator, critic, autocast, capturable=True)
        self.graph: torch.cuda.CUDAGraph | None = None

    def step(self, batch: fgan.Batch, noise: fgan.Noise) -> tuple[Tensor, Tensor]:
        """One round; the losses, which the next round overwrites."""
        if self.graph is None:
            self._capture(batch, noise)
        torch._foreach_copy_(self.inputs, [batch.real, *noise[:3]])
        self.graph.replay()
        return self.losses

    def _capture(self, batch: fgan.Batch, noise: fgan.Noise) -> None:
        self.inputs = [batch.real.clone(), *(tensor.clone() for tensor in noise[:3])]
        given = fgan.Batch(self.inputs[0]), fgan.Noise(*self.inputs[1:])
        modules = self.round.generator, self.round.critic
        before = [copy.deepcopy(module.state_dict()) for module in modules]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                self.round.step(*given)
        torch.cuda.current_stream().wait_stream(stream)
        for module, state in zip(modules, before, strict=True):
            module.load_state_dict(state)
        for optimizer in (self.round.generator_optimizer, self.round.critic_optimizer):
            for memory in optimizer.state.values():
                for tensor in memory.values():
                    tensor.zero_()  # as both optimisers begin
            optimizer.zero_grad(set_to_none=True)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.losses = self.round.step(*given)


def imperative_step(
    recipe: str, generator: nn.Module, critic: nn.Module, autocast: torch.dtype | None = None
) -> Callable[[fgan.Batch, fgan.Noise], tuple[Tensor, Tensor]]:
    """A round as a function of its data alone."""
    return Imperative(recipe, generator, critic, autocast).step


def captured_step(
    recipe: str, generator: nn.Module, critic: nn.Module, autocast: torch.dtype | None = None
) -> Callable[[fgan.Batch, fgan.Noise], tuple[Tensor, Tensor]]:
    """The same in one CUDA graph."""
    return Captured(recipe, generator, critic, autocast).step
