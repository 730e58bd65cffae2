"""Inputs as requests, and waiting requests as inputs."""

import pytest

from pytest_infergate.load.request_items import Items, batch_sizes_below
from pytest_infergate.measure.invocation import Invocation

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


def test_sizes_that_are_called_before():
    assert [batch_sizes_below(most) for most in (1, 2, 8, 12)] == [
        [1],
        [1, 2],
        [1, 2, 4, 8],
        [1, 2, 4, 8, 12],
    ]


def test_nested_tensors_are_joined_and_others_are_kept():
    scale = torch.tensor(2.0)
    given = {"ids": torch.arange(6).reshape(3, 2), "mask": torch.ones(3), "names": ["a", "b", "c"]}
    seen = []

    def model(batch, factor, *, table):
        seen.append((batch, factor, table))
        return batch["ids"]

    table = torch.zeros(5)
    items = Items(Invocation(model, (given, scale), {"table": table}), 3)
    items.call([2, 0, 2, 1])
    batch, factor, kept = seen[0]
    assert batch["ids"].tolist() == [[4, 5], [0, 1], [4, 5], [2, 3]]
    assert batch["mask"].shape == (4,)
    assert batch["names"] is given["names"]
    assert factor is scale
    assert kept is table
    assert items.whole([1, 2, 3]) == ""


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (lambda x: x.sum(), "no tensor of 3 items"),
        (lambda x: x.reshape(3, 2), "raised RuntimeError"),
    ],
)
def test_a_model_that_takes_no_other_batch_gets_the_whole_input(model, word):
    assert word in Items(Invocation(model, (torch.ones(3, 2),)), 3).whole([1, 2, 3])


def test_an_argument_that_is_no_batch_is_found_by_the_output():
    images, prompts = torch.arange(6.0).reshape(3, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    best = Items(Invocation(lambda x, y: (x @ y.T).argmax(-1), (images, prompts)), 3)
    assert best.whole([1, 3]) == "its output of 1 item alone differs from that in a batch of 3"
    assert "1 item alone" in Items(Invocation(lambda x, y: x @ y.T, (images, prompts)), 3).whole([1, 3])
    assert "1 item alone" in Items(Invocation(lambda x: x - x.mean(0), (images,)), 3).whole([1, 3])


def test_random_items_are_items():
    assert Items(Invocation(torch.rand_like, (torch.ones(3, 2),)), 3).whole([1, 3]) == ""


def test_an_input_without_the_batch_size_is_whole():
    assert Items(Invocation(lambda x: x, (torch.ones(4, 2),)), 3).whole([1]) != ""


def test_tensors_without_a_first_dimension_to_slice_are_whole():
    odd = (
        torch.eye(3).to_sparse(),
        torch.nested.nested_tensor([torch.ones(2)] * 3, layout=torch.jagged),
        torch.tensor(3.0),
    )
    assert "no tensor whose first" in Items(Invocation(lambda *x: x, odd), 3).whole([1])


def test_memory_that_runs_out_is_passed_on():
    def model(_):
        raise MemoryError

    with pytest.raises(MemoryError):
        Items(Invocation(model, (torch.ones(3),)), 3).whole([1])
