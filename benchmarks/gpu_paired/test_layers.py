import pytest
from layers import load


@pytest.mark.parametrize("name", ["equal", "slower"])
@pytest.mark.inference(parity=False)
def test_layers(infer, name):  # noqa: ANN001, ANN201
    infer(*load(name))
