"""The run that a script without fgan would make: modules, `backward()`, `optimizer.step()`.

The same networks, weights at the start, batches, noise and hyper-parameters as fgan's run, and the
same averages of the generator. Real and fake samples are scored in one pass, and the critic's
parameters are frozen in the generator's update: the better habits, so that fgan meets them.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fgan
from fgan import tree
from fgan.recipes import RECIPES
from fgan.run.build import EMA_HORIZON
from fgan.run.configuration import Config
from fgan.types import EMA, GANState, PlayerState

CRITIC = {
    "gan": lambda r, f: F.softplus(-r) + F.softplus(f),
    "wgan": lambda r, f: f - r,
    "hinge-gan": lambda r, f: F.relu(1 - r) + F.relu(1 + f),
    "lsgan": lambda r, f: ((r - 1) ** 2 + f**2) / 2,
    "r3gan": lambda r, f: F.softplus(f - r),
}
GENERATOR = {
    "gan": lambda r, f: F.softplus(-f),
    "wgan": lambda r, f: -f,
    "hinge-gan": lambda r, f: -f,
    "lsgan": lambda r, f: (f - 1) ** 2 / 2,
    "r3gan": lambda r, f: F.softplus(r - f),
}
for _losses in (CRITIC, GENERATOR):
    _losses["wgan-gp"] = _losses["wgan-div"] = _losses["wgan"]


class NoPeerError(ValueError):
    """A run that the peer does not play."""


class Peer:
    """One run of a recipe with the settings of the command line, from the weights of a state."""

    def __init__(
        self, config: Config, generator: nn.Module, critic: nn.Module, state: GANState
    ) -> None:
        if config.recipe not in CRITIC or (config.loss, config.sample_at) != (None, None):
            raise NoPeerError(f"there is no imperative peer of {config.recipe} with these settings")
        if config.augment or config.accumulate > 1 or config.decay == "cosine":
            raise NoPeerError("the imperative peer has no augmentation, parts or cosine")
        self.config = config
        self.generator, self.critic = copy.deepcopy(generator), copy.deepcopy(critic)
        for module, player in ((self.generator, state.generator), (self.critic, state.critic)):
            module.load_state_dict(player.params | player.buffers)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.rounds = 0
        self.optimizers = [self._optimizer(self.generator, config.lr_generator)]
        self.optimizers.append(self._optimizer(self.critic, config.lr_critic))

    def _optimizer(self, module: nn.Module, own: float | None) -> torch.optim.Optimizer:
        rate = own or self.config.lr or 1e-3
        if self.config.recipe == "wgan":
            return torch.optim.RMSprop(module.parameters(), rate, foreach=True)
        default = RECIPES[self.config.recipe].optimizer.keywords["betas"]
        betas = self.config.betas or default
        return torch.optim.Adam(module.parameters(), rate, betas=betas, fused=True)

    def step(self, batch: fgan.Batch, noise: fgan.Noise) -> Tensor:
        """One round; the last critic loss."""
        self._decay()
        labels = [()] * len(batch.real) if batch.condition is None else list(zip(batch.condition))
        self.critic.requires_grad_(True)
        inputs = zip(batch.real, labels, noise.critic_latent, noise.mix, strict=True)
        for real, label, latent, mix in inputs:
            with torch.no_grad():
                fake = self.generator(latent, *label)
            loss = self.critic_loss(real, fake, label, mix)
            self.optimizers[1].zero_grad(set_to_none=True)
            loss.backward()
            self.optimizers[1].step()
            if self.config.recipe == "wgan":
                clip = 0.01 if self.config.clip is None else self.config.clip
                with torch.no_grad():
                    torch._foreach_clamp_min_(list(self.critic.parameters()), -clip)
                    torch._foreach_clamp_max_(list(self.critic.parameters()), clip)
        self.critic.requires_grad_(False)
        fake = self.generator(noise.generator_latent, *labels[-1])
        score = self.critic(fake, *labels[-1])
        of_real = self.critic(batch.real[-1], *labels[-1]) if self.config.recipe == "r3gan" else 0
        self.optimizers[0].zero_grad(set_to_none=True)
        GENERATOR[self.config.recipe](of_real, score).mean().backward()
        self.optimizers[0].step()
        self._average()
        self.rounds += 1
        return loss.detach()

    def critic_loss(self, real: Tensor, fake: Tensor, label: tuple, mix: Tensor) -> Tensor:
        """The whole objective of one critic update."""
        config, both = self.config, tuple(torch.cat([y, y]) for y in label)
        gamma = config.gamma or 0.0
        if config.recipe == "r3gan" and config.gamma is None:
            gamma = 1.0
        real.requires_grad_(config.recipe == "gan" and gamma > 0)
        points = torch.cat([real, fake])
        if config.recipe in ("wgan-div", "r3gan"):
            points.requires_grad_()
        scores = self.critic(points, *both).reshape(-1)
        loss = CRITIC[config.recipe](*scores.chunk(2)).mean()
        if config.recipe == "wgan-gp":
            mix = mix.reshape(-1, *[1] * (real.ndim - 1))
            between = (mix * real + (1 - mix) * fake).requires_grad_()
            norms = self.squares(self.critic(between, *label), between).sqrt()
            weight = 10.0 if config.penalty_weight is None else config.penalty_weight
            return loss + weight * (norms - 1).square().mean()
        if config.recipe == "wgan-div":
            k, p = config.k or 2.0, config.p or 6.0
            return loss + k * (self.squares(scores, points) ** (p / 2)).mean()
        if config.recipe == "r3gan":
            return loss + gamma * self.squares(scores, points).mean()
        if real.requires_grad:
            return loss + gamma / 2 * self.squares(scores, real).mean()
        return loss

    @staticmethod
    def squares(scores: Tensor, points: Tensor) -> Tensor:
        """‖∇D(x)‖² of every point, with a graph behind it."""
        (slopes,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
        return slopes.flatten(1).square().sum(dim=1)

    def _decay(self) -> None:
        """The rates of this round; those of the critic fall from update to update in fgan."""
        if self.config.decay == "none":
            return
        first = int(self.config.decay_from * self.config.rounds)
        share = min(1.0, max(0, self.rounds - first) / (self.config.rounds - first))
        own = (self.config.lr_generator, self.config.lr_critic)
        for optimizer, rate in zip(self.optimizers, own, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = (rate or self.config.lr or 1e-3) * (1 - share)

    @torch.no_grad()
    def _average(self) -> None:
        if self.config.ema_decay is None:
            return
        decay = self.config.ema_decay
        if self.config.ema_warmup:
            decay = min(decay, max(0.0, 1 - EMA_HORIZON / (self.rounds + 1)))
        mean, weight = self.average, 1 - decay
        torch._foreach_lerp_(list(mean.parameters()), list(self.generator.parameters()), weight)
        for kept, (name, new) in zip(mean.buffers(), self.generator.named_buffers(), strict=True):
            if name.endswith(("running_mean", "running_var")):
                kept.lerp_(new, weight)
            else:
                kept.copy_(new)

    def state(self) -> GANState:
        """The modules' tensors as a state, for the evaluation that fgan's runs have."""
        made = [
            PlayerState(*fgan.networks.parameters_and_buffers(module), {})
            for module in (self.generator, self.critic)
        ]
        kept: EMA | dict[str, Tensor] = {}
        if self.config.ema_decay is not None:
            params, buffers = fgan.networks.parameters_and_buffers(self.generator)
            averaged = tree.clone(self.average.state_dict())
            kept = EMA({n: averaged[n] for n in params}, {n: averaged[n] for n in buffers})
        return GANState(*made, kept, torch.tensor(self.rounds))
