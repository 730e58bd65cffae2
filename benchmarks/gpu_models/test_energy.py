import pytest
from reference_models import BATCHES, load


@pytest.mark.parametrize("name", ["mlp", "bert-base"])
@pytest.mark.inference(batch_sizes=[BATCHES[0], BATCHES[-1]])
def test_energy(infer, name):  # noqa: ANN001, ANN201
    infer(*load(name, infer.batch_size))
