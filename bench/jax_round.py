"""The same round in JAX: one `jax.jit` program with a donated state and optax's optimisers.

`jax_step` translates the bench's modules, weights and all, into pure functions of its own and plays
from there. It is written for speed, as far as trying on two CPU cores could tell:

- one program a round; the fakes of all critic updates come from one pass of the generator, outside
  every gradient, and the critic's updates are one `lax.scan`;
- real and fake are scored in one pass, which takes a quarter off the MLP's round; the penalty's
  gradient is that of the summed scores (`vmap(grad)` takes as long), and WGAN-div has it from the
  scoring pass itself (`jax.vjp`), where ‖g‖⁶ is (Σg²)³, without a root;
- images are [B, H, W, C] throughout, and the linear layers beside an image have their weights
  permuted once, so that nothing is transposed in between;
- on the CPU a strided convolution is a space-to-depth, and an upsampling one a depth-to-space, by
  a 2x2 window written as one matrix product, in two thirds of the time of `lax.conv`, whose
  derivatives are the slow part. Other backends use `lax.conv` for the window;
- Adam with β₁ = 0 keeps no first moment, as the docstring of `optax.scale_by_rms` puts it together.

XLA's CPU backend has its own pool of threads: one per core that the process may run on, or as many
as the environment's `PJRT_NPROC` says when JAX starts. Neither `torch.set_num_threads` nor
`OMP_NUM_THREADS` moves it; `taskset` limits all contestants alike.

Matrix products are in float32 also where JAX's default is less, as is torch's default;
convolutions on a GPU may use TF32, as cuDNN's do under torch's defaults.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch
from einops.layers.torch import Rearrange
from jax import Array, lax
from torch import nn

import fgan
from fgan.models.blocks import UpsampleConv2d
from fgan.models.layers import join_flat

Layer = Callable[[Any, Any, Array], tuple[Array, Any]]
"""(parameters, running statistics, x) -> output, new statistics."""


def jax_step(
    recipe: str, generator: nn.Module, critic: nn.Module, unroll: int | bool = False
) -> Callable[[fgan.Batch, fgan.Noise], tuple[Array, Array]]:
    """A round as a function of its data alone: the last critic loss and the generator loss.

    unroll: `lax.scan`'s. True writes the critic updates out, which is no faster on the CPU and
        takes twice as long to compile.

    JAX dispatches asynchronously; `play` waits for the new state, so that whoever times it times
    the work. Tensors go in through DLPack, without a copy where they are aligned as XLA wants them.
    Raises TypeError, with the layer, for a layer that the bench's networks do not have.
    """
    return playing(*round_and_state(recipe, generator, critic, unroll))


def jax_population(
    recipe: str, pairs: list[tuple[nn.Module, nn.Module]]
) -> Callable[[fgan.Batch, fgan.Noise], tuple[Array, Array]]:
    """The round of all pairs at once, of one batch and noise of their own: losses [members]."""
    rounds, states = zip(*(round_and_state(recipe, *pair) for pair in pairs), strict=True)
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    return playing(jax.vmap(rounds[0], in_axes=(0, None, 1, 0, 1)), together)


def playing(round_of: Callable[..., tuple], state: Any) -> Callable[..., tuple[Array, Array]]:
    """The round, compiled with a donated state, which it carries along."""
    compiled = jax.jit(round_of, donate_argnums=0)
    known: dict[int, tuple[torch.Tensor, Array]] = {}

    def in_jax(tensor: torch.Tensor) -> Array:
        # Once for each tensor: a round's time is not to hold the conversion.
        if id(tensor) not in known:
            known[id(tensor)] = tensor, jnp.from_dlpack(tensor)
        return known[id(tensor)][1]

    def play(batch: fgan.Batch, noise: fgan.Noise) -> tuple[Array, Array]:
        nonlocal state
        inputs = batch.real, noise.critic_latent, noise.generator_latent, noise.mix
        state, losses = compiled(state, *map(in_jax, inputs))
        jax.block_until_ready((state, losses))
        return losses

    return play


def round_and_state(
    recipe: str, generator: nn.Module, critic: nn.Module, unroll: int | bool = False
) -> tuple[Callable[..., tuple], Any]:
    """`round(state, real, latents, latent, mix) -> (state, losses)`, and the first state."""
    jax.config.update("jax_default_matmul_precision", "float32")
    make_fake, generator_params, statistics = translate(generator)
    score_with, critic_params, nothing = translate(critic)
    optimizer = OPTIMIZERS[recipe]()
    state = (
        (generator_params, statistics, optimizer.init(generator_params)),
        (critic_params, optimizer.init(critic_params)),
    )

    def score(params: Any, x: Array) -> Array:
        return score_with(params, nothing, x)[0].reshape(-1)

    def descend(params: Any, opt_state: Any, gradients: Any) -> tuple[Any, Any]:
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def critic_update(player: tuple, data: tuple) -> tuple[tuple, Array]:
        params, opt_state = player
        loss, gradients = jax.value_and_grad(CRITIC_LOSSES[recipe], argnums=1)(score, params, *data)
        params, opt_state = descend(params, opt_state, gradients)
        if recipe == "wgan":
            params = jax.tree.map(lambda p: jnp.clip(p, -0.01, 0.01), params)
        return (params, opt_state), loss

    def round_of(state: tuple, real: Array, latents: Array, latent: Array, mix: Array) -> tuple:
        (params, statistics, opt_state), second = state
        if real.ndim == 5:
            real = jnp.moveaxis(real, 2, -1)
        fakes = jax.vmap(lambda z: make_fake(params, statistics, z)[0])(latents)
        second, losses = lax.scan(critic_update, second, (real, fakes, mix), unroll=unroll)

        def generator_loss(params: Any) -> tuple[Array, Any]:
            fake, new_statistics = make_fake(params, statistics, latent)
            scores = score(second[0], fake)
            loss = jax.nn.softplus(-scores) if recipe == "gan" else -scores
            return loss.mean(), new_statistics

        (loss, statistics), gradients = jax.value_and_grad(generator_loss, has_aux=True)(params)
        params, opt_state = descend(params, opt_state, gradients)
        return ((params, statistics, opt_state), second), (losses[-1], loss)

    return round_of, state


def gan_loss(score: Callable, params: Any, real: Array, fake: Array, mix: Array) -> Array:
    """softplus(-D(x)) + softplus(D(G(z)))."""
    real_scores, fake_scores = score_both(score, params, real, fake)
    return (jax.nn.softplus(-real_scores) + jax.nn.softplus(fake_scores)).mean()


def wgan_loss(score: Callable, params: Any, real: Array, fake: Array, mix: Array) -> Array:
    """D(G(z)) - D(x)."""
    real_scores, fake_scores = score_both(score, params, real, fake)
    return (fake_scores - real_scores).mean()


def wgan_gp_loss(score: Callable, params: Any, real: Array, fake: Array, mix: Array) -> Array:
    """... + 10 (‖∇D(x̂)‖ - 1)²."""
    mix = mix.reshape(-1, *[1] * (real.ndim - 1))
    slopes = jax.grad(lambda x: score(params, x).sum())(mix * real + (1 - mix) * fake)
    squares = jnp.square(slopes).reshape(len(slopes), -1).sum(axis=1)
    # Twice `where`, since the root's infinite slope at 0 would reach the parameters as NaN.
    norms = jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)
    return wgan_loss(score, params, real, fake, mix) + 10 * jnp.square(norms - 1).mean()


def wgan_div_loss(score: Callable, params: Any, real: Array, fake: Array, mix: Array) -> Array:
    """... + k ‖∇D(u)‖ᵖ with k = 2, p = 6 and u half real, half fake."""
    points = jnp.concatenate([real, fake])
    scores, slopes_by = jax.vjp(partial(score, params), points)
    (slopes,) = slopes_by(jnp.ones_like(scores))
    squares = jnp.square(slopes).reshape(len(slopes), -1).sum(axis=1)
    real_scores, fake_scores = jnp.split(scores, 2)
    return (fake_scores - real_scores).mean() + 2 * (squares**3).mean()


def score_both(score: Callable, params: Any, real: Array, fake: Array) -> list[Array]:
    """Both scores from one pass: no critic of the bench mixes samples."""
    return jnp.split(score(params, jnp.concatenate([real, fake])), 2)


CRITIC_LOSSES = {
    "gan": gan_loss,
    "wgan": wgan_loss,
    "wgan-gp": wgan_gp_loss,
    "wgan-div": wgan_div_loss,
}


def adam_without_mean(rate: float, decay: float) -> optax.GradientTransformation:
    """Adam with β₁ = 0."""
    scaled = optax.scale_by_rms(decay, eps=1e-8, eps_in_sqrt=False, bias_correction=True)
    return optax.chain(scaled, optax.scale_by_learning_rate(rate))


# torch's optimisers add their ε outside the root. So does optax's Adam; its RMSprop is told to.
OPTIMIZERS = {
    "gan": lambda: optax.adam(2e-4, b1=0.5, b2=0.999, eps=1e-8),
    "wgan": lambda: optax.rmsprop(5e-5, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "wgan-gp": lambda: adam_without_mean(1e-4, 0.9),
    "wgan-div": lambda: optax.adam(2e-4, b1=0.5, b2=0.999, eps=1e-8),
}


def translate(model: nn.Module) -> tuple[Layer, list, list]:
    """A model of `fgan.models` as a pure function, its parameters and its running statistics."""
    modules = [*([model.stem] if hasattr(model, "stem") else []), *model.layers]
    channels = model.sample_shape[0]  # of the image that is next to be flattened
    layers, params, statistics = [], [], []
    # Between layers that have an order of features, those that act on single numbers do not count.
    ordered = [m for m in modules if not isinstance(m, nn.LeakyReLU | nn.ReLU | nn.Tanh)]
    before = dict(zip(ordered[1:], ordered, strict=False))
    after = dict(itertools.pairwise(ordered))
    for module in modules:
        own, seen = (), ()
        match module:
            case nn.Linear():
                weight, bias = array(module.weight), array(module.bias)
                if before.get(module) is join_flat or isinstance(before.get(module), Rearrange):
                    weight = positions_first(weight.T, channels).T
                if isinstance(after.get(module), Rearrange):
                    image = after[module].axes_lengths["axis0"]
                    weight, bias = positions_first(weight, image), positions_first(bias, image)
                own, layer = (weight.T, bias), pure(lambda own, x: x @ own[0] + own[1])
            case UpsampleConv2d():
                own = array(module.weight.permute(2, 3, 1, 0)), array(module.bias)
                layer = pure(upsample)
            case nn.Conv2d(kernel_size=(4, 4), stride=(2, 2), padding=(1, 1), groups=1):
                own = array(module.weight.permute(2, 3, 1, 0)), array(module.bias)
                layer, channels = pure(downsample), module.out_channels
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                own = array(module.weight), array(module.bias)
                seen = array(module.running_mean), array(module.running_var)
                layer = partial(batch_norm, momentum=module.momentum, eps=module.eps)
            case nn.LeakyReLU(negative_slope=slope):
                layer = pure(lambda own, x, slope=slope: jnp.where(x > 0, x, slope * x))
            case nn.ReLU():
                layer = pure(lambda own, x: jax.nn.relu(x))
            case nn.Tanh():
                layer = pure(lambda own, x: jnp.tanh(x))
            case Rearrange(axes_lengths={"axis0": c, "axis1": h, "axis2": w}):
                layer = pure(lambda own, x, to=(h, w, c): x.reshape(-1, *to))
            case _ if module is join_flat or isinstance(module, Rearrange):
                layer = pure(lambda own, x: x.reshape(len(x), -1))
            case _:
                raise TypeError(f"no translation into JAX for {module}")
        layers.append(layer)
        params.append(own)
        statistics.append(seen)

    def apply(params: list, statistics: list, x: Array) -> tuple[Array, list]:
        new = []
        for layer, own, before in zip(layers, params, statistics, strict=True):
            x, after = layer(own, before, x)
            new.append(after)
        return x, new

    return apply, params, statistics


def array(tensor: torch.Tensor) -> Array:
    """A copy, never a view: the state is donated, and the module's weights must outlive it."""
    return jnp.array(tensor.detach().cpu().numpy(), copy=True)


