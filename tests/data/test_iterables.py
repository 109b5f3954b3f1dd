"""Data that others hold: loaders, data sets of torch, functions that make batches."""

import warnings

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from fgan.data import Batches, DataSet, adapted, batches

COUNT = 10
X = torch.stack([torch.arange(COUNT), -torch.arange(COUNT)], dim=1).float()
Y = torch.arange(COUNT) % 3


def numbers(stream):
    """The samples of all batches by their numbers, round by round."""
    return [batch.real[..., 0].int().tolist() for batch in stream]


def epochs_of(loader, count):
    """The batches of `count` passes, those of full size, by torch alone."""
    passes = [[x[:, 0].int().tolist() for x, _ in loader] for _ in range(count)]
    return [batch for whole in passes for batch in whole if len(batch) == 3]


class Images(Dataset):
    """Rows that are dicts, as `datasets.Dataset` gives them in the format torch."""

    column_names = ("image", "label")

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return {"image": torch.full((1, 2, 3), index, dtype=torch.uint8), "label": int(Y[index])}


class Columns:
    """No data set of torch by its class; several rows at once, as `datasets.Dataset` has them."""

    column_names = ("x", "y")

    def __len__(self):
        return COUNT

    def __getitems__(self, numbers):
        return [{"x": X[i], "y": Y[i]} for i in numbers]


@pytest.mark.filterwarnings("ignore:DataLoader. batches shorter")
@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(TensorDataset(X, Y), batch_size=3),
        lambda: DataLoader([{"x": x, "y": y} for x, y in zip(X, Y, strict=True)], batch_size=3),
        lambda: list(DataLoader(TensorDataset(X, Y), batch_size=3)),
        lambda: lambda: iter(DataLoader(TensorDataset(X, Y), batch_size=3)),
    ],
    ids=["pairs", "dicts", "list", "function"],
)
def test_batches_of_an_iterable_are_grouped_into_rounds(loader):
    """Two updates a round, epoch after epoch, the short last batch left out, conditions beside."""
    want = [[*range(0, 3)], [*range(3, 6)], [*range(6, 9)]] * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stream = batches(loader(), n_critic=2, rounds=6)
        got = list(stream)
    assert numbers(got) == [want[i : i + 2] for i in range(0, 12, 2)]
    for batch in got:
        assert torch.equal(batch.condition, batch.real[..., 0].long() % 3)
        assert torch.equal(batch.real[..., 1], -batch.real[..., 0])
    assert stream.epoch >= 3


def test_a_short_batch_is_said_once():
    """And the epoch is counted in batches of full size."""
    loader = DataLoader(TensorDataset(X, Y), batch_size=4)
    stream = batches(loader, rounds=7)
    with pytest.warns(UserWarning, match="of 4 samples, are left out, and one has 2") as caught:
        list(stream)
    assert len(caught) == 1
    assert stream.epoch == pytest.approx(3 + 1 / 3)


def test_a_loader_without_conditions():
    """Tensors alone, and dicts of which one key is told."""
    plain = DataLoader(X, batch_size=5)
    assert next(batches(plain)).condition is None
    odd = [{"pixels": X[:5], "name": Y[:5]}]
    with pytest.raises(ValueError, match=r"entries 'pixels', 'name': say which .* keys="):
        batches(odd)
    assert next(batches(odd, keys=("pixels", None))).condition is None
    assert torch.equal(next(batches(odd, keys=("pixels", "name"))).condition[0], Y[:5])
    with pytest.raises(ValueError, match="has no 'image', only 'pixels', 'name'"):
        batches(odd, keys=("image", None))


def test_rounds_that_are_made_already_are_taken_apart():
    """An iterable of `fgan.Batch`, such as another call of `batches`, with another n_critic."""
    data = DataSet("line", X, Y, ("a", "b", "c"))
    one = list(batches(data, 2, n_critic=3, rounds=2))
    two = list(batches(one, n_critic=2, rounds=3))
    assert [x for r in numbers(two) for x in r] == [x for r in numbers(one) for x in r]


@pytest.mark.parametrize("rows", [Images(), Columns(), TensorDataset(X, Y)])
def test_rows_by_number_come_in_the_order_of_a_data_set(rows):
    """The same samples in the same rounds, from any round on, labels included."""
    same = DataSet("line", X, Y, ("a", "b", "c"))
    want = list(batches(same, 4, 2, rounds=5, seed=3))
    for start in (0, 2):
        got = list(batches(rows, 4, 2, rounds=5 - start, seed=3, start=start))
        for batch, other in zip(got, want[start:], strict=True):
            real = batch.real
            if real.ndim == 5:  # uint8 images in [-1, 1]
                real = ((real.flatten(2)[..., :1] + 1) * 127.5).round() * torch.tensor([1, -1])
            assert torch.equal(real, other.real)
            assert torch.equal(batch.condition, other.condition)


@pytest.mark.filterwarnings("ignore:DataLoader. batches shorter")
@pytest.mark.parametrize("start", [1, 2, 3, 7, 20])
def test_a_fixed_order_is_resumed_by_leaving_batches_out(start):
    """A loader without shuffling and a list, also over several epochs."""
    loader = DataLoader(TensorDataset(X, Y), batch_size=3)
    whole = numbers(batches(loader, n_critic=2, rounds=24))
    stream = batches(loader, n_critic=2, rounds=24 - start, start=start)
    assert numbers(stream) == whole[start:]
    assert stream.epoch == pytest.approx(24 * 2 / 3, abs=0.3)
    listed = [(X[i : i + 2], Y[i : i + 2]) for i in range(0, 10, 2)]
    whole = numbers(batches(listed, rounds=24))
    assert numbers(batches(listed, rounds=24 - start, start=start)) == whole[start:]


