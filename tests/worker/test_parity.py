import dataclasses
import itertools

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from pytest_infergate.measure.item_streams import stream_items
    from pytest_infergate.paired.protocol import OutputCompared
    from pytest_infergate.worker import parity

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def compare(tmp_path):
    path = str(tmp_path / "kept")

    def compare(base, candidate, tolerance=None):
        parity.keep(base, path)
        found = parity.compare(candidate, path, tolerance)
        assert found.uncompared == ()
        return found.difference

    return compare


def of(*values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)


FLOATS = {
    torch.float64: 1e-7,
    torch.float32: 1e-3,
    torch.float16: 1e-2,
    torch.bfloat16: 5e-2,
    torch.float8_e4m3fn: 0.1,
    torch.float8_e5m2: 0.1,
}
INTEGERS = [
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
]


def name(dtype):
    return str(dtype).removeprefix("torch.")


# Floats


def test_what_is_equal_does_not_differ(compare):
    for dtype in FLOATS:
        output = of(0, 1, -2, 0.5).to(dtype)
        assert compare(output, output.clone()) is None, dtype


@pytest.mark.parametrize(("dtype", "allowed"), FLOATS.items(), ids=map(name, FLOATS))
def test_each_dtype_has_its_tolerance(compare, dtype, allowed):
    # Differences of a largest value that every dtype can represent, that makes them too much or not.
    base = of(1, 0).to(dtype)
    allowed /= {torch.float64: 10_000, torch.float32: 100}.get(dtype, 1)
    difference = torch.tensor(allowed, dtype=torch.float64)
    near, far = ((torch.stack([difference * 0 + 1, difference * share])).to(dtype) for share in (0.8, 1.25))
    assert compare(base, near) is None
    found = compare(base, far)
    assert f"{allowed:g}" in found
    assert name(dtype) in found


DETECTION = (640, 480, 1280, 700, 0.9, 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex64], ids=name)
def test_a_tensor_may_hold_values_of_several_scales(compare, dtype):
    share, part = FLOATS.get(dtype, 1e-3), 1e-4 if dtype is torch.float64 else 1e-2
    assert compare(of(DETECTION, dtype=dtype), of((*DETECTION[:4], 0.2, 3), dtype=dtype)) is not None
    assert compare(of(4096, 0.75, dtype=dtype), of(4096, 0.25, dtype=dtype)) == (
        "the output: values differ by up to 0.5, 66.7% of the value there; "
        f"allowed is {share:g} of a value and {share * part:g} of the largest one in {name(dtype)}"
    )
    for old in (1000, 0, -500):
        base = of(1000, old, dtype=dtype)
        allowed = share * (abs(old) + 1000 * part)
        near, far = (base + of(0, allowed * factor, dtype=dtype) for factor in (0.9, 1.1))
        assert compare(base, near) is None, old
        assert compare(base, far) is not None, old


@pytest.mark.parametrize("kind", [torch.Tensor.clone, torch.Tensor.numpy, torch.Tensor.tolist])
def test_a_column_of_small_values_has_a_tolerance_of_its_own(compare, kind):
    rows = of(*[(3840.5, 2160.25, 0.03 + 0.001 * index) for index in range(4)])
    near, far = rows.clone(), rows.clone()
    near[2, 2] += 3e-3
    far[2, 2] += 5e-3
    assert compare(kind(rows), kind(near)) is None
    found = compare(kind(rows), kind(far))
    assert "15.6% of the value there; allowed is 0.001 of a value" in found
    assert found.endswith("of the largest one in float32 in its column")
    # Three rows do not show how large a column is, and many columns are features.
    assert compare(kind(rows[1:]), kind(far[1:])) is None
    wide = torch.cat([rows] * 11, dim=1)
    assert compare(kind(wide), kind(torch.cat([far] * 11, dim=1))) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_numbers_are_equal_or_not(compare, dtype):
    items = of(400_000 if dtype is torch.float32 else 400_000_000, 17, 3, dtype=dtype)
    assert compare(items, items + of(0, 0, 0, dtype=dtype)) is None
    assert compare(items, items + of(1, 0, 0, dtype=dtype)) == "the output: 1 of 3 whole numbers differ"
    # Above, the dtype has no fractions; ones and zeros may be scores that are saturated.
    large = of(2.0**23 if dtype is torch.float32 else 2.0**52, dtype=dtype)
    assert compare(large, large + 1) is None
    assert compare(of(400_000, 17.5), of(400_001, 17.5)) is None
    assert compare(of(4, 0), of(4, 1e-6)) is None


