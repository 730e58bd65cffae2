"""Messages about a name that is not one of a known set."""

from pytest_infergate.core.domain.spelling import did_you_mean, not_one_of


def test_a_similar_name_is_suggested():
    assert did_you_mean("flot16", ["float16", "float32"]) == ". Hint: did you mean 'float16'?"
    assert did_you_mean("zzz", ["float16", "float32"]) == ""
    assert did_you_mean(3, ["float16"]) == ""


def test_a_name_that_contains_what_was_given_is_suggested():
    names = ["aoti", "onnxruntime", "openvino"]
    assert did_you_mean("ONNX", names) == ". Hint: did you mean 'onnxruntime'?"
    assert did_you_mean("vino", names) == ". Hint: did you mean 'openvino'?"
    assert did_you_mean("o", names) == did_you_mean("", names) == ""


def test_a_message_names_all_that_is_allowed_and_what_was_given():
    assert not_one_of("dtype", "zzz", ("a", "b")) == "dtype must be one of a, b, got 'zzz'"
    assert not_one_of("dtype", True, iter(("a", "b"))) == "dtype must be one of a, b, got True"
    assert not_one_of("dtype", "float", ["float16"]).endswith("got 'float'. Hint: did you mean 'float16'?")
