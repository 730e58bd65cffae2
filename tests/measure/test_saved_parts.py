"""What is saved of single tensors that torch or their class refuses to copy."""

import random

import pytest

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

if True:  # after the skip
    from odd_tensors import UNCOPYABLE, Wraps
    from torch import nn

    from pytest_infergate.measure.restore import SavedState, arguments_kept, module_restored
    from pytest_infergate.measure.saved_parts import saved_content, saved_state_of


def memory(tensor):
    """Its bytes, which stay in their place."""
    with torch._C.DisableTorchFunctionSubclass():
        return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


@pytest.mark.parametrize("name", [name for name in UNCOPYABLE if name != "wraps"])
def test_its_memory_is_restored(name):
    tensor = UNCOPYABLE[name]()
    before = memory(tensor).clone()
    saved = saved_content(tensor)
    assert not saved.changed()
    memory(tensor)[0] += 1
    assert saved.changed()
    saved.restore()
    assert torch.equal(memory(tensor), before)
    assert not saved.changed()


def test_values_of_an_expanded_tensor_are_restored_at_their_one_place():
    model, shared = nn.Linear(1, 1), torch.zeros(1)
    model.table = shared.expand(2048, 2048)
    with module_restored(model):
        shared.fill_(1)
    assert shared.item() == 0


def test_what_cannot_be_restored_is_known_and_the_values_that_it_wraps_are():
    tensor = Wraps(torch.zeros(2))
    state = SavedState([tensor], modules=False)
    assert state.unsaved == [tensor] or state.unsaved[0] is tensor
    tensor.inner.add_(1)
    state.restore()
    assert tensor.inner.tolist() == [0, 0]


def test_running_out_of_memory_is_no_refusal(monkeypatch):
    def clone(self):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    tensor = torch.ones(2)
    monkeypatch.setattr(torch.Tensor, "clone", clone)
    with pytest.raises(RuntimeError, match="allocate"):
        saved_content(tensor)


def test_a_class_whose_copies_cannot_be_written_is_not_saved():
    class Constant(Wraps):
        @classmethod
        def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.clone.default:
                return cls(args[0].inner.clone())
            return super().__torch_dispatch__(func, types, args, kwargs)

    tensor = Constant(torch.zeros(2))
    with arguments_kept((tensor,), {}) as kept:
        assert [each is tensor for each in kept.unsaved] == [True]
        tensor.inner.add_(1)
    assert tensor.inner.tolist() == [0, 0]


def test_a_generator_of_the_system_has_no_state():
    assert saved_state_of(random.SystemRandom()) is None
    assert saved_state_of(random.Random(1)).changed() is False