def test_numbers_that_the_model_draws_from_a_generator_of_its_own_are_not_compared(tmp_path):
    path, drawing = str(tmp_path / "kept"), torch.Generator()

    def call(score=0.5):
        return {"score": of(score), "drawn": torch.rand(2, generator=drawing)}

    parity.keep(call(), path)
    found = parity.compare(call(), path, repeat=call)
    assert found == OutputCompared(None, ("output['drawn'] (differs from call to call)",))
    assert "output['score']" in parity.compare(call(0.7), path, repeat=lambda: call(0.7)).difference


def test_half_precision_is_rounded_by_the_largest_value(compare):
    base, near, far = (of(1000, last, dtype=torch.float16) for last in (1, 10, 20))
    assert compare(base, near) is None
    assert "1.9% of the largest value; allowed is 0.01 of the largest value in float16" in compare(base, far)


DIFFERENCES = {
    "a quarter": (of(1, -4), of(1, -3)),
    "a base that is zero": (of(0, 0), of(0, 1e-9)),
    "not finite": (of(1, 2, NAN), of(1, 2, 3)),
    "integers": (torch.tensor([1, 2, 100]), torch.tensor([1, 2, 101])),
    "booleans": (torch.tensor([True, False]), torch.tensor([False, True])),
    "shapes": (torch.ones(2, 3), torch.ones(3, 2)),
    "a scalar": (torch.ones(1), torch.ones(())),
    "dtypes": (of(1), of(1, dtype=torch.float16)),
    "integer and boolean": (of(1, dtype=torch.int64), torch.tensor([True])),
    "the second of three": ([of(1), of(2), of(3)], [of(1), of(4), of(5)]),
    "two and one": ([of(1)] * 2, of(1)),
    "none and one": ([], of(1)),
}


def test_how_outputs_differ(compare, snapshot):
    assert "\n".join(f"{case}: {compare(*outputs)}" for case, outputs in DIFFERENCES.items()) == snapshot


def test_the_largest_value_of_the_base_is_the_scale(compare):
    assert compare(of(1000, 1), of(1000, 1.009)) is None
    assert compare(of(1000, 1), of(1000, 1.9), 1e-3) is None
    assert compare(of(1, 1), of(1000, 1)) is not None
    assert compare(of(1, 1), of(1.9, 1)) is not None


def test_a_tolerance_replaces_that_of_the_dtype(compare):
    assert compare(of(1), of(1.4), 0.5) is None
    assert "1e-06" in compare(of(1), of(1.00001), 1e-6)
    assert compare(of(1), of(1.00001)) is None


def test_a_tolerance_of_zero_wants_equal_values(compare):
    assert compare(of(1), of(1), 0.0) is None
    assert compare(of(1), of(1 + 2**-20), 0.0) is not None


def test_a_base_that_is_zero(compare):
    assert compare(of(0, 0), of(0, -0.0)) is None
    assert "1e-09" in compare(of(0, 0), of(0, 1e-9))


def test_the_largest_floats_differ(compare):
    assert "inf" in compare(of(1e308, dtype=torch.float64), of(-1e308, dtype=torch.float64))


# Not finite


def test_what_is_not_finite_on_both_sides_does_not_differ(compare):
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    for value, dtype in itertools.product((NAN, INF, -INF), dtypes):
        output = of(1, value, dtype=dtype)
        assert compare(output, output.clone()) is None, (value, dtype)
        assert compare(output[1:], output[1:].clone()) is None, (value, dtype)
        assert compare(output, of(2, value, dtype=dtype)) is not None, (value, dtype)


@pytest.mark.parametrize(
    ("base", "candidate"),
    [((1, 2, NAN), (1, 2, 3)), ((1, 2, 3), (1, 2, NAN)), ((1, 2, 3), (1, 2, INF)), ((1, 2, INF), (1, 2, -INF)),
     ((1, 2, INF), (1, 2, NAN))],
    ids=["nan gone", "nan", "inf", "sign", "other"],
)  # fmt: skip
def test_what_is_not_finite_on_one_side_differs_at_any_tolerance(compare, base, candidate):
    found = compare(of(*base), of(*candidate))
    assert "1 of 3" in found
    assert compare(of(*base), of(*candidate), 1e9) == found


def test_a_nan_float8(compare):
    output = of(1, NAN).to(torch.float8_e4m3fn)
    assert compare(output, output.clone()) is None
    assert "1 of 2" in compare(output, of(1, 1).to(torch.float8_e4m3fn))


# Complex


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=name)
def test_complex(compare, dtype):
    assert compare(of(1 + 1j, dtype=dtype), of(1 + 1j, dtype=dtype)) is None
    assert "up to 2" in compare(of(1 + 1j, dtype=dtype), of(1 - 1j, dtype=dtype))
    assert compare(of(1, 2 + 1j, dtype=dtype), of(1.1, 2 + 1j, dtype=dtype), 0.1) is None
    # The precision of each part is that of a floating dtype of half the size.
    allowed = {torch.complex64: 1e-3, torch.complex128: 1e-7}[dtype]
    assert f"allowed is {allowed:g} " in compare(of(1j, dtype=dtype), of(1.01j, dtype=dtype))
    assert compare(of(1j, dtype=dtype), of(1j * (1 + allowed / 2), dtype=dtype)) is None


