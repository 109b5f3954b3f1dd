"""Property tests for your own losses, penalties, recipes and critics. Needs `fgan[testing]`.

    from fgan.testing import check_loss

    def test_my_loss():
        check_loss(my_critic_loss, my_generator_loss)

Each checker searches for a counterexample with Hypothesis, deterministically and in seconds, and
raises AssertionError with the name of the invariant that broke and the smallest example found; also
where your function raised, whose error is then chained. By default a checker asks only for what
every sound loss (penalty, recipe) has; what is true of some is opt-in by keyword.

The strategies that the checkers draw from are public as well, for properties of your own.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401  (only to say what is missing)
except ModuleNotFoundError as error:  # pragma: no cover
    raise ModuleNotFoundError(
        "fgan.testing needs Hypothesis: pip install 'fgan[testing]'", name="hypothesis"
    ) from error

from fgan.testing.critics import check_batch_independent
from fgan.testing.losses import check_loss
from fgan.testing.penalties import check_penalty
from fgan.testing.recipes import check_recipe
from fgan.testing.strategies import (
    ExampleCritic,
    batches,
    critics,
    latents,
    samples,
    score_pairs,
    scores,
    shapes,
)

__all__ = [
    "ExampleCritic",
    "batches",
    "check_batch_independent",
    "check_loss",
    "check_penalty",
    "check_recipe",
    "critics",
    "latents",
    "samples",
    "score_pairs",
    "scores",
    "shapes",
]
