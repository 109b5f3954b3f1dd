"""Property tests for your own losses, penalties, recipes and critics. Needs `fgan[testing]`.

    from fgan.testing import check_loss

    def test_my_loss():
        check_loss(my_critic_loss, my_generator_loss)

Each checker searches for a counterexample with Hypothesis, deterministically and in seconds. It
raises AssertionError with the name of the invariant that broke and the smallest example found. If
your function raises an error, this error is chained. By default a checker tests the invariants of
every correct loss (penalty, recipe); keywords add those of some.

The strategies of the checkers are public as well, for properties of your own.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401  (for the error below)
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
