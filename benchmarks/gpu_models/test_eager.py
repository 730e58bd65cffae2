import pytest
from reference_models import BATCHES, MODELS, load


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.inference(batch_sizes=BATCHES)
def test_eager(infer, name):  # noqa: ANN001, ANN201
    infer(*load(name, infer.batch_size))
