import copy
import dataclasses
from array import array
from collections import OrderedDict, UserDict, defaultdict
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

if True:  # after the skip
    from odd_tensors import UNCOPYABLE

    from pytest_infergate.instruments import tensors


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Plain:
    ids: Any
    name: str = "plain"


@dataclasses.dataclass(frozen=True)
class Frozen:
    ids: Any
    name: str = "frozen"


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    ids: Any
    name: str = "slotted"


class Batch(UserDict):
    """Holds more than its items, as transformers' BatchEncoding does."""

    encodings = "none"


@dataclasses.dataclass
class Output(OrderedDict):
    """A mapping whose fields are its items, as transformers' ModelOutput is."""

    state: Any = None
    states: Any = None

    def __post_init__(self):
        for name in ("state", "states"):
            if getattr(self, name) is not None:
                self[name] = getattr(self, name)

    def __setitem__(self, name, value):
        super().__setitem__(name, value)
        setattr(self, name, value)


def one():
    return torch.ones(2)


NESTS = {
    "tensor": one,
    "list": lambda: [1, one(), "a"],
    "tuple": lambda: (one(), None),
    "namedtuple": lambda: Pair(one(), 2),
    "dict": lambda: {"a": one(), 3: 4},
    "deep": lambda: {"a": [(one(), {"b": Pair(one(), [])})]},
    "ordered": lambda: OrderedDict(a=one(), b=1),
    "default": lambda: defaultdict(list, a=one()),
    "user": lambda: Batch(a=one(), b=1),
    "proxy": lambda: MappingProxyType({"a": one()}),
    "set": lambda: {one()},
    "frozenset": lambda: frozenset({one()}),
    "dataclass": lambda: Plain(one()),
    "frozen": lambda: Frozen([one()]),
    "slots": lambda: Slotted(one()),
    "structseq": lambda: torch.max(torch.ones(2, 2), dim=0),
}


@pytest.mark.parametrize("make", NESTS.values(), ids=NESTS)
def test_every_tensor_of_a_nest_is_moved(make):
    nest = make()
    moved = tensors.to_device(nest, "meta")
    assert type(moved) is type(nest)
    assert {tensor.device.type for tensor in tensors.tensors(moved)} == {"meta"}
    assert len(list(tensors.tensors(moved))) == len(list(tensors.tensors(nest)))
    # The caller's own is left alone.
    assert {tensor.device.type for tensor in tensors.tensors(nest)} == {"cpu"}


def test_nothing_is_rebuilt_where_nothing_moves():
    for kind, make in NESTS.items():
        nest = make()
        assert tensors.to_device(nest, "cpu") is nest, kind


def test_what_holds_no_tensor_is_the_same_object():
    values = (
        None, 1.5, "text", b"bytes", object(), [1, 2], (), {}, {"a": {1, 2}}, Pair(1, 2), Plain(None),
        torch.Size([1, 2]), torch.float32, Batch(a=1), MappingProxyType({}), Plain, torch.nn.Linear(1, 1),
    )  # fmt: skip
    for value in values:
        assert tensors.to_device(value, "meta", torch.float16) is value, value
        assert list(tensors.tensors(value)) == [], value
    for value in (*values[:5], (), Pair(1, 2), torch.Size([1]), torch.float32, Plain, values[-1]):
        assert tensors.copy_to_cpu(value) is value, value


def test_what_is_no_tensor_stays_beside_one():
    mark = object()
    assert tensors.to_device([mark, one()], "meta")[0] is mark
    moved = tensors.to_device(Batch(a=one(), b=mark), "meta")
    assert moved["b"] is mark


def test_what_a_mapping_holds_beside_its_items_stays():
    batch = Batch(a=one())
    batch.encodings = "kept"
    assert tensors.to_device(batch, "meta").encodings == "kept"


def test_fields_that_are_items_stay_the_same():
    output = Output(one(), (one(), one()))
    home = tensors.copy_to_cpu(output)
    assert type(home) is Output
    assert home.state is home["state"] is not output.state
    assert [len(home), len(home.states)] == [2, 2]
    assert "states" not in tensors.copy_to_cpu(Output(one()))


def test_a_module_that_is_a_dataclass_is_no_nest():
    @dataclasses.dataclass(eq=False)
    class Model(torch.nn.Module):
        scale: Any

        def __post_init__(self):
            super().__init__()

    model = Model.__new__(Model)
    torch.nn.Module.__init__(model)
    model.scale = one()
    assert tensors.to_device([model], "meta")[0] is model


