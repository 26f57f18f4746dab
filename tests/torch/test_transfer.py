"""A step's arrays go to the device in one copy, packed as a GPU gets them; here that copy is counted and read back."""

import numpy as np
import pytest
import torch

from mixlayers import CutMix, DropBlock, ManifoldMixup, MixingError, Mixup, PatchUp
from mixlayers.torch import cross_entropy, get_mixer, mix, wrap
from mixlayers_torch import _transfer
from mixlayers_torch._transfer import Partners, layout, pack, send, unpack
from tests.torch.networks import batch, net

ARRAYS = [
    np.array([2, 0, 1], dtype=np.int64),
    np.array([[True, False, True]]),
    np.array([0.25], dtype=np.float32),
    np.zeros((0, 3), dtype=np.float32),
    np.broadcast_to(np.float32(0.5), (3,)),
    np.array([[1.5, -2.5]]).T,
]


def test_packed_arrays_are_themselves_again():
    spans, size = layout(ARRAYS)
    packed = torch.full((size,), 255, dtype=torch.uint8)
    pack(packed, ARRAYS, spans)
    for array, tensor in zip(ARRAYS, unpack(packed, ARRAYS, spans), strict=True):
        assert tensor.numpy().dtype == array.dtype
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.fixture
def copies(monkeypatch):
    """A CPU that is taken for a GPU: what is packed is noted, and each copy has memory of its own."""
    found = []

    def sent(arrays, device):
        spans, size = layout(arrays)
        packed = torch.empty(size, dtype=torch.uint8)
        pack(packed, arrays, spans)
        found.append(size)
        return unpack(packed.clone(), arrays, spans)

    for module in ("_transfer", "_blend", "_framework"):
        monkeypatch.setattr(f"mixlayers_torch.{module}.send", sent)
    return found


METHODS = [
    ManifoldMixup(),
    ManifoldMixup(lam_per="sample"),
    PatchUp("hard", block_size=3),
    PatchUp("soft", lam_per="sample", block_size=3),
    Mixup(lam_per="pair"),
    CutMix(),
    CutMix(lam_per="sample"),
    DropBlock(block_size=3),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_step_takes_one_copy_and_is_the_same_step(copies, monkeypatch, method):
    def gradients(most):
        model, (x, y) = (
            wrap(net(), method, ["layer1", "layer2"] if method.hidden else "auto", trust=True),
            batch(),
        )
        for _ in range(3):
            copies.clear()
            model.zero_grad()
            cross_entropy(*model(x, target=y)).backward()
            assert len(copies) == most
        return [parameter.grad for parameter in model.parameters()]

    packed = gradients(1)
    monkeypatch.undo()
    assert all(torch.equal(one, other) for one, other in zip(packed, gradients(0), strict=True))


def test_an_input_batch_takes_one_copy(copies):
    mix(*batch(), Mixup(lam_per="sample"), step=0)
    assert len(copies) == 1


def test_a_compiled_step_takes_one_copy(copies):
    torch.compiler.reset()
    model = wrap(
        torch.compile(net(), backend="aot_eager"), ManifoldMixup(lam_per="sample"), "layer1", trust=True
    )
    for _ in range(3):
        copies.clear()
        output, target = model(batch()[0], target=batch()[1])
        cross_entropy(output, target).backward()
        assert len(copies) == 1
    torch.compiler.reset()


def test_nothing_is_packed_for_a_device_that_pins_no_memory(monkeypatch):
    def refused(*args, **kwargs):
        raise AssertionError("packed for the CPU")

    monkeypatch.setattr(_transfer, "pack", refused)
    tensors = send(ARRAYS, torch.device("cpu"))
    assert [tensor.shape for tensor in tensors] == [array.shape for array in ARRAYS]
    partners = Partners(ARRAYS[0])
    assert partners.on(torch.device("cpu"))[0] is partners.on(torch.device("cpu"))[0]


def test_mixing_while_a_cuda_graph_is_captured_is_refused(monkeypatch):
    model, (x, y) = wrap(net(), ManifoldMixup(), ["layer1"]), batch()
    cross_entropy(*model(x, target=y)).backward()
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: True)
    with pytest.raises(
        MixingError, match="a CUDA graph that is captured here would mix every step by the plan"
    ):
        model(x, target=y)
    with pytest.raises(MixingError, match="CUDA graph"):
        mix(x, y, Mixup())
    assert get_mixer(model).step == 1
    monkeypatch.undo()
    cross_entropy(*model(x, target=y)).backward()


def test_a_graph_of_torch_compile_asks_outside_of_cuda_graphs():
    tags = torch.ops.mixlayers.decide.default.tags
    assert torch.Tag.cudagraph_unsafe in tags
