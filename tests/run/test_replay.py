"""Rounds of a run again: the same bits, and the place where a number stopped to be finite."""

import shlex
import shutil

import pytest
import torch
from helpers import Plain, assert_identical
from torch import nn

import fgan
from fgan.cli import main
from fgan.data import DataSet
from fgan.objectives import adversarial, adversarial_generator
from fgan.run import checkpoints
from fgan.run.loop import DivergenceError
from fgan.run.replay import checkpoint_files, replay

NAN, INF = float("nan"), float("inf")
SETTINGS = {"batch_size": 8, "conditional": False}


def points(count=64):
    """Points on a line, of one class."""
    samples = torch.linspace(-1, 1, count).repeat(2, 1).T.contiguous()
    return DataSet("line", samples, torch.zeros(count, dtype=torch.int64), ("all",))


def network(first, last, *middle):
    """Linear, what is given, linear; the same parameters every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Plain(nn.Sequential(nn.Linear(first, 4), *middle, nn.Linear(4, last)))


class Layer(nn.Module):
    """A layer of a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def log_of_zero(x):
    return torch.log(x - x) + x


def overflow(x):
    return (x + 2) * 3e38 * 1e-38


def root_at_zero(x):
    return torch.sqrt(x - x) + x


def wgan_gp(generator=None, critic=None, **options):
    networks = generator or network(3, 2), critic or network(2, 1)
    return fgan.wgan_gp(*networks, **{"n_critic": 2} | options)


def place_of(algorithm, out, round=3, data=None):
    """Where the first number that is not finite arises, from the initial state."""
    return replay(algorithm, data or points(), out=out, round=round, **SETTINGS).place


@pytest.mark.parametrize(
    ("player", "function", "part", "phase", "operation"),
    [
        ("critic", log_of_zero, "critic update 1", "forward", "aten.log.default"),
        ("critic", overflow, "critic update 1", "forward", "aten.mul.Tensor"),
        ("critic", root_at_zero, "critic update 1", "backward", "aten.div.Tensor"),
        ("generator", log_of_zero, "fakes of critic update 1", "forward", "aten.log.default"),
        ("generator", root_at_zero, "generator update", "backward", "aten.div.Tensor"),
    ],
)
def test_the_layer_the_pass_the_operation_and_the_line(
    player, function, part, phase, operation, tmp_path
):
    """In forward and backward passes of both players, with the line of the user's own layer."""
    layers = nn.Tanh(), Layer(function)
    networks = {"generator": network(3, 2), "critic": network(2, 1)}
    networks[player] = network(*((3, 2) if player == "generator" else (2, 1)), *layers)
    algorithm = fgan.wgan(networks["generator"], networks["critic"], n_critic=2)
    place = place_of(algorithm, tmp_path)
    assert (place.round, place.part) == (1, part)
    origin = place.origin
    assert (origin.phase, origin.operation) == (phase, operation)
    assert origin.layer == f"'net.2' (Layer) of the {player}"
    if phase == "forward":
        assert origin.value == ("inf" if function is overflow else "-inf")
    assert f"test_replay.py:{function.__code__.co_firstlineno + 1}, in {function.__name__}" in (
        origin.line
    )
    assert origin.outputs == ("float32 [8, 4]",)


def test_the_penalty_is_named(tmp_path):
    """The input gradient of a root at zero is no number, and the score is one."""
    critic = network(2, 1, nn.Tanh(), Layer(root_at_zero))
    place = place_of(wgan_gp(critic=critic), tmp_path)
    assert (place.part, place.origin.phase) == ("critic update 1", "penalty")
    assert place.origin.layer == "'net.2' (Layer) of the critic"
    assert "in root_at_zero" in place.origin.line
    assert "the penalty's passes" in str(place)


@pytest.mark.parametrize("player", ["critic", "generator"])
def test_an_update_that_overflows(player, tmp_path):
    """The gradient is finite, and the optimiser's own arithmetic is not."""
    rates = {f"{player}_optimizer": fgan.sgd(1e40)}
    place = place_of(wgan_gp(**rates), tmp_path)
    assert place.part == ("critic update 1" if player == "critic" else "generator update")
    assert place.origin.phase == "update"
    assert place.origin.layer == ""
    assert "optim.py" in place.origin.line
    assert place.leaves[0].startswith(f"state.{player}.params['net.")


class Masked(nn.Module):
    """Makes infinities on purpose: -inf in a buffer, and 1 / 0 where another value is chosen."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
        self.register_buffer("mask", torch.tensor([0.0, -INF, 0.0, 0.0]))

    def forward(self, x):
        inverse = 1 / torch.zeros_like(x)
        attention = torch.softmax(x + self.mask, dim=-1)
        return torch.log(attention[:, [0]] * self.scale) + torch.where(x > -INF, x, inverse)


def test_infinities_that_are_masked_are_not_blamed(tmp_path):
    """A round that is finite in the end has no place; in another one, the right operation has."""
    fine = fgan.wgan(network(3, 2), network(2, 1, Masked()), n_critic=1)
    result = replay(fine, points(), out=tmp_path, round=2, **SETTINGS)
    assert result.place is None
    broken = fgan.wgan(network(3, 2), network(2, 1, Masked(0.0)), n_critic=1)
    origin = place_of(broken, tmp_path).origin
    assert (origin.operation, origin.inputs) == ("aten.log.default", ("float32 [8, 1]",))


def test_a_loss_that_reads_what_is_not_there(tmp_path):
    """Real scores are NaN for a generator's loss that does not ask for them."""
    rates = dict(critic_optimizer=fgan.sgd(0.1), generator_optimizer=fgan.sgd(0.1))
    algorithm = fgan.make_algorithm(
        network(3, 2),
        network(2, 1),
        adversarial(fgan.losses.hinge_critic_loss),
        adversarial_generator(lambda real, fake: real - fake),
        **rates,
    )
    place = place_of(algorithm, tmp_path)
    assert (place.part, place.origin.value) == ("generator update", "nan")
    assert "full_like" in place.origin.operation
    assert "objectives.py" in place.origin.line


