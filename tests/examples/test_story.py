"""The scripts of the story: each is run with `--quick`, and its claim checked on what it measured.

The tests judge the measured figures by themselves, with their own margins: a script that asserted
nothing would not pass.
"""

import importlib
import math
import statistics
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"

pytest.importorskip("matplotlib", reason="the figures need the extra `plots`")


@pytest.fixture
def told(monkeypatch, tmp_path):
    """Run a script by its name, as `python examples/NAME.py --quick --figure F` does."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(name):
        script, common = importlib.import_module(name), importlib.import_module("common")
        figure = tmp_path / f"{name}.png"
        monkeypatch.setattr(sys, "argv", [name, "--quick", "--figure", str(figure)])
        found = common.main(script.measure, script.draw, script.check)
        common.plt.close("all")
        assert figure.stat().st_size > 5_000
        return found

    return run


def test_wasserstein(told):
    """W1 sees how far apart two lines are and JS does not; WGAN-GP's loss follows the samples."""
    found = told("wasserstein")
    theta = [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1]
    for place, js, w1, clipped in zip(
        theta, *(found.estimates[name].tolist() for name in ("gan", "wgan-gp", "wgan")), strict=True
    ):
        assert js == pytest.approx(0.693 if place else 0, abs=0.1)
        assert w1 == pytest.approx(abs(place), rel=0.25, abs=1e-3)
        assert clipped == pytest.approx(2.9 * abs(place), rel=0.3, abs=1e-3)
    quality, estimate = found.training["wgan-gp"].mean(dim=1)
    assert quality[-1] < 0.7 * quality[0]
    assert estimate[-1] < 0.7 * estimate[0]
    assert (found.training["gan"][1] > 0.6).all()  # stuck near log 2
    assert found.wgan_gp_rank_correlation > 0.8


def test_gradient_norms(told):
    """The critic's slope goes to 1; BatchNorm alone couples the samples, and fgan names it."""
    found = told("gradient_norms")
    first, *_, last = found.quantiles.values()
    assert first[-1] < 0.3
    assert 0.75 < last[2] < 1.25
    for norm, matrix in found.dependence.items():
        own = matrix.diagonal()
        assert (own > 1e-3).all()
        strays = (matrix.sum(dim=1) - own) / own
        assert strays.min() > 0.02 if norm == "batch" else strays.abs().max() == 0
    assert found.sum_error < 1e-5
    assert "'layers.2' mixes the samples" in found.refusal


def test_w_divergence(told):
    """Critics find a symmetric divergence; WGAN-GP's objective is below zero at equality."""
    found = told("w_divergence")
    # θ = 1, u = ½N(0, 1) + ½N(1, 1): (5/6) ∫ gap^(6/5) / (12 u)^(1/5), by adaptive quadrature.
    at_one, at_minus_one = found.learnt[6], found.learnt[2]
    assert at_one == pytest.approx(0.5076, rel=0.12)
    assert at_minus_one == pytest.approx(0.5076, rel=0.12)
    assert found.learnt[4] == pytest.approx(0, abs=0.01)  # two samples of one distribution
    # N(0, 1) and N(0, 1.5²), exchanged: with u on one side alone it would be 0.1965 and 0.1741.
    assert found.asymmetry < 0.05
    # max over a of -10 mean (|a cos φ| - 1)² is -10 (1 - 8/π²).
    assert found.on_angles["wgan-gp"].max() == pytest.approx(-1.894, abs=0.01)
    assert found.on_angles["wgan-div"].max() == 0
    assert found.choices["wgan-gp"].max() > 1000 * found.choices["wgan-gp"].min()
    assert found.choices["wgan-div"].max() < 2.5 * found.choices["wgan-div"].min()


def test_weight_clipping(told):
    """Clipped weights sit at ±c, and slopes change by a constant factor from layer to layer."""
    found = told("weight_clipping")
    assert (found.weights["c = 0.1"].abs() > 0.099).double().mean() > 0.4
    assert found.weights["c = 0.1"].abs().max() <= 0.1 < found.weights["penalty"].abs().max()
    layers = range(11)
    for c, factor in ("c = 0.001", 0.01), ("c = 0.01", 0.1), ("c = 0.1", 3):
        slope, _ = statistics.linear_regression(layers, found.norms[c].log10().tolist())
        per_layer = 10**-slope  # going down from the output
        assert per_layer < factor if factor < 1 else per_layer > factor
    assert found.norms["penalty"].min() / found.norms["penalty"].max() > 0.3
    assert found.parabola_penalty < found.parabola_clipped


def test_conditional(told):
    """A judge that saw real digits alone reads the digit that was asked for, and the walk's end."""
    found = told("conditional")
    assert found.judge_on_real > 0.97
    assert found.agreement > 0.95
    first, second = found.votes
    assert first[0] > 0.9 > 0.1 > first[-1]
    assert second[0] < 0.1 < 0.9 < second[-1]
    # One latent, three labels: three pictures that differ, and the same label again the same.
    digits = found.walks[:, 0, 0].flatten(1)
    assert torch.pdist(digits).min() > 3
    assert torch.allclose(found.walks[0, 0, -1], found.walks[1, 0, 0], atol=1e-5)