def test_complex_values_that_are_not_finite(compare):
    odd = of(complex(NAN, 1), complex(INF, 0), 1, dtype=torch.complex64)
    assert compare(odd, odd.clone()) is None
    assert "2 of 3" in compare(odd, torch.ones(3, dtype=torch.complex64))


def test_conjugates(compare):
    output = of(1j, 2, dtype=torch.complex64)
    assert compare(output.conj(), torch.conj_physical(output)) is None
    assert compare(output.conj(), output) is not None
    assert compare(output.conj().imag, of(-1, 0)) is None


# Integers and booleans


def test_integers_must_be_equal(compare):
    for dtype in INTEGERS:
        base, other = (torch.tensor([1, 2, last], dtype=dtype) for last in (100, 101))
        assert compare(base, base.clone()) is None, dtype
        assert "1 of 3" in compare(base, other, 0.5), dtype


def test_large_integers_are_not_rounded(compare):
    assert compare(of(2**60, dtype=torch.int64), of(2**60 + 1, dtype=torch.int64)) is not None


def test_booleans(compare):
    base = torch.tensor([True, False])
    assert compare(base, base.clone()) is None
    assert "2 of 2" in compare(base, ~base)


# Shape and dtype


def test_shapes(compare):
    assert compare(torch.ones(0, 3), torch.ones(3, 0)) is not None


def test_dtypes(compare):
    assert compare(torch.ones(0), torch.ones(0, dtype=torch.int32)) is not None


def test_empty(compare):
    for dtype in (torch.float32, torch.int64, torch.bool, torch.complex64):
        assert compare(torch.ones(0, 3, dtype=dtype), torch.ones(0, 3, dtype=dtype)) is None, dtype


def test_strides_do_not_matter(compare):
    output = torch.arange(6.0).reshape(2, 3)
    assert compare(output, output.t().contiguous().t()) is None
    assert compare(output[:, ::2], output[:, ::2].contiguous()) is None


# Nests


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple


def nest(value=0.0):
    return {"a": [of(1), (of(2), "text", None)], "b": Output(of(3), (of(4 + value),)), "c": 7}


def test_nests(compare):
    assert compare(nest(), nest()) is None
    found = compare(nest(), nest(1))
    assert "output['b'].hidden[0]: " in found
    assert "25.0%" in found


def test_the_number_of_tensors(compare):
    for base, candidate in ((2, 1), (1, 2), (0, 1), (1, 0)):
        assert compare([of(1)] * base, [of(1)] * candidate) is not None, (base, candidate)


def test_outputs_without_tensors(compare):
    for output in (None, 3, "text", [], {"a": 1}):
        assert compare(output, output) is None, output


# Tensors of odd kinds


class Named(torch.Tensor):
    pass


