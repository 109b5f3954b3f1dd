"""The algorithms by name: a loss, penalties, a projection, and the defaults of the paper.

Every recipe takes any generator and critic module and returns an `Algorithm`. Conditions are no
recipe of their own (Mirza & Osindero 2014, arXiv 1411.1784): give `generator(z, y)`, `critic(x, y)`
and batches with conditions, and every recipe below is conditional. Fakes are then made under the
conditions of the real batch, and a penalty differentiates by x alone with y held.

All recipes take the keywords of `fgan.algorithm.Settings`. `RECIPES` is the one registry: the
command line, the bench, the tests and the README read names and defaults from there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import log
from typing import Any, NamedTuple, Unpack, cast

from torch import Tensor, nn

from fgan import losses, tree
from fgan.algorithm import Settings, make_algorithm
from fgan.checks import check_per_sample
from fgan.networks import check_module, is_per_sample
from fgan.objectives import Draw, Penalty, adversarial, adversarial_generator
from fgan.optim import Optimizer, adam, rmsprop
from fgan.penalties import (
    Points,
    batched_input_gradients,
    gradient_penalty,
    perturb,
    w_divergence_penalty,
    zero_centered_penalty,
)
from fgan.scalars import (
    Scalar,
    check_count,
    check_flag,
    check_number,
    check_scalar,
    scalar_at,
)
from fgan.scores import describe
from fgan.types import Algorithm, Data, Params

__all__ = [
    "RECIPES",
    "Recipe",
    "clip_parameters",
    "critic_warmup",
    "dragan",
    "gan",
    "hinge_gan",
    "lsgan",
    "r3gan",
    "wgan",
    "wgan_div",
    "wgan_gp",
]


def gan(
    generator: nn.Module,
    critic: nn.Module,
    *,
    loss: str = "non_saturating",
    gamma: Scalar = 0.0,
    **settings: Unpack[Settings],
) -> Algorithm:
    """The original GAN (Goodfellow et al. 2014, arXiv 1406.2661).

    The critic minimises softplus(-D(x)) + softplus(D(G(z))); the generator softplus(-D(G(z))) with
    `loss="non_saturating"`, or -softplus(D(G(z))), the game's own loss, with `loss="minimax"`.
    `info.distance` is log 2 - L/2, a lower bound of the Jensen-Shannon divergence in nats.
    Defaults: Adam 2e-4 (0.5, 0.999), as in DCGAN (Radford et al. 2015, arXiv 1511.06434).

    gamma: the critic minimises γ/2 ‖∇D(x)‖² too, R1 (Mescheder et al. 2018, arXiv 1801.04406, eq.
        9), and `info.penalty` is ‖∇D(x)‖². 0, the default, is the paper's GAN, without a penalty.

    Example:
        >>> algorithm = fgan.gan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> noise, batch = algorithm.noise(0, 0, batch_size=8), fgan.Batch(torch.ones(1, 8, 2))
        >>> state, info = algorithm.step(algorithm.init(seed=0), batch, noise)
        >>> bool(info.distance < 0.6932)  # log 2 at most
        True
    """
    check_module("the critic", critic)
    gamma = check_scalar("gamma", gamma, 0.0)
    penalties: list[Penalty] = []
    if not isinstance(gamma, float) or gamma > 0:
        check_per_sample(critic)
        function = partial(zero_centered_penalty, gradients=batched_input_gradients)
        penalties = [Penalty(function, _half(gamma), "real")]
    if loss not in _GENERATOR_LOSSES:
        raise ValueError(f"loss is one of {', '.join(_GENERATOR_LOSSES)}; {loss!r} was given")
    objective = adversarial(
        losses.minimax_critic_loss,
        *penalties,
        distance=_jensen_shannon,
        one_pass=is_per_sample(critic),
    )
    of_generator = adversarial_generator(_GENERATOR_LOSSES[loss])
    return make_algorithm(generator, critic, objective, of_generator, **_filled("gan", settings))


_GENERATOR_LOSSES = {
    "non_saturating": losses.non_saturating_generator_loss,
    "minimax": losses.minimax_generator_loss,
}


def _half(scalar: Scalar) -> Scalar:
    if isinstance(scalar, float | Tensor):
        return scalar / 2
    return lambda count: scalar_at(scalar, count) / 2


def _jensen_shannon(critic_loss: Tensor) -> Tensor:
    return log(2) - critic_loss / 2


def wgan(
    generator: nn.Module, critic: nn.Module, *, clip: Scalar = 0.01, **settings: Unpack[Settings]
) -> Algorithm:
    """WGAN with weight clipping (Arjovsky et al. 2017, arXiv 1701.07875, algorithm 1).

    The critic minimises D(G(z)) - D(x), and each of its parameters is clamped to [-clip, clip]
    after each update; the generator minimises -D(G(z)). Defaults: clip 0.01, RMSprop 5e-5, five
    critic updates. The authors' code makes 100 in the first rounds: `n_critic=critic_warmup()`.
    A schedule for `clip` is a function of the rounds completed.

    Example:
        >>> algorithm = fgan.wgan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> noise, batch = algorithm.noise(0, 0, batch_size=8), fgan.Batch(torch.ones(5, 8, 2))
        >>> state, info = algorithm.step(algorithm.init(seed=0), batch, noise)
        >>> bool(state.critic.params["weight"].abs().max() <= 0.01)
        True
    """
    check_module("the critic", critic)
    bound = check_scalar("clip", clip, 0.0, above=True)
    objective = adversarial(losses.wasserstein_critic_loss, one_pass=is_per_sample(critic))

    def project(params: Params, count: Tensor) -> Params:
        return clip_parameters(params, scalar_at(bound, count))

    filled = _filled("wgan", settings)
    return make_algorithm(generator, critic, objective, _WASSERSTEIN, project=project, **filled)


def wgan_gp(
    generator: nn.Module,
    critic: nn.Module,
    *,
    penalty_weight: Scalar = 10.0,
    target: float | Tensor = 1.0,
    one_sided: bool = False,
    sample_at: str = "interpolate",
    **settings: Unpack[Settings],
) -> Algorithm:
    """WGAN with gradient penalty (Gulrajani et al. 2017, arXiv 1704.00028, algorithm 1).

    The critic minimises D(G(z)) - D(x) + λ (‖∇D(x̂)‖₂ - target)² with λ `penalty_weight` and
    x̂ = εx + (1 - ε)G(z), one ε per sample; the generator minimises -D(G(z)). Defaults: λ 10,
    target 1, Adam 1e-4 (0, 0.9), five critic updates.

    Example:
        >>> generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
        >>> algorithm = fgan.wgan_gp(generator, critic, penalty_weight=1.0, latent_dim=4)
        >>> noise, batch = algorithm.noise(0, 0, batch_size=8), fgan.Batch(torch.ones(5, 8, 2))
        >>> state, info = algorithm.step(algorithm.init(seed=0), batch, noise)
        >>> list(info.terms)
        ['gradient_penalty']
    """
    target = check_number("target", target, 0.0)
    check_flag("one_sided", one_sided)
    check_per_sample(critic)
    function = partial(
        gradient_penalty, target=target, one_sided=one_sided, gradients=batched_input_gradients
    )
    penalty = Penalty(function, penalty_weight, sample_at)
    objective = adversarial(losses.wasserstein_critic_loss, penalty, one_pass=is_per_sample(critic))
    filled = _filled("wgan-gp", settings)
    return make_algorithm(generator, critic, objective, _WASSERSTEIN, **filled)


def wgan_div(
    generator: nn.Module,
    critic: nn.Module,
    *,
    k: float | Tensor = 2.0,
    p: float | Tensor = 6.0,
    sample_at: str = "real_and_fake",
    **settings: Unpack[Settings],
) -> Algorithm:
    """WGAN-div (Wu et al. 2018, arXiv 1712.01026, algorithm 1).

    The critic minimises D(G(z)) - D(x) + k ‖∇D(u)‖₂^p with u ~ Pu, in the mirror of the paper's
    sign; the generator minimises -D(G(z)). With Pu = ½Pr + ½Pg, the default, the penalty is
    (k/2)(‖∇D(x)‖₂^p + ‖∇D(G(z))‖₂^p): no interpolates. `sample_at` names the other choices of Pu
    (`fgan.penalties.SAMPLE_AT`). Defaults: k 2, p 6, Adam 2e-4 (0.5, 0.999), five critic updates;
    the authors' own code takes interpolates, k 10, and four.

    Example:
        >>> generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
        >>> authors = fgan.wgan_div(
        ...     generator, critic, k=10.0, sample_at="interpolate", n_critic=4, latent_dim=4
        ... )
        >>> authors.n_critic
        4
    """
    k, p = check_number("k", k, 0.0), check_number("p", p, 1.0)
    check_per_sample(critic)
    function = partial(w_divergence_penalty, k=k, p=p, gradients=batched_input_gradients)
    penalty = Penalty(function, at=sample_at)
    objective = adversarial(losses.wasserstein_critic_loss, penalty, one_pass=is_per_sample(critic))
    filled = _filled("wgan-div", settings)
    return make_algorithm(generator, critic, objective, _WASSERSTEIN, **filled)


_WASSERSTEIN = adversarial_generator(losses.wasserstein_generator_loss)


def hinge_gan(generator: nn.Module, critic: nn.Module, **settings: Unpack[Settings]) -> Algorithm:
    """GAN with the hinge loss (Miyato et al. 2018, arXiv 1802.05957, eq. 16 and 17).

    The critic minimises relu(1 - D(x)) + relu(1 + D(G(z))); the generator -D(G(z)). The constraint
    of the paper, spectral norm, is in the critic: `norm="spectral"` in `fgan.models`.
    `info.distance` is 1 - L/2, a lower bound of the total variation distance. Defaults: Adam 2e-4
    (0, 0.9), five critic updates; SAGAN (Zhang et al. 2019, arXiv 1805.08318) has spectral norm in
    the generator too, one critic update, and rates 1e-4 (generator) and 4e-4 (critic).

    Example:
        >>> critic = fgan.models.mlp_critic((2,), hidden=(8,), norm="spectral")
        >>> algorithm = fgan.hinge_gan(torch.nn.Linear(4, 2), critic, latent_dim=4)
        >>> algorithm.score(algorithm.init(seed=0), torch.zeros(3, 2)).shape
        torch.Size([3])
    """
    check_module("the critic", critic)
    objective = adversarial(
        losses.hinge_critic_loss,
        distance=lambda critic_loss: 1 - critic_loss / 2,
        one_pass=is_per_sample(critic),
    )
    of_generator = adversarial_generator(losses.hinge_generator_loss)
    filled = _filled("hinge-gan", settings)
    return make_algorithm(generator, critic, objective, of_generator, **filled)


def lsgan(generator: nn.Module, critic: nn.Module, **settings: Unpack[Settings]) -> Algorithm:
    """Least squares GAN (Mao et al. 2017, arXiv 1611.04076, eq. 9: targets 0, 1 and 1).

    The critic minimises ((D(x) - 1)² + D(G(z))²) / 2; the generator (D(G(z)) - 1)² / 2.
    `info.distance` is 1 - 4L, a lower bound of ½ ∫ (p - q)² / (p + q), Le Cam's divergence, with
    equality for the optimal critic p / (p + q). Defaults: Adam 2e-4 (0.5, 0.999), one critic
    update.

    Example:
        >>> algorithm = fgan.lsgan(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> noise, batch = algorithm.noise(0, 0, batch_size=8), fgan.Batch(torch.ones(1, 8, 2))
        >>> state, info = algorithm.step(algorithm.init(seed=0), batch, noise)
        >>> bool(info.critic_loss >= 0)
        True
    """
    check_module("the critic", critic)
    objective = adversarial(
        losses.least_squares_critic_loss,
        distance=lambda critic_loss: 1 - 4 * critic_loss,
        one_pass=is_per_sample(critic),
    )
    of_generator = adversarial_generator(losses.least_squares_generator_loss)
    filled = _filled("lsgan", settings)
    return make_algorithm(generator, critic, objective, of_generator, **filled)


def dragan(
    generator: nn.Module,
    critic: nn.Module,
    *,
    penalty_weight: Scalar = 10.0,
    **settings: Unpack[Settings],
) -> Algorithm:
    """DRAGAN (Kodali et al. 2017, arXiv 1705.07215, algorithm 1).

    The non-saturating GAN, whose critic also minimises λ (‖∇D(x + δ)‖₂ - 1)² around real samples,
    with λ `penalty_weight` and x + δ of `fgan.penalties.perturb`. `noise` draws δ, so the
    generator needs an attribute `sample_shape`, or the recipe the setting. `info.distance` is that
    of `gan`. Defaults: λ 10, Adam 2e-4 (0.5, 0.999), one critic update.

    Example:
        >>> generator, critic = torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)
        >>> algorithm = fgan.dragan(generator, critic, latent_dim=4, sample_shape=(2,))
        >>> algorithm.noise(0, 0, batch_size=8).extra["critic"]["perturbation"].shape
        torch.Size([1, 8, 2])
    """
    check_per_sample(critic)
    function = partial(gradient_penalty, gradients=batched_input_gradients)
    penalty = Penalty(function, penalty_weight, _around_real)
    objective = adversarial(
        losses.minimax_critic_loss,
        penalty,
        distance=_jensen_shannon,
        one_pass=is_per_sample(critic),
    )
    objective = objective._replace(
        draws={"perturbation": Draw("uniform", shape=None)}, whole_batch=("gradient_penalty",)
    )
    of_generator = adversarial_generator(losses.non_saturating_generator_loss)
    filled = _filled("dragan", settings)
    return make_algorithm(generator, critic, objective, of_generator, **filled)


def _around_real(data: Data) -> Points:
    assert data.real is not None
    assert data.mix is not None
    conditions = () if data.condition is None else (data.condition,)
    return Points(perturb(data.real, data.extra["perturbation"], data.mix), conditions)


def r3gan(
    generator: nn.Module, critic: nn.Module, *, gamma: Scalar = 1.0, **settings: Unpack[Settings]
) -> Algorithm:
    """R3GAN: relativistic pairing with R1 and R2 (Huang et al. 2025, arXiv 2501.05441, section 2).

    The critic minimises softplus(D(G(z)) - D(x)) + γ/2 (‖∇D(x)‖² + ‖∇D(G(z))‖²); the generator
    softplus(D(x) - D(G(z))), so its update uses real samples. `info.penalty` is
    ½ (‖∇D(x)‖² + ‖∇D(G(z))‖²). `info.distance` is log 2 - L, a relativistic divergence
    (Jolicoeur-Martineau 2020, arXiv 1901.02474).
    Defaults: γ 1, Adam 2e-4 (0, 0.99), one critic update. The paper's γ goes from 0.05 on CIFAR-10
    to 150 on 256 x 256 images, and falls to a tenth along a cosine, as the rate does to a quarter:
    `gamma=fgan.optim.cosine(1.0, 0.1, rounds)`. Its schedule of β₂ from 0.9 is left out.

    Example:
        >>> falling = fgan.optim.cosine(1.0, 0.1, 10_000)
        >>> algorithm = fgan.r3gan(
        ...     torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4, gamma=falling
        ... )
        >>> algorithm.n_critic
        1
    """
    gamma = check_scalar("gamma", gamma, 0.0)
    check_per_sample(critic)
    # At both kinds the penalty's mean is over 2B points, so γ here is γ/2 for each kind.
    function = partial(zero_centered_penalty, gradients=batched_input_gradients)
    penalty = Penalty(function, gamma, "real_and_fake")
    objective = adversarial(
        losses.relativistic_critic_loss,
        penalty,
        distance=lambda critic_loss: log(2) - critic_loss,
        one_pass=is_per_sample(critic),
    )
    of_generator = adversarial_generator(losses.relativistic_generator_loss, uses_real=True)
    filled = _filled("r3gan", settings)
    return make_algorithm(generator, critic, objective, of_generator, **filled)


class Recipe(NamedTuple):
    """An algorithm's function beside its paper's defaults.

    Example:
        >>> fgan.recipes.RECIPES["wgan-gp"].lr, fgan.recipes.RECIPES["wgan-gp"].n_critic
        (0.0001, 5)
    """

    function: Callable[..., Algorithm]
    optimizer: Callable[[Scalar], Optimizer]
    """Learning rate -> the optimiser with the paper's other settings."""
    lr: float
    """The paper's learning rate."""
    n_critic: int
    own: tuple[str, ...]
    """The keywords that this recipe has beside `Settings`."""


