"""Put your own loss and penalty through fgan's tests, and see a wrong one caught.

    python examples/check_your_loss.py        # needs fgan[testing]

Each checker raises AssertionError with the invariant that broke and the smallest example; in a test
suite, a call is the whole test.
"""

import torch
from torch import Tensor

import fgan
from fgan.testing import check_loss, check_penalty


def softplus_critic_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The standard loss: -log sigmoid(D(x)) - log(1 - sigmoid(D(G(z))))."""
    return torch.nn.functional.softplus(-real_scores) + torch.nn.functional.softplus(fake_scores)


def softplus_generator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """-log sigmoid(D(G(z)))."""
    return torch.nn.functional.softplus(-fake_scores)


def patched_generator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """The same on paper, but the epsilon takes the gradient away where the critic is sure."""
    return -torch.log(torch.sigmoid(fake_scores) + 1e-8)


def per_sample_penalty(critic: fgan.penalties.Critic, x: Tensor) -> Tensor:
    """(‖∇D(x_i)‖ - 1)² for each sample."""
    return fgan.penalties.gradient_penalty(critic, x)


def whole_batch_penalty(critic: fgan.penalties.Critic, x: Tensor) -> Tensor:
    """The mistake of many scripts: one norm for the whole batch."""
    gradients = fgan.penalties.input_gradients(critic, x)
    return torch.square(gradients.norm() - 1).expand(len(x))


def main() -> None:
    """Two that are right, two that are caught."""
    check_loss(softplus_critic_loss, softplus_generator_loss, non_negative=True, mirrored=True)
    print("softplus loss: every invariant holds")
    check_penalty(per_sample_penalty)
    print("per-sample penalty: every invariant holds")
    for name, check in {
        "patched loss": lambda: check_loss(softplus_critic_loss, patched_generator_loss),
        "whole-batch penalty": lambda: check_penalty(whole_batch_penalty),
    }.items():
        try:
            check()
        except AssertionError as error:
            print(f"\n{name}: caught\n{error}")
        else:
            raise SystemExit(f"{name} was not caught")


if __name__ == "__main__":
    main()
