"""A trained generator beside its data."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from fgan.data import DataSet, condition_of
from fgan.evaluation.classifier import train_classifier
from fgan.evaluation.comparison import Evaluation, as_generated, bare, compare, suits_classifier
from fgan.evaluation.features import Features
from fgan.evaluation.inputs import check_finite, generator, in_float64
from fgan.evaluation.points import mixture_of
from fgan.evaluation.splits import chosen, held_out, load_parts
from fgan.scalars import check_count
from fgan.types import Algorithm, GANState

FEWEST = 6
"""Samples that have five neighbours each."""
_BATCH = 250
_LATENTS = 0xE6  # keeps these random numbers apart from those of the measures


class Trained(Protocol):
    """What a run leaves behind: an algorithm, its state, and its configuration."""

    @property
    def algorithm(self) -> Algorithm: ...
    @property
    def state(self) -> GANState: ...
    @property
    def config(self) -> Any: ...


def evaluate(
    trained: Trained,
    data: DataSet | None = None,
    features: Features | None = None,
    *,
    samples: int = 5000,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a run, such as `fgan.load` reads one: an object with `algorithm`, `state`, `config`.

    data: samples of the kind that it was trained on (default: `trained.config.data`, loaded). One
    part of them is what the generator is compared with: the test split of a loaded set that has
    one, or what `held_out` gives. For images of classes without `features` a classifier is
    trained on the other part, which takes about a minute; `fgan evaluate` keeps its classifier on
    disk. Images without classes are compared by their patches.

    Raises ValueError as `evaluate_state` does.

    Example:
        >>> generator = fgan.models.mlp_generator((2,), latent_dim=4, hidden=(8,))
        >>> critic = fgan.models.mlp_critic((2,), hidden=(8,))
        >>> points = fgan.data.DataSet("points", torch.randn(200, 2))
        >>> state = fgan.train(fgan.gan(generator, critic), points, rounds=1, out="runs/judged")
        round 1/1 ...
        >>> trained = fgan.load("runs/judged", generator=generator, critic=critic)
        >>> "recall" in fgan.evaluation.evaluate(trained, points, samples=50).figures
        True
    """
    config = trained.config
    if data is None:
        device = trained.state.round.device
        parts = load_parts(
            config.data,
            device=device,
            image_size=config.image_size,
            skip_broken=getattr(config, "skip_broken", False),
        )
    else:
        parts = held_out(data)
    if features is None and suits_classifier(parts.reference):
        features = train_classifier(parts.training, parts.reference).as_features()
    return evaluate_state(
        trained.algorithm,
        trained.state,
        parts.reference,
        features,
        samples=samples,
        seed=seed,
        conditional=config.conditional,
    )


def evaluate_state(
    algorithm: Algorithm,
    state: GANState,
    reference: DataSet,
    features: Features | None = None,
    *,
    samples: int = 5000,
    seed: int = 0,
    conditional: bool = True,
) -> Evaluation:
    """Compare `samples` samples of the generator with as many of `reference`, or all if it is less.

    The generator is in evaluation mode, with EMA weights where kept. A conditional one is given the
    labels of the real samples in turn. Images of classes need `features`. Everything random follows
    from `seed`. The figures are those of `compare`, and `critic_distance`: the critic's mean
    D(real) - mean D(fake).

    Raises ValueError for a population, for fewer than six samples, and as `compare` does.

    Example:
        >>> algorithm = fgan.wgan_gp(torch.nn.Linear(4, 2), torch.nn.Linear(2, 1), latent_dim=4)
        >>> points = fgan.data.DataSet("normal", torch.randn(200, 2))
        >>> result = fgan.evaluation.evaluate_state(
        ...     algorithm, algorithm.init(seed=0), points, samples=100, conditional=False
        ... )
        >>> "critic_distance" in result.figures
        True
    """
    check_count("samples", samples, FEWEST)
    check_one_run(algorithm)
    conditional = conditional and reference.labels is not None
    real = chosen(reference, samples, seed)
    fake, labels = draw(algorithm, state, real, samples, seed, conditional)
    asked = labels if conditional and reference.class_names else None
    found = compare(real, fake, asked, features, mixture=mixture_of(reference), seed=seed)
    distance = critic_distance(algorithm, state, real, fake, labels, conditional)
    return found._replace(figures=found.figures | {"critic_distance": bare(distance)})


def critic_distance(
    algorithm: Algorithm,
    state: GANState,
    real: DataSet,
    fake: Tensor,
    labels: Tensor,
    conditional: bool = True,
) -> Tensor:
    """The critic's mean D(real) - mean D(fake), 0-d: fake [M, ...] under the conditions labels."""
    of_real, of_fake = (
        scores(algorithm, state, x, condition, conditional)
        for x, condition in (
            (as_generated(real.samples, fake), conditions(real).to(fake.device)),
            (fake, labels),
        )
    )
    return of_real.mean() - of_fake.mean()


def scores(
    algorithm: Algorithm, state: GANState, x: Tensor, condition: Tensor, conditional: bool
) -> Tensor:
    """The critic's scores [N] of samples [N, ...] under conditions [N, ...], in float64."""
    return in_float64(
        _batched(lambda x, y: algorithm.score(state, x, y), x, condition, conditional)
    )


def check_one_run(algorithm: Algorithm) -> None:
    """Raise ValueError for a population."""
    if algorithm.members:
        raise ValueError("an evaluation is of one run: take one member of the population's state")


def draw(
    algorithm: Algorithm,
    state: GANState,
    like: DataSet,
    count: int,
    seed: int = 0,
    conditional: bool = True,
    rows: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """`count` samples [count, ...] and their labels [count], those of `like` in turn.

    rows: make these of the samples alone, from the same latents.

    Raises ValueError for samples that hold NaN or infinite values.
    """
    parameter = next(iter(state.generator.params.values()))
    source = generator(seed, _LATENTS)
    size = count, algorithm.latent_dim
    latent = torch.randn(size, generator=source, device="cpu")[rows].to(parameter)
    of_like = conditions(like)
    turn = torch.arange(count, device=of_like.device)[rows] % len(like)
    labels = of_like[turn].to(parameter.device)
    samples = _batched(lambda z, y: algorithm.generate(state, z, y), latent, labels, conditional)
    check_finite("generated samples", samples)
    return samples, labels


def conditions(data: DataSet) -> Tensor:
    """The conditions of samples; zeros where there are none, which no network sees."""
    if data.labels is None:
        return torch.zeros(len(data), dtype=torch.int64, device=data.samples.device)
    return condition_of(data.labels)


def _batched(
    function: Callable[[Tensor, Tensor | None], Tensor],
    x: Tensor,
    condition: Tensor,
    conditional: bool,
) -> Tensor:
    """`function(x, condition or None)`, batch by batch, without gradients."""
    with torch.no_grad():
        parts = [
            function(x, y if conditional else None)
            for x, y in zip(x.split(_BATCH), condition.split(_BATCH), strict=True)
        ]
    return torch.cat(parts)
