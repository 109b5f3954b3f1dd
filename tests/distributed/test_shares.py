"""Every rank's part of the noise and of the data: together they are the bits of one process."""

from functools import partial

import pytest
import torch
from helpers import LATENT, assert_identical, pair
from torch.utils._python_dispatch import TorchDispatchMode

import fgan
from fgan import tree
from fgan.data import DataSet, batches
from fgan.noise import BLOCK
from fgan.objectives import (
    CriticObjective,
    Draw,
    GeneratorObjective,
    Penalty,
    adversarial,
    adversarial_generator,
)
from fgan.penalties import zero_centered_penalty
from fgan.seeds import mix_seed

SIZE = 12
RANKS = (1, 2, 3, 4)


def with_draws():
    """An algorithm whose objectives ask for random tensors, and that has a lazy penalty."""
    lazy = Penalty(zero_centered_penalty, 1.0, "real", every=2)
    critic = adversarial(fgan.losses.hinge_critic_loss, lazy)
    generator = adversarial_generator(fgan.losses.wasserstein_generator_loss)
    return fgan.make_algorithm(
        *pair(),
        CriticObjective(critic.function, {"shift": Draw("normal", None), "flip": Draw("uniform")},
                        critic.lazy),
        GeneratorObjective(generator.function, draws={"jitter": Draw("normal", (5,))}),
        generator_optimizer=fgan.sgd(0.1),
        critic_optimizer=fgan.sgd(0.1),
        n_critic=3,
        sample_shape=(2,),
    )  # fmt: skip


def joined(parts, times=1):
    """The noise of all ranks put together; `times`: the generator's batch in critic's batches."""

    def of_critic(*leaves):
        return torch.cat(leaves, dim=1) if leaves[0].numel() else leaves[0]

    def of_generator(*leaves):
        blocks = [leaf.unflatten(0, (times, -1)) for leaf in leaves]
        return torch.cat(blocks, dim=1).flatten(0, 1)

    first, *others = parts
    extra = {
        player: tree.map(join, first.extra[player], *[each.extra[player] for each in others])
        for player, join in (("critic", of_critic), ("generator", of_generator))
        if player in first.extra
    }
    return fgan.Noise(
        of_critic(*[each.critic_latent for each in parts]),
        of_generator(*[each.generator_latent for each in parts]),
        of_critic(*[each.mix for each in parts]),
        extra,
    )


