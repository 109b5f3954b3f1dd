"""The check of a critic that a penalty is taken of."""

from collections.abc import Callable

from torch import Tensor

from fgan import networks


def check_batch_independent(critic: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Check that a critic's score of a sample depends on that sample alone: ∂D_i/∂x_j = 0, i ≠ j.

    This is `fgan.networks.check_batch_independent` as a test. Penalties per sample are defined for
    such critics only (Gulrajani et al. 2017, arXiv 1704.00028, section 4).

    critic: maps samples [B, ...] to scores [B] or [B, 1]; a module runs as it is, in copies.
    x: samples [B, ...], B at least 2.

    Raises AssertionError with the pair of samples, also where the dependence has no gradient
    (detached batch statistics).

    Example:
        >>> from fgan.testing import check_batch_independent
        >>> check_batch_independent(torch.nn.Linear(2, 1), torch.randn(4, 2))
    """
    try:
        networks.check_batch_independent(critic, x)
    except Exception as error:
        what = str(error)
        if not isinstance(error, ValueError):
            what = f"it raised {type(error).__name__}: {error}"
        raise AssertionError(
            "the invariant 'batch independent' broke: a score depends on its own sample alone.\n"
            f"{what}"
        ) from error
