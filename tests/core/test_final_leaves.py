"""Twenty rounds of every recipe end where version 0.1.0 ended, before the round was taken apart.

`final_leaves.pt` was written by that version, in float64: for each case the state's leaves and the
eight figures of the last round. Processors differ in their last digits, so it is compared to 1e-9.
Since then one thing was changed on purpose: the EMA averages BatchNorm's running statistics. Those
two leaves of each case are 0.9 times the one before plus 0.1 times the generator's own, twenty
times over, by a loop in NumPy.
"""

from pathlib import Path

import pytest
import torch
from helpers import RECIPES, assert_close, make_batch, pair

from fgan import tree

SAVED = torch.load(Path(__file__).with_name("final_leaves.pt"), weights_only=True)
FIGURES = (
    "critic_loss", "generator_loss", "distance", "penalty", "real_score", "fake_score",
    "critic_grad_norm", "generator_grad_norm",
)  # fmt: skip


@pytest.mark.parametrize("case", list(SAVED))
def test_twenty_rounds_end_where_they_did(case):
    """Leaves in their order, and figures by name."""
    name, kind, update = case.split()
    conditional, n_critic = kind == "cond", 2 if update == "alternating" else 1
    modules = pair(conditional=conditional, norm=True)
    algorithm = RECIPES[name](*modules, update=update, n_critic=n_critic, ema_decay=0.9)
    state = algorithm.init(0)
    for index in range(20):
        batch = make_batch((2,), conditional, n_critic, 6, seed=index)
        state, info = algorithm.step(state, batch, algorithm.noise(0, index, 6))
    leaves, figures = SAVED[case]
    assert_close(tree.leaves(state), leaves, atol=1e-9)
    assert_close([getattr(info, figure) for figure in FIGURES], figures, atol=1e-9)
