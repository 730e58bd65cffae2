"""How far an output may be from that of eager PyTorch on the CPU."""

import numpy as np
import pytest

from pytest_infergate.outputs.reference_parity import reference_parity

exact = pytest.approx


def parity(reference, output, dtype=None, **more):
    return reference_parity(reference, output, dtype, **{"on_cpu": True, **more})


def array(*values, dtype="float32"):
    return np.array(values, dtype=dtype)


def test_figures_of_an_output_that_agrees():
    found = parity({"logits": array([1, 4], [0, 2])}, {"logits": array([1.002, 4], [0, 2])})
    assert (found.error, found.cosine, found.same_top) == (exact(0.0005, rel=1e-4), exact(1, abs=1e-6), 1.0)
    assert (found.difference, found.uncompared) == (None, ())


def test_figures_of_an_output_that_does_not():
    found = parity(array([1, 4], [0, 2]), array([5, 4], [0, 2]))
    assert (found.error, found.same_top) == (exact(1.0), 0.5)
    assert "100.0% of the largest value; allowed is 0.001 of the largest value in float32" in found.difference
    assert "in the reference" in parity([1, "a"], [1, "b"]).difference


@pytest.mark.parametrize(
    ("dtype", "on_cpu", "allowed"),
    [(None, True, 1e-3), ("float32", True, 1e-3), ("bfloat16", True, 5e-2), (None, False, 1e-2),
     ("float32", False, 1e-2), ("float64", False, 1e-3)],
)  # fmt: skip
def test_the_tolerance_is_that_of_the_coarsest_dtype(dtype, on_cpu, allowed):
    reference = array(1.0, 100.0)
    for share, agrees in ((0.99 * allowed, True), (1.01 * allowed, False)):
        found = parity(reference, array(1.0, 100.0 * (1 + share)), dtype, on_cpu=on_cpu)
        assert (found.difference is None) is agrees, share


def test_scores_beside_pixels_have_a_tolerance_of_their_own():
    boxes = array(*((3840, 2160, 0.03 + 0.001 * row) for row in range(4)))
    near, far = boxes.copy(), boxes.copy()
    near[0, 2] += 0.003
    far[0, 2] += 0.005
    assert parity(boxes, near).difference is None
    assert parity(boxes, far).difference.endswith("0.001 of the largest value in float32 in its column")
    assert parity(boxes, far, tolerance=0.001).difference is None


def test_constants_of_masks_are_no_part_of_the_figures():
    reference, output = array([1, 4, -1e9], [0, 2, -1e9]), array([3, 12, -1e9], [0, 6, -1e9])
    found = parity(reference, output)
    assert (found.error, found.cosine) == (exact(2), exact(1))
    assert "values differ by up to 8" in found.difference
    unmasked = parity(reference, array([1, 4, 0], [0, 2, 0]))
    assert unmasked.error == exact(1)
    assert unmasked.difference is not None


def test_a_tolerance_of_the_user_replaces_it():
    assert parity(array(1.0), array(1.2), tolerance=0.3).difference is None
    assert parity(array(1.0), array(1.2), "bfloat16", tolerance=0.1).difference is not None


def test_values_of_another_precision_are_compared_and_other_types_are_not_equal():
    assert parity(array(1.0), array(1.0, dtype="float16"), "float16").difference is None
    assert parity(array(1.0), array(1, dtype="int64")).difference is not None
    assert parity(array(1), array(2)).difference is not None


def test_nan_and_shapes_differ():
    assert "not finite on one side" in parity(array(1.0, 2.0), array(1.0, float("nan"))).difference
    assert parity(array(float("nan")), array(float("nan"))).difference is None
    assert "shape" in parity(array(1.0, 2.0), array(1.0)).difference


def test_an_output_without_numbers_has_no_figures():
    found = parity("text", "text")
    assert (found.error, found.cosine, found.same_top, found.difference) == (None, None, None, None)


@pytest.mark.torch
def test_tensors_in_bfloat16_are_compared_in_double_precision():
    torch = pytest.importorskip("torch")
    found = parity(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 3.0], dtype=torch.bfloat16), "bfloat16")
    assert (found.error, found.difference) == (0.0, None)
    complex_values = torch.tensor([1 + 2j])
    assert parity(complex_values, complex_values.conj()).error == exact(2.0)