def test_the_batch_sizes_of_a_packed_sequence_stay_on_the_cpu():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 4), torch.ones(2, 4)])
    moved = tensors.to_device(packed, "meta")
    assert isinstance(moved, torch.nn.utils.rnn.PackedSequence)
    assert moved.data.device.type == "meta"
    assert moved.batch_sizes is packed.batch_sizes


def test_the_batch_sizes_of_a_packed_result_are_no_stray():
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 4)])
    assert tensors.devices_of(packed._replace(data=packed.data.to("meta"))) == {torch.device("meta")}


def test_one_tensor_stays_one_tensor():
    # torch's attention takes another path where query, key and value are one.
    tensor = one()
    args, keywords = tensors.to_device(((tensor, tensor), {"value": tensor}), "cpu", torch.bfloat16)
    assert args[0] is args[1] is keywords["value"]
    assert args[0].dtype == torch.bfloat16
    first, second = tensors.copy_to_cpu([tensor, tensor])
    assert first is second


def test_only_floating_tensors_are_cast():
    ids, mask, floats, complexes = (
        torch.ones(2, dtype=kind) for kind in (torch.long, torch.bool, torch.float64, torch.complex64)
    )
    cast = tensors.to_device([ids, mask, floats, complexes], "cpu", torch.bfloat16)
    assert [tensor.dtype for tensor in cast] == [torch.long, torch.bool, torch.bfloat16, torch.complex64]
    assert cast[0] is ids


# Plain objects and arrays


