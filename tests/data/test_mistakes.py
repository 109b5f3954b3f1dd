"""Arguments of another kind than they have to be: each is refused by name, and says what it is."""

import pytest
import torch
from helpers import Critic, Generator

import fgan
from fgan.data import DataSet, batches, load, normalise, to_uint8

POINTS = DataSet("points", torch.randn(9, 2), torch.arange(9) % 3, ("a", "b", "c"))


@pytest.mark.parametrize("flag", ["False", "no", "", [False], 1, torch.tensor([True, False])])
def test_a_flag_is_true_or_false(flag, tmp_path):
    """Text such as "False" counts as true in Python, and would turn conditions on."""
    with pytest.raises(ValueError, match="conditional is True or False"):
        batches(POINTS, 2, conditional=flag)
    algorithm = fgan.gan(Generator().float(), Critic().float())
    for name in ("conditional", "resume"):
        with pytest.raises(ValueError, match=f"{name} is True or False"):
            fgan.train(algorithm, POINTS, rounds=1, out=tmp_path, **{name: flag})


@pytest.mark.parametrize("device", [3.5, "gpu", "meta:x", ["cpu"], torch.float32, True, "cuda:99"])
def test_a_device_is_tried_before_data_are_read(device):
    """`Tensor.to` takes a number for a dtype, silently."""
    with pytest.raises(ValueError, match=r"device .*(was given|cannot be used)"):
        load("rings", device=device)
    with pytest.raises(ValueError, match=r"device .*(was given|cannot be used)"):
        batches(POINTS, 2, device=device)


@pytest.mark.parametrize("name", [None, 3, ("rings",), ["rings"], b"rings"])
def test_the_name_of_a_data_set_is_text(name):
    """The message lists what is known."""
    with pytest.raises(ValueError, match=r"the name of a data set is one of rings, .* was given"):
        load(name)


@pytest.mark.parametrize("names", ["abc", None, 3, (0, 1, 2), torch.arange(3)])
def test_class_names_are_strings(names):
    """One text is no list of names, although it can be iterated over."""
    data = DataSet("points", POINTS.samples, POINTS.labels, names)
    with pytest.raises(ValueError, match="points: class_names is a tuple of strings"):
        batches(data, 2)


@pytest.mark.parametrize("wrong", [None, [1.0, 2.0], "text", POINTS.samples.numpy()])
def test_what_is_no_tensor_is_called_by_its_kind(wrong):
    """Lists, text and arrays of NumPy, where images or samples are expected."""
    kind = type(wrong).__name__
    for function in (normalise, to_uint8):
        with pytest.raises(ValueError, match=rf"{function.__name__} takes a tensor of .*{kind}"):
            function(wrong)
    with pytest.raises(ValueError, match=rf"points: samples is a tensor, .*{kind}"):
        batches(DataSet("points", wrong, POINTS.labels, POINTS.class_names), 2)


@pytest.mark.parametrize("out", [None, 3, ["runs"], True, ""])
def test_the_folder_of_a_run_is_a_path(out):
    """It is told before anything is computed."""
    algorithm = fgan.gan(Generator().float(), Critic().float())
    with pytest.raises(ValueError, match=r"out is the path of the run's folder, .* was given"):
        fgan.train(algorithm, POINTS, rounds=1, out=out)


def test_an_algorithm_is_made_by_a_recipe(tmp_path):
    """The recipe itself, its networks, its step and its state are none."""
    algorithm = fgan.gan(Generator().float(), Critic().float())
    networks = (Generator(), Critic())
    for wrong in (None, "gan", networks, algorithm.step, algorithm.init(0), fgan.gan):
        with pytest.raises(ValueError, match="algorithm is one that a recipe made"):
            fgan.train(wrong, POINTS, rounds=1, out=tmp_path)


def test_counts_may_be_tensors():
    """A 0-d integer tensor counts as the number that it holds."""
    count = torch.tensor(3)
    got = next(batches(POINTS, count, count, rounds=count, start=count))
    want = next(batches(POINTS, 3, 3, rounds=3, start=3))
    assert torch.equal(got.real, want.real)
