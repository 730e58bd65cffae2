"""The work of one item, from counters of the package; figures of MiniLM and ResNet-50 are those it counted."""

import pytest
from core_values import measurement
from hypothesis import given
from hypothesis import strategies as st

from pytest_infergate.core.advice.projectable_work import ItemWork, item_work
from pytest_infergate.core.domain.measurement import Counters, Latency, Memory, OperatorWork, Stream
from pytest_infergate.core.domain.notes import NoteCode
from pytest_infergate.core.domain.values import Note

WEIGHTS = 25_557_032 * 4


def counts(batch=1, *, weights=None, rows=None, totals=None, varying=None, notes=(), **fields):
    """A measurement of ResNet-50: 81.3 million elements an item, and the weights once."""
    counted = {"flops": 8_178_368_512 * batch, "operators": 174,
               "bytes_read": WEIGHTS + 200_000_000 * batch, "bytes_written": 125_000_000 * batch}  # fmt: skip
    counters = Counters(
        totals=counted if totals is None else totals,
        weights={"float32": WEIGHTS, "int64": 424} if weights is None else weights,
        # A row whose bytes do not add up to the totals: products are not apart.
        operators=tuple(rows) if rows is not None else (row("aten::convolution"),),
        varying=varying or {},
    )
    fields.setdefault("memory", Memory(weights=WEIGHTS, activations=9_000_000 * batch))
    return measurement(counters=counters, notes=tuple(notes), **fields)


def row(name, calls=1, *, flops=0, size=0, place="layer"):
    return OperatorWork(operator=name, place=place, calls=calls, flops=flops, bytes=size)


def reason(measured):
    found = item_work(measured)
    assert isinstance(found, Note)
    assert found.code == NoteCode.NOT_PROJECTED
    return found.text


# What belongs to one item


def test_two_batch_sizes_separate_what_grows_from_what_does_not():
    work = item_work({1: counts(1), 8: counts(8)})
    assert (work.flops, work.bytes, work.fixed_bytes) == (8_178_368_512, 325_000_000, WEIGHTS)
    assert (work.operators, work.element_size, work.activation_bytes) == (174, 4, 9_000_000)
    assert work.only_batch_size is None


def test_with_one_batch_size_the_weights_are_read_once():
    work = item_work({4: counts(4)})
    assert work.bytes == pytest.approx(325_000_000, rel=1e-5)  # position ids are weights too
    assert work.only_batch_size is None


def test_an_embedding_is_read_in_part_which_one_batch_size_does_not_show():
    # MiniLM: its weights are nearly as many bytes as a call moves, so that a difference would mean nothing.
    totals = {"flops": 2_869_198_848, "operators": 92, "bytes_read": 71_115_917, "bytes_written": 22_669_453}
    twice = {"flops": 5_738_397_696, "operators": 92, "bytes_read": 98_652_953, "bytes_written": 45_141_273}
    of = {"weights": {"float32": 90_852_864}, "rows": [row("aten::embedding", 3)]}
    alone = item_work({1: counts(totals=totals, **of)})
    assert (alone.only_batch_size, alone.bytes, alone.fixed_bytes) == (1, 93_785_370, 0)
    both = item_work({1: counts(totals=totals, **of), 2: counts(2, totals=twice, **of)})
    assert both.only_batch_size is None
    assert (both.bytes, both.fixed_bytes) == (50_008_856, 43_776_514)


def test_products_are_apart_only_if_the_rows_add_up():
    def rows(batch, missing=0):
        moved = WEIGHTS + 325_000_000 * batch
        product = WEIGHTS + 100_000_000 * batch
        return [
            row("aten::convolution", flops=8_178_368_512 * batch, size=product),
            row("aten::relu", size=moved - product - missing),
        ]

    assert item_work({n: counts(n, rows=rows(n)) for n in (1, 2)}).product_bytes == 100_000_000
    assert item_work({n: counts(n, rows=rows(n, 4)) for n in (1, 2)}).product_bytes is None
    assert item_work({1: counts()}).product_bytes is None