class Result:
    """A plain object of the user."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)


def test_plain_objects_are_copied_with_their_tensors():
    held = one()
    result = Result(inner=Result(held=[held]), also=held, name="a")
    for copied in (tensors.copy_to_cpu(result), tensors.clone_tensors(result)):
        held_copy = copied.inner.held[0]
        assert held_copy is copied.also is not held
        assert torch.equal(held_copy, held)
        assert (type(copied), type(copied.inner), copied.name) == (Result, Result, "a")
    assert result.inner.held[0] is held
    moved = tensors.to_device(result, "meta")
    assert moved.also.device.type == "meta"
    assert held.device.type == "cpu"
    assert tensors.to_device(result, "cpu") is result


def test_distributions_are_copied():
    normal = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    copied = tensors.copy_to_cpu(torch.distributions.Independent(normal, 1))
    normal.loc.fill_(7)
    assert copied.base_dist.loc.tolist() == [0, 0]
    assert copied.log_prob(torch.zeros(2)).shape == ()


def test_arrays_of_numpy_are_copied_views_of_buffers_included():
    numpy = pytest.importorskip("numpy")
    buffer = torch.zeros(4)
    mixed = numpy.array([buffer.numpy(), [1], None], dtype=object)
    output = {
        "view": buffer.numpy()[::2],
        "fortran": numpy.zeros((2, 3), order="F"),
        "masked": numpy.ma.masked_array([1, 2], mask=[0, 1]),
        "mixed": mixed,
        "held": Result(scores=buffer.numpy()),
        "text": numpy.array(["a", "b"]),
        "scalar": numpy.float32(1),
    }
    copies = tensors.clone_tensors(output), tensors.copy_to_cpu(output)
    buffer.fill_(7)
    output["fortran"][0] = output["masked"][0] = 7
    mixed[1].append(7)
    mixed[2] = output["text"][0] = 7
    for copied in copies:
        assert copied["view"].tolist() == copied["held"].scores.tolist()[:2] == [0, 0]
        assert copied["fortran"].flags.f_contiguous
        assert copied["fortran"].sum() == 0
        assert copied["masked"].tolist() == [1, None]
        assert copied["mixed"][0].tolist() == [0] * 4
        assert copied["mixed"].tolist()[1:] == [[1], None]
        assert copied["text"].tolist() == ["a", "b"]
        assert copied["scalar"] is output["scalar"]


class Boxes(torch.Tensor):
    scale = 1.0


def test_attributes_of_tensors_are_copied():
    boxes, plain = torch.ones(2).as_subclass(Boxes), torch.ones(2)
    boxes.scale, boxes.lengths, boxes.of = 0.5, [1], plain
    plain.label = "first"
    for copied in (tensors.clone_tensors([boxes])[0], tensors.copy_to_cpu(boxes)):
        boxes.lengths.append(2)
        plain.label = "later"
        assert type(copied) is Boxes
        assert (copied.scale, copied.lengths, copied.of.label) == (0.5, [1], "first")
        assert copied.of is not plain
        boxes.lengths.pop()
        plain.label = "first"
    assert tensors.to_device([boxes], "cpu")[0] is boxes
    moved = tensors.to_device(boxes, "meta")
    assert (moved.scale, moved.of.device.type, boxes.of.device.type) == (0.5, "meta", "cpu")


def test_attributes_of_arrays_are_copied():
    numpy = pytest.importorskip("numpy")

    class Signal(numpy.ndarray):
        rate = 8000

    signal, objects = numpy.ones(2).view(Signal), numpy.array([None, [1]], dtype=object).view(Signal)
    signal.rate = objects.rate = [16000]
    for copied in (*tensors.clone_tensors([signal, objects]), tensors.copy_to_cpu(signal)):
        assert type(copied) is Signal
        assert copied.rate == [16000]
        assert copied.rate is not signal.rate


def test_a_tensor_that_is_a_key_is_found_by_its_copy():
    tensor, key = one(), one()
    copied = tensors.clone_tensors({"value": tensor, "names": {tensor: "a", key: "b"}})
    key.fill_(7)
    assert copied["names"][copied["value"]] == "a"
    assert [found.tolist() for found in copied["names"]] == [[1, 1], [1, 1]]
    proxy = tensors.copy_to_cpu([tensor, MappingProxyType({tensor: "a"})])
    assert proxy[1][proxy[0]] == "a"


def test_records_and_views_of_them_are_copied():
    numpy = pytest.importorskip("numpy")
    state = numpy.ones(2, dtype=[("label", "i4"), ("score", "f4"), ("words", "O")])
    numbers = numpy.ones(2, dtype=[("label", "i4"), ("score", "f4")])
    state["words"] = [["a"], ["b"]]
    output = {
        "record": state[0],
        "of a class": state.view(numpy.recarray)[0],
        "scalar": numbers[:1].reshape(()),
        "records": state,
        "memory": memoryview(numbers),
        "memory of a record": memoryview(numbers[0]),
        "complex": memoryview(numpy.ones(2, "c8")),
        "big endian": memoryview(numpy.ones((2, 2), ">i4")),
    }
    copies = tensors.clone_tensors(output), tensors.copy_to_cpu(output)
    formats = {name: value.format for name, value in output.items() if "memory" in name}
    before = {name: numpy.asarray(value).tolist() for name, value in output.items()}
    before = {name: copy.deepcopy(value) for name, value in before.items()}
    state["words"][0].append("later")
    for held in (state, numbers):
        held["label"] = 7
    for copied in copies:
        assert {name: numpy.asarray(value).tolist() for name, value in copied.items()} == before
        assert [type(value) for value in copied.values()] == [type(value) for value in output.values()]
        assert {name: copied[name].format for name in formats} == formats


class Opaque(torch.Tensor):
    """A class whose operators return plain tensors."""

    __torch_function__ = torch._C._disabled_torch_function_impl


def test_a_copy_has_the_class_of_its_tensor():
    opaque, parameter = torch.ones(2).as_subclass(Opaque), torch.nn.Parameter(torch.ones(1))
    opaque.label = "first"
    for copied in (
        tensors.clone_tensors([opaque, parameter]),
        tensors.copy_to_cpu([opaque, parameter]),
        tensors.to_device([opaque, parameter], "meta"),
    ):
        assert [type(tensor) for tensor in copied] == [Opaque, torch.Tensor]
        assert copied[0].label == "first"


def test_signature_and_nan_of_arrays_and_objects():
    numpy = pytest.importorskip("numpy")
    nan = float("nan")
    record = numpy.array([(nan, 1), (1, 2)], dtype=[("score", "f4"), ("label", "i4")])
    value = [numpy.array([nan, 1]), Result(held=torch.tensor([nan])), numpy.float16(nan), nan, record, 1]
    assert tensors.signature(value)[:2] == (((2,), "numpy.float64"), ((1,), "float32"))
    assert tensors.count_nan(value) == (5, 7)
    assert tensors.count_nan(numpy.array([nan, "nan", None], dtype=object)) == (1, 1)
    assert tensors.count_nan([numpy.array(["nan"]), numpy.array(["NaT"], dtype="datetime64[s]")]) == (0, 0)


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


@pytest.mark.nightly
def test_a_batch_encoding(transformers):
    batch = transformers.BatchEncoding({"input_ids": torch.ones(1, 2, dtype=torch.long)}, n_sequences=1)
    moved = tensors.to_device(batch, "meta", torch.bfloat16)
    assert type(moved) is type(batch)
    assert moved.input_ids.device.type == "meta"
    assert moved.input_ids.dtype == torch.long
    assert moved.n_sequences == 1
    assert batch.input_ids.device.type == "cpu"


@pytest.mark.nightly
def test_a_model_output(transformers):
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    output = BaseModelOutputWithPooling(last_hidden_state=one(), hidden_states=(one(), one()))
    home = tensors.copy_to_cpu(output)
    assert type(home) is type(output)
    assert home.last_hidden_state is home["last_hidden_state"] is home[0]
    assert home.last_hidden_state is not output.last_hidden_state
    assert home.pooler_output is None
    assert len(home.hidden_states) == 2


@pytest.mark.nightly
def test_a_key_value_cache(transformers):
    cache = transformers.DynamicCache()
    cache.update(torch.ones(1, 1, 2, 4), torch.ones(1, 1, 2, 4), 0)
    copied = tensors.clone_tensors(cache)
    cache.update(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4), 0)
    assert (copied.get_seq_length(), cache.get_seq_length()) == (2, 3)
    moved = tensors.to_device(cache, "meta")
    assert type(moved) is type(cache)
    assert {tensor.device.type for tensor in tensors.tensors(moved)} == {"meta"}
    assert {tensor.device.type for tensor in tensors.tensors(cache)} == {"cpu"}
    assert tensors.to_device(cache, "cpu") is cache


def test_what_is_brought_home_is_a_normal_tensor():
    with torch.inference_mode():
        output = {"a": torch.ones(2), "view": torch.ones(4)[::2]}
    home = tensors.copy_to_cpu(output)
    for tensor in home.values():
        assert not tensor.is_inference()
        tensor.add_(1).requires_grad_()
        (tensor * 2).sum().backward()
        assert tensor.grad is not None
    assert torch.equal(output["a"], torch.ones(2))


def test_what_is_brought_home_has_no_history():
    weight = torch.nn.Parameter(torch.ones(2))
    home = tensors.copy_to_cpu([weight, weight * 2])
    assert [type(tensor) for tensor in home] == [torch.Tensor] * 2
    assert not any(tensor.requires_grad for tensor in home)
    home[0].add_(1)
    assert torch.equal(weight, torch.ones(2))


def nested(layout):
    return torch.nested.nested_tensor([torch.ones(2), torch.tensor([float("nan"), 1, 1])], layout=layout)


ODD = {
    "sparse": lambda: torch.tensor([[0, float("nan")], [0, 1]]).to_sparse(),
    "csr": lambda: torch.eye(2).to_sparse_csr(),
    "nested": lambda: nested(torch.strided),
    "jagged": lambda: nested(torch.jagged),
    "mkldnn": lambda: torch.ones(2, 2).to_mkldnn(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "float8": lambda: torch.ones(3).to(torch.float8_e4m3fn),
    "conjugate": lambda: torch.tensor([1j, complex("nan")]).conj(),
    "negative": lambda: torch.tensor([1j]).conj().imag,
    "empty": lambda: torch.empty(0, 3),
    "scalar": lambda: torch.tensor(1.5),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_odd_tensors(make):
    with torch.inference_mode(mode=make not in (ODD["mkldnn"], ODD["jagged"])):
        output = [make()]
    held = tensors.clone_tensors(output)
    assert tensors.signature(held) == tensors.signature(output)
    home = tensors.copy_to_cpu(held)[0]
    assert not home.is_inference()
    assert home.device.type == "cpu"
    nan, total = tensors.count_nan(output)
    assert nan == (make in (ODD["sparse"], ODD["nested"], ODD["jagged"], ODD["conjugate"]))
    assert total >= nan
    assert tensors.size_bytes(output[0]) >= 0


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", UNCOPYABLE)
def test_tensors_that_refuse_to_be_copied(name):
    output = [UNCOPYABLE[name]()]
    held = tensors.clone_tensors(output)
    for copied in (held, tensors.copy_to_cpu(held), tensors.to_device(held, "cpu")):
        assert type(copied[0]) is type(output[0])
        assert tensors.signature(copied) == tensors.signature(output)
        assert tensors.devices_of(copied) == {torch.device("cpu")}
    assert (held[0] is output[0]) == (name == "wraps")
    assert tensors.count_nan(output)[0] == 0


def test_running_out_of_memory_is_no_refusal():
    def fails(tensor):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match="allocate"):
        tensors.first_possible(torch.ones(1), fails, torch.clone, or_itself=True)
    with pytest.raises(ZeroDivisionError):
        tensors.first_possible(torch.ones(1), lambda tensor: 1 // 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_jagged_tensors_of_one_shape_look_alike():
    assert tensors.signature(nested(torch.jagged)) == tensors.signature(nested(torch.jagged))


def test_nan_is_counted_in_floating_and_complex_tensors():
    nan = float("nan")
    found = tensors.count_nan(
        [torch.tensor([nan, 1.0]), torch.tensor([complex(nan, 1), 1j]), torch.ones(3, dtype=torch.long)]
    )
    assert found == (2, 4)
    assert tensors.count_nan(torch.ones(2, device="meta")) == (0, 0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("layout", ["coo", "csr", "csc", "bsr", "bsc", "mkldnn"])
def test_nan_is_counted_and_bytes_are_those_of_the_values_in_any_layout(layout):
    dense = torch.zeros(64, 64)
    dense[0, 0] = float("nan")
    block = {"blocksize": (1, 1)} if layout.startswith("b") else {}
    way = {"mkldnn": "to_mkldnn", "coo": "to_sparse"}.get(layout, f"to_sparse_{layout}")
    tensor = getattr(dense, way)(**block)
    assert tensors.count_nan([tensor])[0] == 1
    if layout != "mkldnn":
        indices = 2 * 8 if layout == "coo" else 65 * 8 + 8
        assert tensors.size_bytes(tensor) == 4 + indices


def test_nan_is_counted_in_tables_and_buffers():
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    nan = float("nan")
    table = pandas.DataFrame({"name": ["a", None], "score": [nan, 1.0], "count": [1, 2]})
    assert tensors.count_nan({"table": table}) == (1, 2)
    assert tensors.count_nan(table["score"]) == (1, 2)
    assert tensors.count_nan(pandas.Series([1.5, None], dtype="Float64")) == (0, 0)
    for kind in "fd":
        assert tensors.count_nan(array(kind, [nan, 1, nan])) == (2, 3)
    assert tensors.count_nan(array("i", [1])) == (0, 0)
    assert tensors.count_nan(memoryview(numpy.full((2, 2), nan))) == (4, 4)


def test_signature_is_shape_and_dtype():
    assert tensors.signature([torch.ones(2, 3), 4, {"a": torch.ones((), dtype=torch.long)}]) == (
        ((2, 3), "float32"),
        ((), "int64"),
    )


def test_what_is_held_fast_stays_when_the_original_changes():
    buffer = torch.zeros(2)
    held = tensors.clone_tensors([buffer, buffer[:1]])
    buffer.fill_(9)
    assert held[0].tolist() == [0, 0]
    assert held[1].tolist() == [0]


def test_same_device():
    assert tensors.same_device(torch.device("cuda"), torch.device("cuda:0"))
    assert not tensors.same_device(torch.device("cuda:1"), torch.device("cuda:0"))
    assert not tensors.same_device(torch.device("cuda"), torch.device("cpu"))


def test_a_table_of_pandas_is_copied_with_its_values():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"frame": [0, 0]})
    copied = tensors.clone_tensors({"log": table})["log"]
    table["frame"] = 7
    table.loc[0, "more"] = 1
    assert copied.to_dict("list") == {"frame": [0, 0]}


@pytest.mark.parametrize("copied", [tensors.clone_tensors, tensors.copy_to_cpu])
def test_a_gradient_that_an_output_holds_is_copied(copied):
    position = torch.ones(3, requires_grad=True)
    (position**2).sum().backward()
    found = copied({"position": position})["position"]
    assert found.grad.tolist() == [2.0, 2.0, 2.0]
    position.grad.zero_()
    assert found.grad.tolist() == [2.0, 2.0, 2.0]
    assert copied(torch.ones(2)).grad is None


def test_a_copied_object_has_its_own_methods():
    """Sorted containers keep the methods of their list as attributes."""
    containers = pytest.importorskip("sortedcontainers")

    class Log:
        def __init__(self):
            self.lines = ["a"]
            self.write = self.lines.append
            self.size = self.count

        def count(self):
            return len(self.lines)

    timeline, log = containers.SortedDict({0.5: "x"}), Log()
    first, second = tensors.clone_tensors([timeline, log])
    timeline.clear()
    log.write("b")
    assert dict(first.items()) == {0.5: "x"}
    assert (list(first.irange()), first.bisect_left(1000)) == ([0.5], 1)
    second.write("c")
    assert (second.lines, second.size(), log.lines) == (["a", "c"], 2, ["a", "b"])


def test_an_image_is_copied_with_its_pixels():
    image = pytest.importorskip("PIL.Image").new("RGB", (2, 2))
    image.note = "kept"
    found = tensors.clone_tensors({"image": image})["image"]
    image.paste((255, 0, 0), (0, 0, 1, 1))
    assert found.getpixel((0, 0)) == (0, 0, 0)
    assert type(found) is type(image)