RECIPES: dict[str, Recipe] = {
    "gan": Recipe(gan, partial(adam, betas=(0.5, 0.999)), 2e-4, 1, ("loss", "gamma")),
    "wgan": Recipe(wgan, rmsprop, 5e-5, 5, ("clip",)),
    "wgan-gp": Recipe(
        wgan_gp,
        partial(adam, betas=(0.0, 0.9)),
        1e-4,
        5,
        ("penalty_weight", "target", "one_sided", "sample_at"),
    ),
    "wgan-div": Recipe(
        wgan_div, partial(adam, betas=(0.5, 0.999)), 2e-4, 5, ("k", "p", "sample_at")
    ),
    "hinge-gan": Recipe(hinge_gan, partial(adam, betas=(0.0, 0.9)), 2e-4, 5, ()),
    "lsgan": Recipe(lsgan, partial(adam, betas=(0.5, 0.999)), 2e-4, 1, ()),
    "dragan": Recipe(dragan, partial(adam, betas=(0.5, 0.999)), 2e-4, 1, ("penalty_weight",)),
    "r3gan": Recipe(r3gan, partial(adam, betas=(0.0, 0.99)), 2e-4, 1, ("gamma",)),
}
"""Every recipe by its name on the command line."""


def _filled(name: str, settings: Settings) -> Settings:
    """The settings with the recipe's defaults where nothing was given."""
    recipe, filled = RECIPES[name], cast(dict[str, Any], dict(settings))
    for player in ("generator_optimizer", "critic_optimizer"):
        if filled.get(player) is None:
            filled[player] = recipe.optimizer(recipe.lr)
    if filled.get("n_critic") is None:
        filled["n_critic"] = 1 if filled.get("update") == "simultaneous" else recipe.n_critic
    return cast(Settings, filled)