def positions_first(rows: Array, channels: int) -> Array:
    """Rows in the order (c h w), as torch flattens an image, into the order (h w c)."""
    return jnp.swapaxes(rows.reshape(channels, -1, *rows.shape[1:]), 0, 1).reshape(rows.shape)


def pure(function: Callable[[Any, Array], Array]) -> Layer:
    """A layer without running statistics."""
    return lambda own, seen, x: (function(own, x), seen)


def batch_norm(own: tuple, seen: tuple, x: Array, momentum: float, eps: float) -> tuple:
    """Normalised by the batch's statistics, of which the running ones take their share."""
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    unbiased = var * (x.size / x.shape[-1] / (x.size / x.shape[-1] - 1))
    moved = (old + momentum * (new - old) for old, new in zip(seen, (mean, unbiased), strict=True))
    return (x - mean) * (lax.rsqrt(var + eps) * own[0]) + own[1], tuple(moved)


def downsample(own: tuple, x: Array) -> Array:
    """The 4x4 convolution of stride 2: 2x2 pixels into channels, then a 2x2 window."""
    kernel, bias = own
    inputs, outputs = kernel.shape[2:]
    x = pad(x)
    b, h, w, _ = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, inputs).transpose(0, 1, 3, 2, 4, 5)
    kernel = kernel.reshape(2, 2, 2, 2, inputs, outputs).transpose(0, 2, 1, 3, 4, 5)
    return window(x.reshape(b, h // 2, w // 2, -1), kernel.reshape(2, 2, -1, outputs)) + bias


def upsample(own: tuple, x: Array) -> Array:
    """Nearest neighbours, then 3x3: each pixel of 2x2 sees 2x2 inputs through summed weights."""
    kernel, bias = own
    (b, h, w, _), (*_, inputs, outputs) = x.shape, kernel.shape
    sides = [(i, 1 - i) for i in (0, 1)]
    kernel = sum(jnp.pad(kernel, (up, left, (0, 0), (0, 0))) for up in sides for left in sides)
    kernel = kernel.reshape(2, 2, 2, 2, inputs, outputs).transpose(0, 2, 4, 1, 3, 5)
    y = window(pad(x), kernel.reshape(2, 2, inputs, -1)).reshape(b, h + 1, w + 1, 2, 2, outputs)
    rows = [jnp.stack([y[:, i : i + h, j : j + w, i, j] for j in (0, 1)], 3) for i in (0, 1)]
    return jnp.stack(rows, 2).reshape(b, 2 * h, 2 * w, outputs) + bias


def pad(x: Array) -> Array:
    """A frame of zeros, one pixel wide."""
    return jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))


def window(x: Array, kernel: Array) -> Array:
    """Products with a 2x2 kernel at every place where it fits."""
    if jax.default_backend() != "cpu":
        return lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=lax.Precision.DEFAULT,
        )
    corners = [x[:, :-1, :-1], x[:, :-1, 1:], x[:, 1:, :-1], x[:, 1:, 1:]]
    return jnp.concatenate(corners, -1) @ kernel.reshape(-1, kernel.shape[-1])
