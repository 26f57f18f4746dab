"""A converted ResNet-18 leaves PyTorch with its attention: torch.export and ONNX."""

import pytest
import torch
from onnx.reference import ReferenceEvaluator

from mixlayers.torch import convert_iebn
from tests.torch.models import for_small_images


@pytest.fixture(scope="module")
def resnet18():
    model = convert_iebn(for_small_images("resnet18"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_readjust"):
                parameter.normal_(generator=generator)
    x = torch.randn(2, 3, 32, 32, generator=generator)
    return model.eval(), x, model(x).detach()


def test_torch_export(resnet18):
    model, x, expected = resnet18
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(torch.cat([x, x]))[:2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own exporter
def test_onnx(resnet18):
    model, x, expected = resnet18
    program = torch.onnx.export(model, (x,), dynamo=True, verbose=False)
    graph = program.model_proto
    (output,) = ReferenceEvaluator(graph).run(None, {graph.graph.input[0].name: x.numpy()})
    torch.testing.assert_close(torch.tensor(output), expected, rtol=1e-4, atol=1e-5)
    assert any(node.op_type == "Sigmoid" for node in graph.graph.node)
