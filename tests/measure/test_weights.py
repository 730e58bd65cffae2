import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from torch import nn

    from pytest_infergate.measure.weights import weight_bytes


def test_tied_weights_count_once():
    one = nn.Linear(4, 4, bias=False)
    tied = nn.Linear(4, 4, bias=False)
    tied.weight = one.weight
    assert weight_bytes(nn.Sequential(one, tied)) == {"float32": 64}
    alias = nn.Linear(4, 4, bias=False)
    alias.weight = nn.Parameter(one.weight.data)
    assert weight_bytes(nn.Sequential(one, alias)) == {"float32": 64}


def test_weights_are_parameters_and_buffers():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    sizes = {"float32": 4 * (6 + 3 + 3 + 3 + 3 + 3), "int64": 8}
    assert weight_bytes(model) == sizes
    assert weight_bytes(nn.Identity()) == {}
    assert weight_bytes(model.to("meta")) == sizes


def test_weights_by_dtype():
    model = nn.Sequential(nn.Linear(4, 4).bfloat16(), nn.Linear(4, 4), nn.Linear(4, 4).bfloat16())
    assert weight_bytes(model) == {"bfloat16": 2 * 40, "float32": 80}


def test_weights_of_a_sparse_buffer():
    model = nn.Identity()
    model.register_buffer("mask", torch.eye(10).to_sparse())
    assert weight_bytes(model) == {"float32": 10 * 4 + 2 * 10 * 8}
