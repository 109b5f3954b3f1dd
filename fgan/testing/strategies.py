"""Strategies for scores, samples, batches, latents and critics.

Scores are drawn number by number, so that they shrink to simple numbers. All other tensors are
drawn as a seed and a shape; a generator with that seed makes them in float64.
"""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from fgan.types import Batch

SCORE_LIMIT = 3e7
"""The largest score at which a loss must be finite."""

_SEEDS = st.integers(0, 2**16)


def scores(
    size: int | st.SearchStrategy[int] | None = None,
    *,
    limit: float = SCORE_LIMIT,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[Tensor]:
    """Scores [size] between -limit and limit, all of them float32 numbers; the extremes are likely.

    `size` is drawn from 1 to 5 by default.

    Example:
        >>> from hypothesis import given
        >>> from fgan.testing import scores
        >>> @given(scores(limit=10.0))
        ... def test_mine(scores):
        ...     assert scores.abs().max() <= 10
        >>> test_mine()
    """
    sizes = st.just(size) if isinstance(size, int) else size or st.integers(1, 5)
    return sizes.flatmap(lambda n: _vector(n, limit, dtype))


def score_pairs(
    size: int | st.SearchStrategy[int] | None = None,
    *,
    limit: float = SCORE_LIMIT,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[tuple[Tensor, Tensor]]:
    """(real_scores [size], fake_scores [size]), as in `scores`.

    Example:
        >>> from hypothesis import given
        >>> from fgan.testing import score_pairs
        >>> @given(score_pairs())
        ... def test_mine(scores):
        ...     real_scores, fake_scores = scores
        ...     assert real_scores.shape == fake_scores.shape
        >>> test_mine()
    """
    sizes = st.just(size) if isinstance(size, int) else size or st.integers(1, 5)
    return sizes.flatmap(lambda n: st.tuples(_vector(n, limit, dtype), _vector(n, limit, dtype)))


def _vector(size: int, limit: float, dtype: torch.dtype) -> st.SearchStrategy[Tensor]:
    bound = float(torch.tensor(limit, dtype=torch.float32, device="cpu"))
    landmarks = [s * a for a in (0.0, 1.0, 30.0, 1e3, bound) if a <= bound for s in (1.0, -1.0)]
    number = st.floats(-bound, bound, width=32) | st.sampled_from(landmarks)
    return st.lists(number, min_size=size, max_size=size).map(
        lambda values: torch.tensor(values, dtype=dtype, device="cpu")
    )


def shapes() -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of one sample, from one number to a small image or clip.

    Example:
        >>> from hypothesis import given
        >>> from fgan.testing import shapes
        >>> @given(shapes())
        ... def test_mine(shape):
        ...     assert torch.zeros(2, *shape).ndim > 1
        >>> test_mine()
    """
    return st.sampled_from(
        [(1,), (2,), (5,), (3, 2), (1, 4, 4), (2, 3, 2), (4, 1, 3), (2, 1, 2, 2)]
    )


def samples(
    shape: tuple[int, ...], size: int = 4, *, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[Tensor]:
    """A batch [size, *shape] of normal numbers.

    Example:
        >>> from hypothesis import given
        >>> from fgan.testing import samples
        >>> @given(samples((1, 4, 4), size=2))
        ... def test_mine(x):
        ...     assert x.shape == (2, 1, 4, 4)
        >>> test_mine()
    """
    return _SEEDS.map(lambda seed: normal(seed, size, *shape).to(dtype))


def latents(
    latent_dim: int, size: int = 4, *, dtype: torch.dtype = torch.float64
) -> st.SearchStrategy[Tensor]:
    """Latents [size, latent_dim], standard normal.

    Example:
        >>> from hypothesis import given
        >>> from fgan.testing import latents
        >>> @given(latents(7, size=2))
        ... def test_mine(latent):
        ...     assert latent.shape == (2, 7)
        >>> test_mine()
    """
    return samples((latent_dim,), size, dtype=dtype)


def batches(
    shape: tuple[int, ...],
    *,
    n_critic: int = 1,
    size: int = 4,
    num_classes: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> st.SearchStrategy[Batch]:
    """The data of a round: real [n_critic, size, *shape], labels [n_critic, size] or none.

    Example:
        >>> from hypothesis import given
        >>> from fgan.testing import batches
        >>> @given(batches((3,), n_critic=2))
        ... def test_mine(batch):
        ...     assert batch.real.shape == (2, 4, 3)
        >>> test_mine()
    """
    return _SEEDS.map(lambda seed: make_batch(seed, shape, n_critic, size, num_classes, dtype))


def critics(
    shape: tuple[int, ...], kinds: tuple[str, ...] = ("linear", "tanh", "softplus")
) -> st.SearchStrategy["ExampleCritic"]:
    """Smooth critics in float64 for samples of `shape`, without mixing of samples.

    `kinds` are the kinds to draw from. Besides the default three there is "constant", a linear
    critic with weight zero.

    Example:
        >>> from hypothesis import given
        >>> from fgan.testing import critics, samples
        >>> @given(critics((3,)), samples((3,)))
        ... def test_mine(critic, x):
        ...     assert critic(x).shape == (4,)
        >>> test_mine()
    """
    return st.builds(ExampleCritic, st.sampled_from(kinds), st.just(shape), _SEEDS)


class ExampleCritic(nn.Module):
    """A critic [B, *shape] -> [B] in float64; its repr is the code that builds it.

    Example:
        >>> from fgan.testing import ExampleCritic
        >>> ExampleCritic("tanh", (2,), seed=3)(torch.zeros(4, 2, dtype=torch.float64)).shape
        torch.Size([4])
    """

    def __init__(self, kind: str, shape: tuple[int, ...], seed: int = 0):
        super().__init__()
        self.arguments = kind, shape, seed
        size = torch.Size(shape).numel()
        layers: dict[str, list[nn.Module]] = {
            "linear": [nn.Linear(size, 1)],
            "constant": [nn.Linear(size, 1)],
            "tanh": [nn.Linear(size, 4), nn.Tanh(), nn.Linear(4, 1)],
            "softplus": [nn.Linear(size, 4), nn.Softplus(), nn.Linear(4, 1)],
        }
        if kind not in layers:
            raise ValueError(f"unknown kind {kind!r}: choose one of {', '.join(layers)}")
        self.layers = nn.Sequential(nn.Flatten(), *layers[kind], nn.Flatten(0)).double()
        for index, parameter in enumerate(self.parameters()):
            parameter.data = normal(seed + 7919 * index, *parameter.shape)
        if kind == "constant":
            self.weights[0].data.zero_()

    @property
    def weights(self) -> list[nn.Parameter]:
        """The weight matrices, without the biases."""
        return [parameter for parameter in self.parameters() if parameter.ndim == 2]

    def forward(self, x: Tensor) -> Any:
        """[B, *shape] -> [B]."""
        return self.layers(x)

    def __repr__(self) -> str:
        return f"ExampleCritic{self.arguments}"


def normal(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers in float64, a function of its arguments alone."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64, device="cpu")


def make_batch(
    seed: int,
    shape: tuple[int, ...],
    n_critic: int,
    size: int,
    num_classes: int | None = None,
    dtype: torch.dtype = torch.float64,
) -> Batch:
    """The batch that `batches` draws for `seed`."""
    real = normal(seed, n_critic, size, *shape).to(dtype)
    if num_classes is None:
        return Batch(real)
    source = torch.Generator().manual_seed(seed)
    options: Any = {"generator": source, "device": "cpu"}
    return Batch(real, torch.randint(num_classes, (n_critic, size), **options))