def test_rows_of_equal_places_count_for_each():
    rows = [
        row("aten::convolution", flops=1, size=WEIGHTS // 4, place="{0-3}"),
        row("aten::relu", size=325_000_000),
    ]
    assert item_work({1: counts(rows=rows)}).product_bytes == pytest.approx(0, abs=500)


@given(st.floats(1e3, 1e12), st.floats(0, 1e12), st.integers(1, 64), st.integers(1, 64))
def test_any_line_is_found_again(each, once, small, further):
    def at(batch):
        totals = {
            "flops": 1000 * batch,
            "operators": 3,
            "bytes_read": round(once),
            "bytes_written": round(each) * batch,
        }
        return counts(batch, totals=totals)

    work = item_work({small: at(small), small + further: at(small + further)})
    assert isinstance(work, ItemWork)
    assert work.bytes == pytest.approx(round(each), rel=1e-9, abs=1)
    assert work.fixed_bytes == pytest.approx(round(once), rel=1e-9, abs=1e-9 * each * 128 + 1)


# What is refused


@pytest.mark.parametrize(
    ("operator", "word"),
    [
        ("aten::mkldnn_rnn_layer", "recurrent"),
        ("aten::_cudnn_rnn", "recurrent"),
        ("aten::unsafe_split", "recurrent"),  # a GRU on the CPU
        ("quantized::linear_dynamic", "quantised"),
        ("aten::_weight_int8pack_mm", "quantised"),
        ("aten::_int_mm", "quantised"),
        ("aten::_dyn_quant_matmul_4bit", "quantised"),
        ("aten::_grouped_mm", "mixtures"),
        ("aten::_sparse_mm", "sparse"),
        ("aten::nonzero", "values of the input"),
        ("aten::_unique2", "values of the input"),
    ],
)
def test_operators_whose_time_is_not_that_of_their_work(operator, word):
    assert word in reason({1: counts(rows=[row(operator)])})


@pytest.mark.parametrize(
    "operator",
    ["aten::convolution", "aten::gather", "aten::_to_copy", "aten::split_with_sizes_copy", "aten::where",
     "aten::constant_pad_nd", "aten::_local_scalar_dense", "aten::upsample_nearest2d", "aten::pixel_unshuffle"],
)  # fmt: skip
def test_other_operators_are_projected(operator):
    assert isinstance(item_work({1: counts(rows=[row(operator, 8, size=200_000_000)])}), ItemWork)


def test_a_few_values_may_be_read_back_but_not_one_in_each_step():
    def rows(calls):
        return [row("aten::_local_scalar_dense", calls, place="{0-1}")]

    assert isinstance(item_work({1: counts(rows=rows(4))}), ItemWork)
    assert "10 values" in reason({1: counts(rows=rows(5))})


def test_interpolation_is_refused_from_one_percent_of_the_bytes():
    moved = WEIGHTS + 325_000_000
    few, many = moved // 100, moved // 100 + 2
    assert isinstance(item_work({1: counts(rows=[row("aten::upsample_bilinear2d", size=few)])}), ItemWork)
    assert "interpolation" in reason({1: counts(rows=[row("aten::upsample_bilinear2d", size=many)])})


@pytest.mark.parametrize("code", [NoteCode.COMPILED, NoteCode.FLOPS_UNCOVERED, NoteCode.WEIGHTS_UNSEEN])
def test_notes_that_say_what_counters_leave_out(code):
    reason({1: counts(notes=[Note(code=code, text="")])})


@pytest.mark.parametrize("name", ["flops", "operators", "bytes_read", "bytes_written"])
def test_missing_and_varying_counters(name):
    totals = {"flops": 10**9, "operators": 3, "bytes_read": WEIGHTS + 10, "bytes_written": 10}
    assert name in reason({1: counts(totals={key: value for key, value in totals.items() if key != name})})
    assert name in reason({1: counts(varying={name: (1, 2)})})


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float64", "qint8", "float8_e4m3fn"])
def test_weights_in_other_dtypes(dtype):
    assert "weights" in reason({1: counts(weights={"float32": 1000, dtype: 11})})
    assert isinstance(item_work({1: counts(weights={"float32": WEIGHTS, dtype: WEIGHTS // 101})}), ItemWork)


def test_streams_name_what_projects_them():
    item = Latency(count=1, mean=1, **dict.fromkeys(("p50", "p90", "p95", "p99"), measurement().latency.p50))
    found = item_work({1: counts(stream=Stream(items=3, first_item=item))})
    assert "AIConfigurator" in found.hint


def test_work_that_does_not_grow_with_the_batch():
    fixed = {"flops": 10**9, "operators": 3, "bytes_read": 10**9, "bytes_written": 10}
    assert "proportion" in reason({1: counts(totals=fixed), 8: counts(8, totals=fixed)})
    bent = {**counts(4).counters.totals, "bytes_written": 5}
    assert "proportion" in reason({1: counts(1), 4: counts(4, totals=bent), 8: counts(8)})
    assert "separated" in reason({1: counts(totals={**fixed, "bytes_read": 5})})  # less than the weights


def test_the_dtype_of_the_weights_is_that_of_the_bytes():
    assert item_work({1: counts(weights={"float16": WEIGHTS})}).element_size == 2


def test_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="needed"):
        item_work({})


def test_negative_counters_of_a_file_are_refused():
    totals = {**counts(1).counters.totals, "operators": -5}
    assert "operators" in reason({1: counts(totals=totals)})


def test_a_file_without_its_operators_is_refused():
    assert "not listed" in reason({1: counts(rows=())})