def test_rounds_have_the_bits_of_the_run(tmp_path):
    """From an older checkpoint and from the initial state, compiled or not."""
    algorithm = wgan_gp(ema_decay=0.9)
    run = {"out": tmp_path, "seed": 3, **SETTINGS}
    fgan.train(algorithm, points(), rounds=3, **run)
    shutil.copy(tmp_path / "checkpoint.pt", tmp_path / "checkpoint-000003.pt")
    final = fgan.train(algorithm, points(), rounds=6, resume=True, **run)
    shutil.rmtree(tmp_path / "checkpoints")
    compiled = fgan.compile(algorithm, backend="interpreter")
    for played in (algorithm, compiled):
        result = replay(played, points(), round=6, **run)
        assert (result.start, result.round, result.place) == (3, 6, None)
        assert_identical(result.state, final)
    (tmp_path / "checkpoint-000003.pt").unlink()
    result = replay(algorithm, points(), round=6, **run)
    assert result.start == 0
    assert_identical(result.state, final)


def test_damaged_and_infinite_checkpoints_are_left_out(tmp_path):
    """The one before them is used, and a line says so."""
    algorithm = wgan_gp()
    fgan.train(algorithm, points(), rounds=2, out=tmp_path, **SETTINGS)
    state = checkpoints.load(tmp_path / "checkpoint.pt", like=algorithm.init(0))
    bad = state._replace(round=state.round + 2)
    bad.critic.params["net.1.bias"].fill_(NAN)
    checkpoints.save(tmp_path / "checkpoint-000004.pt", bad)
    (tmp_path / "checkpoint-000005.pt").write_bytes(b"nothing")
    said = []
    result = replay(algorithm, points(), out=tmp_path, round=6, say=said.append, **SETTINGS)
    assert result.start == 2
    assert [path.name for path in checkpoint_files(tmp_path)] == [
        "checkpoint-000004.pt",
        "checkpoint.pt",
        "round-000001.pt",
    ]
    assert said[0] == (
        "checkpoint-000004.pt (round 4) is left out: .critic.params['net.1.bias'] is not finite"
    )
    assert said[1] == "from checkpoint.pt, which has completed round 2"


def test_the_error_of_a_run_names_the_replay(tmp_path):
    """A script's run has no configuration: the function is named, with its folder and round."""
    wild = wgan_gp(critic_optimizer=fgan.sgd(1e40))
    with pytest.raises(DivergenceError, match=r"fgan\.run\.replay\.replay\(.*round=1, \.\.\.\)"):
        fgan.train(wild, points(), rounds=3, out=tmp_path, log_every=1, **SETTINGS)
    with pytest.raises(ValueError, match="this is a population"):
        replay(fgan.population(wild), points(), out=tmp_path, round=1)
    with pytest.raises(ValueError, match="round is a whole number from 1"):
        replay(wild, points(), out=tmp_path, round=0)


def test_the_command_that_the_error_gives(tmp_path, capsys):
    """It finds the place in a run that diverges between two checkpoints, and fits a shell."""
    out = tmp_path / "a run"
    tiny = ["--model", "mlp", "--width", "16", "--latent-dim", "4", "--data", "rings"]
    tiny += ["--batch-size", "8", "--n-critic", "2", "--log-every", "3", "--sample-every", "3"]
    given = ["train", "wgan-gp", *tiny, "--rounds", "30", "--out", str(out)]
    assert main([*given, "--lr", "1e9"]) == 1
    message = capsys.readouterr().err
    command = message.partition("arose: fgan ")[2].partition(". Then")[0]
    assert shlex.split(command)[:2] == ["replay", str(out)]
    for arguments in (shlex.split(command), ["replay", str(out)]):
        assert main(arguments) == 1
        shown = capsys.readouterr()
        assert "fgan: round" in shown.err
        for word in ("layer ", "operation  aten.", "line ", "result "):
            assert word in shown.out


def test_a_run_that_is_finite(tmp_path, capsys):
    """Status 0 and one sentence; a round that the run does not have is an error."""
    out = tmp_path / "run"
    tiny = ["--model", "mlp", "--width", "16", "--latent-dim", "4", "--batch-size", "8"]
    assert main(["train", "gan", *tiny, "--data", "rings", "--rounds", "3", "--out", str(out)]) == 0
    for arguments in (["--round", "2"], []):
        assert main(["replay", str(out), *arguments]) == 0
        last = 2 if arguments else 3
        assert f"all numbers of round {last} are finite" in capsys.readouterr().out
    assert main(["replay", str(out), "--round", "4"]) == 2
    assert "--round is from 1 to 3" in capsys.readouterr().err
    assert main(["replay", str(tmp_path)]) == 2
    assert "there is no run" in capsys.readouterr().err