def check_algorithm(value: object) -> None:
    """Raise ValueError unless `value` is an algorithm."""
    if not isinstance(value, Algorithm):
        raise ValueError(
            "the algorithm is one that a recipe made, such as fgan.wgan_gp(generator, critic), and "
            f"{describe(value)} was given"
        )


def clip_parameters(params: Params, bound: float | Tensor) -> Params:
    """Each parameter clamped to [-bound, bound], as new tensors (Arjovsky et al. 2017, alg. 1).

    Example:
        >>> fgan.recipes.clip_parameters({"w": torch.tensor([-3.0, 0.5])}, 1.0)
        {'w': tensor([-1.0000,  0.5000])}
    """

    def clip(param: Tensor) -> Tensor:
        limit: Any = tree.like(bound, param)  # torch's stubs lack the union of number and tensor
        return param.clamp(-limit, limit)

    return {name: clip(param) for name, param in params.items()}


def critic_warmup(
    n_critic: int = 5, warm: int = 100, first: int = 25, every: int = 500
) -> Callable[[int], int]:
    """A schedule for `n_critic`: `warm` updates in the `first` rounds and in each `every`-th.

    The defaults are those of the code that the authors of WGAN published; a critic close to optimal
    makes the loss a distance from the start.

    Example:
        >>> n_critic = fgan.recipes.critic_warmup()
        >>> n_critic(0), n_critic(25), n_critic(500)
        (100, 5, 100)
    """
    n_critic, warm = check_count("n_critic", n_critic), check_count("warm", warm)
    first, every = check_count("first", first, 0), check_count("every", every)
    return lambda index: warm if index < first or index % every == 0 else n_critic
