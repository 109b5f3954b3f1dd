"""The loop that one would write with modules, autograd.grad and torch.optim; nothing of fgan's.

It keeps the rules for buffers by hand: fakes drawn for the critic leave the generator's buffers
alone, all critic passes of one update start from the same buffers, and those after the pass over
the real samples are kept.
"""

import copy

import torch
from torch.nn.functional import logsigmoid


def buffers_of(module):
    """The module's buffers as they stand, for `put_back`."""
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def put_back(module, buffers):
    """New tensors rather than writes into the old ones, which autograd may still need."""
    for name, buffer in buffers.items():
        path, _, key = name.rpartition(".")
        module.get_submodule(path)._buffers[key] = buffer.clone()


FIGURES = (
    "critic_loss", "generator_loss", "distance", "penalty", "real_score", "fake_score",
    "critic_grad_norm", "generator_grad_norm",
)  # fmt: skip


LOG2 = torch.tensor(2.0).double().log()

LOSSES = {
    "wasserstein": (lambda r, f: f.mean() - r.mean(), lambda loss: -loss),
    "non_saturating": (
        lambda r, f: -logsigmoid(r).mean() - logsigmoid(-f).mean(),
        lambda loss: LOG2 - loss / 2,
    ),
    "hinge": (
        lambda r, f: (1 - r).clamp(min=0).mean() + (1 + f).clamp(min=0).mean(),
        lambda loss: 1 - loss / 2,
    ),
    "least_squares": (
        lambda r, f: 0.5 * ((r - 1) ** 2).mean() + 0.5 * (f**2).mean(),
        lambda loss: 1 - 4 * loss,
    ),
    "relativistic": (lambda r, f: -logsigmoid(r - f).mean(), lambda loss: LOG2 - loss),
}
LOSSES["minimax"] = LOSSES["non_saturating"]
"""The critic's loss of scores [B], and the distance that it says."""

GENERATOR_LOSSES = {
    "wasserstein": lambda r, f: -f.mean(),
    "non_saturating": lambda r, f: -logsigmoid(f).mean(),
    "minimax": lambda r, f: logsigmoid(-f).mean(),
    "hinge": lambda r, f: -f.mean(),
    "least_squares": lambda r, f: 0.5 * ((f - 1) ** 2).mean(),
    "relativistic": lambda r, f: -logsigmoid(f - r).mean(),
}


class Twin:
    """The usual training loop; every figure of a round is kept in `info`."""

    def __init__(self, generator, critic, spec, optimizer, ema_decay=None):
        self.generator, self.critic = copy.deepcopy(generator), copy.deepcopy(critic)
        self.spec, self.info, self.ema_decay = spec, {}, ema_decay
        self.ema = {n: p.detach().clone() for n, p in self.generator.named_parameters()}
        self.ema |= buffers_of(self.generator)
        self.optimize_critic = optimizer(self.critic.parameters())
        self.optimize_generator = optimizer(self.generator.parameters())

    def round(self, batch, noise, simultaneous=False):
        """n_critic critic updates, then one of the generator, which a simultaneous one precedes."""
        updates = batch.real.shape[0]
        labels = [() if batch.condition is None else (batch.condition[i],) for i in range(updates)]
        of_last = noise.generator_latent, labels[-1], batch.real[-1]
        if simultaneous:
            generator_gradients = self.generator_gradients(*of_last)
        for i in range(updates):
            self.drawn = {name: x[i] for name, x in noise.extra.get("critic", {}).items()}
            self.update_critic(batch.real[i], labels[i], noise.critic_latent[i], noise.mix[i])
        if not simultaneous:
            generator_gradients = self.generator_gradients(*of_last)
        self.apply(self.optimize_generator, self.generator, generator_gradients)
        if self.ema_decay is not None:
            averaged, d = dict(self.generator.named_parameters()), self.ema_decay
            for name, buffer in buffers_of(self.generator).items():
                if name.endswith(("running_mean", "running_var")):
                    averaged[name] = buffer
                else:
                    self.ema[name] = buffer
            for name, value in averaged.items():
                self.ema[name] = d * self.ema[name] + (1 - d) * value.detach()

    def apply(self, optimizer, module, gradients):
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            parameter.grad = gradient.detach()
        optimizer.step()

    def norm(self, gradients):
        return sum(g.pow(2).sum() for g in gradients).sqrt()

    def update_critic(self, real, label, latent, mix):
        before = buffers_of(self.generator)
        fake = self.generator.train()(latent, *label).detach()
        put_back(self.generator, before)

        start = buffers_of(self.critic)
        real_scores = self.critic.train()(real, *label).reshape(-1)
        kept = buffers_of(self.critic)
        put_back(self.critic, start)
        fake_scores = self.critic(fake, *label).reshape(-1)

        of_scores, distance_of = LOSSES[self.spec["loss"]]
        loss = of_scores(real_scores, fake_scores)
        distance = distance_of(loss)
        penalty = torch.zeros_like(loss)
        if self.spec.get("penalty"):
            put_back(self.critic, start)
            if self.spec["at"] == "around_real":
                points, at = around(real, self.drawn["perturbation"], mix), label
            else:
                points, at = POINTS[self.spec["at"]](real, fake, mix, label)
            points = points.detach().requires_grad_()
            scores = self.critic(points, *at).sum()
            (slope,) = torch.autograd.grad(scores, points, create_graph=True)
            penalty = self.spec["penalty"](slope.flatten(1).pow(2).sum(dim=1)).mean()
        put_back(self.critic, kept)

        objective = loss + self.spec.get("weight", 1.0) * penalty
        gradients = torch.autograd.grad(objective, list(self.critic.parameters()))
        self.apply(self.optimize_critic, self.critic, gradients)
        if clip := self.spec.get("clip"):
            for parameter in self.critic.parameters():
                parameter.data.clamp_(-clip, clip)
        figures = objective, distance, penalty, real_scores.mean(), fake_scores.mean()
        names = ("critic_loss", "distance", "penalty", "real_score", "fake_score")
        self.info |= dict(zip(names, (f.detach() for f in figures), strict=True))
        self.info["critic_grad_norm"] = self.norm(gradients)

    def generator_gradients(self, latent, label, real):
        """Gradients at the present state; the generator's buffers move, the critic's do not."""
        start = buffers_of(self.critic)
        scores = self.critic.train()(self.generator.train()(latent, *label), *label).reshape(-1)
        put_back(self.critic, start)
        real_scores = None
        if self.spec["loss"] == "relativistic":
            real_scores = self.critic(real, *label).reshape(-1)
            put_back(self.critic, start)
        loss = GENERATOR_LOSSES[self.spec["loss"]](real_scores, scores)
        gradients = torch.autograd.grad(loss, list(self.generator.parameters()))
        self.info |= {"generator_loss": loss.detach(), "generator_grad_norm": self.norm(gradients)}
        return gradients

    def tensors(self):
        """What fgan's state should hold, and the info."""
        own = [
            ({n: p.detach() for n, p in m.named_parameters()}, buffers_of(m))
            for m in (self.generator, self.critic)
        ]
        return *own, {name: self.info[name] for name in FIGURES}


