import pytest
from reference_models import BATCHES, load


@pytest.mark.parametrize("name", ["mlp", "minilm"])
@pytest.mark.inference(batch_sizes=[BATCHES[1]])
def test_contexts(infer, name):  # noqa: ANN001, ANN201
    infer(*load(name, infer.batch_size))