@pytest.mark.parametrize("size", RANKS)
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("samples", [SIZE, 50 * SIZE], ids=["one block", "three blocks"])
def test_the_noise_of_all_ranks_is_that_of_one_process(size, times, index, samples):
    """Bit for bit, declared tensors and marks of lazy penalties too, for any number of ranks."""
    algorithm = with_draws()
    draw = partial(algorithm.noise, 7, index, samples, generator_batch_size=times * samples)
    parts = [draw(share=(rank, size)) for rank in range(size)]
    assert_identical(joined(parts, times), draw())
    for part in parts:
        assert part.mix.shape == (3, samples // size)
        for leaf in tree.leaves(part):
            # In memory of its own: a view would keep the whole batch's.
            assert leaf.untyped_storage().nbytes() == leaf.nbytes
            assert leaf.is_contiguous()


@pytest.mark.parametrize("rows", [1, BLOCK, BLOCK + 1, 700, 3 * 700, 2 * 700 + BLOCK + 5])
def test_a_block_of_the_noise_does_not_depend_on_the_rest_of_the_batch(rows):
    """A larger batch has the same beginning, and no random number twice.

    The generator's latents take the places of the batch in turn, whatever their number.
    """
    algorithm = with_draws()
    large = algorithm.noise(7, 0, 700, generator_batch_size=rows)
    # The generator's latents in the first block, which are drawn before the rest.
    first = sum(min(BLOCK, rows - start) for start in range(0, rows, 700))
    small = algorithm.noise(7, 0, BLOCK, generator_batch_size=first)
    assert large.generator_latent.shape == (rows, algorithm.latent_dim)
    assert large.extra["generator"]["jitter"].shape == (rows, 5)
    assert_identical(large.critic_latent[:, :BLOCK], small.critic_latent)
    assert_identical(large.mix[:, :BLOCK], small.mix)
    for name, drawn in small.extra["critic"].items():
        if drawn.numel():
            assert_identical(large.extra["critic"][name][:, :BLOCK], drawn)
    passes = [large.generator_latent[start : start + BLOCK] for start in range(0, rows, 700)]
    assert_identical(torch.cat(passes), small.generator_latent)
    for x in (large.critic_latent.flatten(0, 1), large.generator_latent):
        assert len(x.unique(dim=0)) == len(x)


@pytest.mark.parametrize("size", [1, 64, BLOCK])
def test_a_batch_of_one_block_has_one_seed(size):
    """As in version 0.1, whose runs are resumed and played again."""
    algorithm = fgan.wgan_gp(*pair(), n_critic=2)
    source = torch.Generator().manual_seed(mix_seed(7, 2, 3))
    options = dict(generator=source, dtype=torch.float64)
    drawn = algorithm.noise(7, 3, size)
    assert_identical(drawn.critic_latent, torch.randn(2, size, LATENT, **options))
    assert_identical(drawn.generator_latent, torch.randn(size, LATENT, **options))
    assert_identical(drawn.mix, torch.rand(2, size, **options))


class CountDrawn(TorchDispatchMode):
    """Counts the random numbers that are drawn."""

    def __init__(self):
        super().__init__()
        self.drawn = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if "rand" in str(func):
            self.drawn += result.numel()
        return result


@pytest.mark.parametrize("size", [2, 8, 64])
def test_a_rank_draws_no_more_with_more_ranks(size):
    """Its own part, and less than a block more at either end."""
    algorithm, part = fgan.wgan_gp(*pair(), n_critic=2), 96
    numbers = 3 * LATENT + 2  # of a sample
    for rank in (0, size // 2, size - 1):
        with CountDrawn() as count:
            algorithm.noise(0, 0, size * part, share=(rank, size))
        assert part * numbers <= count.drawn < (part + 2 * BLOCK) * numbers


@pytest.mark.parametrize("size", RANKS)
@pytest.mark.parametrize("start", [0, 3])
def test_the_data_of_all_ranks_is_that_of_one_process(size, start):
    """Bit for bit, over the ends of epochs and in a run that goes on."""
    samples = torch.arange(50.0).repeat(2, 1).T.contiguous()
    data = DataSet("line", samples, torch.arange(50) % 5, tuple("abcde"))
    stream = partial(batches, data, SIZE, 2, 6, seed=3, start=start)
    shares = [stream(share=(rank, size)) for rank in range(size)]
    for whole, *parts in zip(stream(), *shares, strict=True):
        assert_identical(torch.cat([part.real for part in parts], dim=1), whole.real)
        assert_identical(torch.cat([part.condition for part in parts], dim=1), whole.condition)
        assert parts[0].real.shape == (2, SIZE // size, 2)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (3, r"share is \(rank, size\), two whole numbers, and 3 was given"),
        ((0, 2, 1), "two whole numbers"),
        ((2, 2), r"a rank from 0 to size - 1, and \(2, 2\) was given"),
        ((-1, 2), "the rank of a share is a whole number from 0, and -1"),
        ((0, 0), "the size of a share is a whole number from 1, and 0"),
        ((0, True), "the size of a share is a whole number"),
        ((0, 5), "batch_size is that of the whole batch, and 12 samples cannot be split into 5"),
    ],
)
def test_shares_that_are_none_are_refused(share, message):
    """By the noise and by the data, before the first batch."""
    with pytest.raises(ValueError, match=message):
        fgan.gan(*pair()).noise(0, 0, SIZE, share=share)
    with pytest.raises(ValueError, match=message):
        batches("rings", SIZE, share=share)


@pytest.mark.parametrize("rows", [6, 18])
def test_a_generator_batch_that_is_no_multiple_is_refused(rows):
    """Its latents would meet the conditions of other samples than in one process."""
    algorithm = fgan.gan(*pair())
    with pytest.raises(ValueError, match=f"generator_batch_size is {rows} and batch_size 12"):
        algorithm.noise(0, 0, SIZE, generator_batch_size=rows, share=(0, 2))
    assert len(algorithm.noise(0, 0, SIZE, generator_batch_size=rows).generator_latent) == rows