def mates(label, size):
    """The next sample with the same label, round the corner if need be."""
    same = [
        [not label or bool(label[0][i] == label[0][j]) for j in range(size)] for i in range(size)
    ]
    return [
        next(j % size for j in range(i + 1, i + size + 1) if same[i][j % size]) for i in range(size)
    ]


def mixed_up(real, fake, mix, label, partner_of_real, partner_of_fake):
    """Interpolates between both batches and their partners, one sample at a time."""
    at_real = [e * a + (1 - e) * b for e, a, b in zip(mix, real, partner_of_real, strict=True)]
    at_fake = [e * a + (1 - e) * b for e, a, b in zip(mix, fake, partner_of_fake, strict=True)]
    return torch.stack(at_real + at_fake), twice(label)


def twice(label):
    return tuple(torch.cat([y, y]) for y in label)


def within(real, fake, mix, label):
    j = mates(label, len(real))
    return mixed_up(real, fake, mix, label, real[j], fake[j])


def pooled(real, fake, mix, label):
    """Even samples meet their own kind, odd ones the other."""
    j = mates(label, len(real))
    for_real = torch.stack([fake[i] if i % 2 else real[j[i]] for i in range(len(real))])
    for_fake = torch.stack([real[i] if i % 2 else fake[j[i]] for i in range(len(real))])
    return mixed_up(real, fake, mix, label, for_real, for_fake)


def between(real, fake, mix, label):
    points = [e * a + (1 - e) * b for e, a, b in zip(mix, real, fake, strict=True)]
    return torch.stack(points), label


POINTS = {
    "real": lambda real, fake, mix, label: (real, label),
    "fake": lambda real, fake, mix, label: (fake, label),
    "real_and_fake": lambda real, fake, mix, label: (torch.cat([real, fake]), twice(label)),
    "interpolate": between,
    "interpolate_within": within,
    "interpolate_mixed": pooled,
}


def around(real, uniform, mix):
    """DRAGAN's points, with NumPy's standard deviation, as its authors' code has it."""
    spread = float(real.numpy().std())
    return torch.stack(
        [x + e * 0.5 * spread * u for x, u, e in zip(real, uniform, mix, strict=True)]
    )


def r1_and_r2(gamma=1.0):
    """γ times ½ (mean ‖∇D(x)‖² + mean ‖∇D(G(z))‖²)."""

    def penalty(square):
        of_real, of_fake = square.chunk(2)
        return (of_real.mean() + of_fake.mean()) / 2

    return dict(loss="relativistic", penalty=penalty, at="real_and_fake", weight=gamma)


def gp(target=1.0, one_sided=False, at="interpolate", weight=10.0, loss="wasserstein"):
    """What a gradient penalty makes of squared norms."""

    def penalty(square):
        excess = square.sqrt() - target
        return (excess.clamp(min=0) if one_sided else excess) ** 2

    return dict(loss=loss, penalty=penalty, at=at, weight=weight)


def div(k=2.0, p=6.0, at="real_and_fake"):
    """k‖∇D‖^p is k(‖∇D‖²)^(p/2)."""
    return dict(loss="wasserstein", penalty=lambda square: k * square ** (p / 2), at=at)
