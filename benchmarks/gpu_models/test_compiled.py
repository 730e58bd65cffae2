import pytest
import torch
from reference_models import BATCHES, MODELS, load


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.inference(batch_sizes=BATCHES)
def test_compiled(infer, name):  # noqa: ANN001, ANN201
    # A graph of its own for each case, as in a service with one batch size.
    torch.compiler.reset()
    model, batch = load(name, infer.batch_size)
    infer(torch.compile(model), batch)