def test_population(told):
    """Each member is the run that it would be alone, and clipping hard lets nothing be learnt."""
    found = told("population")
    assert found.difference < 1e-10
    clips, distances = found.sweeps["wgan"]
    assert clips[0] == pytest.approx(0.001)
    assert (distances[0] > 0.85 * found.untrained).all()
    assert distances[clips > 0.05].median() < 0.6 * found.untrained
    weights, distances = found.sweeps["wgan-gp"]
    assert distances[weights < 0.5].median() < 0.4 * found.untrained


def test_semi_supervised(told):
    """With the game, four labels teach more than alone, at equal labels and equal starts."""
    found = told("semi_supervised")
    alone, helped = found.accuracy[-1]
    start_alone, start_helped = found.accuracy[0]
    assert torch.equal(start_alone, start_helped)  # twins
    assert alone.mean() > 0.65  # the labels do teach something
    assert helped.mean() > alone.mean() + 0.06
    assert (helped > alone).double().mean() > 0.6


def test_unrolled(told):
    """Looking five critic updates ahead keeps the generator from collapsing to a mode or two.

    So few rounds show no more: it spreads, and has yet to settle on the modes.
    """
    found = told("unrolled")
    (_, plain), (_, ahead) = found.covered["plain"], found.covered["unrolled"]
    assert (plain[0] == ahead[0]).all()  # both begin as the same networks
    late = slice(len(ahead) // 2, len(ahead))
    assert ahead[late].mean() > plain[late].mean() + 1
    assert ahead[late].mean() > plain[-len(ahead) // 2 :].mean()
    spread = {name: x[-1].std(dim=1).amin() for name, x in found.samples.items()}
    assert spread["plain"] < 0.7 < spread["unrolled"]


def test_next_frame(told):
    """Squared error predicts the mean of both futures; the samples commit themselves to one."""
    found = told("next_frame")
    mean = found.futures.mean(dim=1)
    between = (found.futures[:, 0] - found.futures[:, 1]).square().mean().sqrt()
    assert found.error_of_mean == pytest.approx(between.item() / 2, rel=1e-4)  # as far as can be
    assert (found.guess - mean).square().mean().sqrt() < 0.35 * between
    assert found.error_of_gan < 0.8 * found.error_of_mean
    assert found.samples.std(dim=0).mean() > 0.05  # z decides
    assert found.scenes_with_both > 0.6


def test_dirac(told):
    """A round's eigenvalues are those worked out by hand, and R1's rounds those of its formula."""
    found = told("dirac")
    h = 0.4
    # F' is [[1, a], [-a, 1 - hγ]] for simultaneous updates, with a = h f'(0) and the penalty's
    # curvature γ; the alternating generator sees the new ψ. The moduli are roots of determinants.
    for method, slope, gamma in [
        ("GAN", 1 / 2, 0),  # f(t) = -log(1 + exp(-t))
        ("WGAN", 1, 0),
        ("WGAN-div, p = 6", 1, 0),  # flat at 0
        ("WGAN-div, p = 2", 1, 1),
        ("GAN + R1", 1 / 2, 1 / 2),
    ]:
        alternating, simultaneous = 1 - h * gamma, 1 - h * gamma + (h * slope) ** 2
        for update, determinant in ("alternating", alternating), ("simultaneous", simultaneous):
            moduli = found.eigenvalues[method, update].abs().tolist()
            assert moduli == pytest.approx([determinant**0.5] * 2)
    path = found.paths["GAN + R1", "alternating"].tolist()
    theta, psi = path[0]
    for place in path[1:]:
        psi -= h * (theta / (1 + math.exp(-psi * theta)) + psi / 2)
        theta += h * psi / (1 + math.exp(-psi * theta))
        assert place == pytest.approx([theta, psi], abs=1e-12)
    assert math.hypot(theta, psi) < 0.05
    assert found.paths["GAN", "alternating"].norm(dim=1).min() > 0.9
    assert found.wgan_gp_rest == pytest.approx(3, abs=0.05)


def test_game(told):
    """Both orders of play end where a discriminator, even a new one, can only guess."""
    found = told("game")
    for _, fakes, on_real, on_fake, _ in found.games:
        assert on_real[-1].mean() == pytest.approx(0.5, abs=0.05)
        assert on_fake[-1].mean() == pytest.approx(0.5, abs=0.05)
        assert fakes[-1].std() == pytest.approx(1.12, abs=0.2)  # √(1 + ½²) and a little less
    assert found.accuracy_untrained > 0.9
    assert found.accuracy_trained < 0.62
    assert found.value_trained == pytest.approx(-2 * math.log(2), abs=0.06)


def test_hard_to_train(told):
    """D's loss tends to 2 log 2 - 2 JSD; on curves that is 0, and with it goes G's gradient."""
    found = told("hard_to_train")
    # For N(0, I) and N(½, I) in 8 dimensions, log-odds are N(±1, 2): by quadrature over them.
    best = 0.98360
    assert found.loss_of_best == pytest.approx(best, abs=0.003)
    blobs, curves = found.lessons  # [updates, loss, accuracy, minimax, non-saturating, agreement]
    assert blobs[1][-1].mean() == pytest.approx(best, abs=0.06)
    assert (curves[2][-1] > 0.999).all()
    assert (curves[3][-1] < curves[3][0] / 5).all()
    assert (curves[4][-1] > curves[4][0] * 5).all()
    assert blobs[5][0].mean() < 0.3 < 0.7 < blobs[5][-1].mean()