KINDS = {
    "sparse": lambda value: torch.tensor([[0.0, value], [0.0, 1.0]]).to_sparse(),
    "csr": lambda value: torch.tensor([[0.0, value], [0.0, 1.0]]).to_sparse_csr(),
    "csc": lambda value: torch.tensor([[0.0, value], [0.0, 1.0]]).to_sparse_csc(),
    "mkldnn": lambda value: torch.full((2, 2), value).to_mkldnn(),
    "nested": lambda value: torch.nested.nested_tensor([torch.ones(2), torch.full((3,), value)]),
    "jagged": lambda value: torch.nested.nested_tensor(
        [torch.ones(2), torch.full((3,), value)], layout=torch.jagged
    ),
    "quantised": lambda value: torch.quantize_per_tensor(torch.tensor([1.0, value]), 0.5, 0, torch.qint8),
    "parameter": lambda value: torch.nn.Parameter(torch.tensor([1.0, value])),
    "graph": lambda value: torch.tensor([1.0, value], requires_grad=True) * 2,
    "expanded": lambda value: torch.tensor([value]).expand(3),
    "subclass": lambda value: torch.tensor([1.0, value]).as_subclass(Named),
    "scalar": torch.tensor,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_every_kind_of_tensor(compare, make):
    assert compare(make(3.0), make(3.0)) is None
    assert compare(make(3.0), make(2.0)) is not None


def with_attribute(value, kind=torch.Tensor):
    tensor = torch.ones(2).as_subclass(kind)
    tensor.lengths = [value]
    return tensor


FORMS = {
    "class": (torch.ones(2).as_subclass(Named), torch.ones(2), "output.__class__: Named on the base, Tensor now"),
    "layout": (torch.eye(2).to_sparse(), torch.eye(2), "the output: sparse_coo tensor on the base, tensor now"),
    "attribute": (with_attribute(1), with_attribute(2), "output.lengths[0]: 1 on the base, 2 now"),
    "of a class": (with_attribute(1, Named), with_attribute(2, Named), "output.lengths[0]: 1 on the base, 2 now"),
    "one side": (with_attribute(1), torch.ones(2), "output.lengths: only exists on the base"),
}  # fmt: skip


@pytest.mark.parametrize(("base", "candidate", "difference"), FORMS.values(), ids=FORMS)
def test_the_form_of_a_tensor_is_compared(compare, base, candidate, difference):
    assert compare(base, base) is None
    assert compare(base, candidate) == difference
    assert compare(torch.nn.Parameter(torch.ones(2)), torch.ones(2)) is None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_quantised_tensor_and_a_plain_one_of_its_values_differ(compare):
    quantised = torch.quantize_per_tensor(torch.ones(2), 0.5, 0, torch.qint8)
    assert compare(quantised, torch.ones(2)) == "output.dtype: only exists on the base"


def coo(*entries, size=2, coalesced=False):
    """A sparse matrix of entries (row, column, value)."""
    rows, columns, values = zip(*entries, strict=True)
    made = torch.sparse_coo_tensor([rows, columns], torch.tensor(values), (2, size))
    return made.coalesce() if coalesced else made


def csr(starts, columns, values):
    return torch.sparse_csr_tensor(torch.tensor(starts), torch.tensor(columns), torch.tensor(values), (2, 2))


def blocks(side, layout="bsr", factor=1):
    return factor * getattr(torch.eye(4), f"to_sparse_{layout}")((side, side))


TWICE, ONCE, ZERO = ((0, 0, 1.0), (0, 0, 2.0)), ((0, 0, 3.0),), ((1, 1, 0.0),)
SPARSE = {
    "number of entries": (lambda: (coo(*TWICE), coo(*ONCE)), "indices"),
    "explicit zero": (lambda: (coo(*ONCE, *ZERO), coo(*ONCE)), "indices"),
    "place": (lambda: (coo((0, 1, 0.0), *ONCE), coo((1, 0, 0.0), *ONCE)), "indices"),
    "coalesced": (lambda: (coo(*ONCE, *ZERO), coo(*ONCE, *ZERO, coalesced=True)), "is_coalesced"),
    "shape": (lambda: (coo(*ONCE), coo(*ONCE, size=3)), "shape"),
    "dense part": (lambda: (torch.eye(2).to_sparse(1), torch.eye(2).to_sparse()), "indices"),
    "zero of a row": (lambda: (csr([0, 1, 2], [0, 1], [1.0, 0.0]), csr([0, 1, 1], [0], [1.0])), "crow_indices"),
    "columns": (lambda: (csr([0, 1, 1], [0], [0.0]), csr([0, 1, 1], [1], [0.0])), "col_indices"),
    "blocks": (lambda: (blocks(2), blocks(1)), "crow_indices"),
    "blocks of columns": (lambda: (blocks(2, "bsc"), blocks(2, "bsc", 2)), "values"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("make", "part"), SPARSE.values(), ids=SPARSE)
def test_all_entries_of_sparse_tensors_are_compared(compare, make, part):
    base, candidate = make()
    assert compare(base, base) is None
    assert compare(candidate, candidate) is None
    assert compare(base, candidate).startswith(f"output.{part}")


def test_results_of_operators_are_compared_by_name(compare):
    values = torch.ones(2, 2)
    assert compare(values.max(0), values.max(0)) is None
    assert compare(values.max(0), values.min(0)) == "output.__class__: max on the base, min now"
    assert compare(values.max(0), tuple(values.max(0))) is not None


def test_inference_tensors(compare):
    with torch.inference_mode():
        base, candidate = of(1, 2), of(1, 3)
    assert compare(base, base) is None
    assert compare(base, candidate) is not None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lengths_within_a_nested_tensor(compare):
    base, candidate = (
        torch.nested.nested_tensor([torch.ones(first), torch.ones(5 - first)]) for first in (2, 3)
    )
    assert compare(base, candidate) is not None


def test_what_is_kept_stays_when_the_output_changes(tmp_path):
    path, output = str(tmp_path / "kept"), of(1)
    parity.keep(output, path)
    output.fill_(2)
    assert parity.compare(of(1), path) == OutputCompared(None)
    assert parity.compare(output, path).difference is not None


def test_the_value_that_a_generator_returns_is_compared(compare):
    def generating(text):
        yield 1
        return {"text": text}

    base, other, same = (stream_items(generating(text)) for text in ("hello", "goodbye", "hello"))
    assert compare(base, same) is None
    assert "hello" in compare(base, other)