@pytest.mark.parametrize(
    "data",
    [
        DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True),
        lambda: iter([X]),
        DataLoader(TensorDataset(X), batch_sampler=iter([[0, 1], [2, 3]])),
    ],
    ids=["shuffled", "function", "sampler"],
)
def test_an_order_that_cannot_be_resumed_is_said(data):
    """Nobody knows the order of the second pass."""
    with pytest.warns(UserWarning, match="is not resumed, and an epoch begins"):
        next(batches(data, start=1))


class Stateful:
    """Says its position as torchdata's StatefulDataLoader does: after load_state_dict, in iter."""

    def __init__(self):
        self.source, self.at, self.next = torch.Generator().manual_seed(5), 0, None

    def __iter__(self):
        if self.next is None:
            self.order, self.at = torch.randperm(COUNT, generator=self.source), 0
        else:
            self.source.set_state(self.next["source"])
            self.order, self.at, self.next = self.next["order"], self.next["at"], None
        while self.at < COUNT:
            chosen = self.order[self.at : self.at + 2]
            self.at += 2
            yield X[chosen], Y[chosen]

    def state_dict(self):
        return {"source": self.source.get_state(), "order": self.order, "at": self.at}

    def load_state_dict(self, state):
        self.next = state


@pytest.mark.parametrize("start", [1, 4, 5, 8])
def test_a_loader_that_says_its_position_goes_on_there(start):
    """In the middle of an epoch and at its end; the batches of both parts are those of one run."""
    whole = numbers(batches(Stateful(), rounds=12))
    first = batches(Stateful(), rounds=12)
    for _ in range(start):
        next(first)
    position = first.position()
    rest = batches(Stateful(), rounds=12 - start, start=start, position=position)
    assert numbers(rest) == whole[start:]
    assert rest.epoch == pytest.approx(12 / 5, abs=1)
    with pytest.warns(UserWarning, match="is not resumed"):
        batches(Stateful(), start=start)


def test_an_iterator_ends_where_it_ends():
    """It has no second epoch."""
    stream = batches(iter([X[:3], X[3:6], X[6:9]]), n_critic=2, rounds=9)
    assert numbers(stream) == [[[0, 1, 2], [3, 4, 5]]]


def test_an_epoch_without_a_batch_is_an_error():
    """A function that gives the same, spent iterator again."""
    spent = iter([X])
    with pytest.raises(ValueError, match="gave no batch of 10 in an epoch"):
        list(batches(lambda: spent, rounds=3))


def test_other_shapes_and_sizes_are_refused():
    """What cannot be stacked, a size that is not the loader's, and conditions that come and go."""
    for later, message in [
        (X[:5, :1], r"one shape, \[5, 2\] as the first has, and a later one is \[5, 1\]"),
        (X, r"\[5, 2\] as the first has, and a later one is \[10, 2\]"),
        ((X[:5], Y[:5]), "all have conditions, or none has"),
        ((X[:5], Y[:4]), "5 samples and 4 conditions"),
    ]:
        with pytest.raises(ValueError, match=message):
            list(batches([X[:5], later], rounds=2))
    with pytest.raises(ValueError, match="batch_size is 4, and the batches of list have 5"):
        batches([X[:5]], 4)
    assert len(next(batches([X[:5]], 5)).real[0]) == 5


class Endless(IterableDataset):
    """Single samples."""

    def __iter__(self):
        yield from X


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Endless(), "whose items are single samples: wrap it, DataLoader"),
        (iter([]), "which gave no batch"),
        ((X, Y), "and tuple was given: DataSet"),
        ({"x": X}, "and dict was given: DataSet"),
        ([3, 4], "its samples are 3"),
        ([(X, Y, Y)], "its samples are a tuple of 3"),
        ([(X, [0, 1])], "its conditions are a list of 2"),
        ([Y], "samples must be uint8 or floating, not torch.int64"),
        ([X * float("nan")], "10 of 10 samples hold NaN"),
        (lambda: 3, "makes an iterable of batches for each epoch, and 3 was returned"),
        (TensorDataset(X[:0]), "TensorDataset has no rows"),
        ([torch.zeros(())], r"its samples are a tensor \[\]"),
    ],
)
def test_what_gives_no_batches_is_refused_in_words(data, message):
    """At once, with what was given."""
    with pytest.raises(ValueError, match=message):
        batches(data, 2)


def test_rows_that_are_no_tensors_name_the_way_out():
    """As the pictures of a torchvision data set without a transform."""

    class Objects(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return object(), 1

    with pytest.raises(
        ValueError, match=r"the rows of Objects are tensors .*transform=.*found <class"
    ):
        batches(Objects(), 2)


def test_parts_of_a_loader_are_those_of_its_batches():
    """Each of two processes has half of every batch."""
    listed = [X[:4], X[4:8]]
    halves = [numbers(batches(listed, rounds=2, share=(rank, 2))) for rank in (0, 1)]
    assert halves == [[[[0, 1]], [[4, 5]]], [[[2, 3]], [[6, 7]]]]
    with pytest.raises(ValueError, match="cannot be split into 3 equal parts"):
        batches(listed, share=(0, 3))


def test_one_reading_serves_the_check_and_the_run():
    """The batch that is looked at first is the first batch of the run."""
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True)
    torch.manual_seed(3)
    want = [x[:, 0].int().tolist() for x, _ in loader]
    torch.manual_seed(3)
    found = adapted(loader)
    assert isinstance(found, Batches)
    list(batches(found, rounds=0))
    assert [r[0] for r in numbers(batches(found, rounds=2))] == want
