"""convert_iebn and its way back: nothing is lost, nothing is silently left untrained."""

import gc
import logging

import pytest
import torch
from pytorchcv.model_provider import get_model
from torch import nn

from mixlayers.torch import (
    IEBN1d,
    IEBN2d,
    IEBN3d,
    SyncIEBN,
    convert_iebn,
    cross_entropy,
    iebn_parameters,
    revert_iebn,
    to_official_state_dict,
    wrap,
)
from tests.torch.networks import Net, batch, net


def trained(kind=Net):
    """A network whose statistics and weights are not the initial ones."""
    model, generator = net(kind), torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 2.0, generator=generator)
            module.bias.data.normal_(generator=generator)
    model(batch()[0])
    return model


def test_a_resnet18_gains_its_two_parameters_a_channel(caplog):
    model = get_model("resnet18", num_classes=10)
    assert sum(p.numel() for p in model.parameters()) == 11_181_642
    with caplog.at_level(logging.INFO, "mixlayers"):
        assert convert_iebn(model) is model
    assert sum(p.numel() for p in model.parameters()) == 11_191_242
    assert "replaced 20 norms by IEBN, +9600 parameters: features.init_block.conv.bn" in caplog.text
    assert sum(isinstance(module, IEBN2d) for module in model.modules()) == 20


def test_conversion_keeps_parameters_statistics_modes_and_hooks():
    model = trained()
    model.layer2.norm.eval()
    model.layer3.norm.requires_grad_(False)
    norm = model.layer1.norm
    before = {**dict(norm.named_parameters()), **dict(norm.named_buffers())}
    calls = []
    norm.register_forward_hook(lambda *call: calls.append(1))
    convert_iebn(model)
    new = model.layer1.norm
    assert all(getattr(new, name) is tensor for name, tensor in before.items())
    assert (new.eps, new.momentum, new.num_features) == (norm.eps, norm.momentum, norm.num_features)
    assert [block.norm.training for block in (model.layer1, model.layer2)] == [True, False]
    assert not any(p.requires_grad for p in model.layer3.norm.parameters())
    assert all(p.requires_grad for p in model.layer2.norm.parameters())
    model(batch()[0])
    assert calls == [1]
    revert_iebn(model)
    assert type(model.layer1.norm) is nn.BatchNorm2d and model.layer1.norm.weight is before["weight"]
    assert set(model.state_dict()) == set(trained().state_dict())


def test_skip_and_shared_layers():
    model = trained()
    model.layer3.norm = model.layer2.norm
    convert_iebn(model, skip="layer1.*")
    assert type(model.layer1.norm) is nn.BatchNorm2d
    assert model.layer3.norm is model.layer2.norm and isinstance(model.layer2.norm, IEBN2d)
    assert isinstance(convert_iebn(nn.BatchNorm1d(3)), IEBN1d)
    assert isinstance(convert_iebn(nn.Sequential(nn.BatchNorm3d(3)))[0], IEBN3d)
    assert isinstance(convert_iebn(nn.SyncBatchNorm(3)), SyncIEBN)
    assert type(revert_iebn(IEBN1d(3))) is nn.BatchNorm1d


def test_without_weights_nothing_holds_what_the_attention_costs():
    with pytest.raises(ValueError, match="got affine=False"):
        convert_iebn(nn.BatchNorm2d(3, affine=False), preserve_output=True)


def test_an_optimizer_that_was_made_before_is_pointed_out():
    gc.collect()
    model = trained()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.warns(UserWarning, match="SGD was made before the conversion and will not train the 6 new"):
        convert_iebn(model)
    optimizer.add_param_group(iebn_parameters(model)[1])
    cross = nn.CrossEntropyLoss()(model(batch()[0]), batch()[1])
    cross.backward()
    before = model.layer1.norm.bias_readjust.clone()
    optimizer.step()
    assert not torch.equal(model.layer1.norm.bias_readjust, before)


def test_torchs_sync_conversion_leaves_the_attention_and_ours_keeps_it():
    model = nn.SyncBatchNorm.convert_sync_batchnorm(convert_iebn(trained(), skip="layer1.*"))
    assert isinstance(model.layer1.norm, nn.SyncBatchNorm) and isinstance(model.layer2.norm, IEBN2d)
    weight = model.layer2.norm.weight_readjust
    SyncIEBN.convert_sync_iebn(model)
    assert isinstance(model.layer2.norm, SyncIEBN) and model.layer2.norm.weight_readjust is weight


def test_checkpoints_of_batchnorm_the_authors_and_ours_load():
    plain, model = trained(), convert_iebn(net())
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model.layer1.norm.weight, plain.layer1.norm.weight)
    assert model.layer1.norm.bias_readjust.eq(-1.0).all()
    with torch.no_grad():
        model.layer1.norm.weight_readjust.normal_()
    official = to_official_state_dict(model)
    assert official["layer1.norm.weight_readjust"].shape == (1, 6, 1, 1)
    for state in (official, model.state_dict()):
        other = convert_iebn(net(seed=5))
        other.load_state_dict(state)
        assert torch.equal(other.eval()(batch()[0]), model.eval()(batch()[0]))


def test_a_converted_model_mixes_trains_and_exports():
    model, (x, y) = wrap(convert_iebn(trained()), layers=["layer1", "layer2"]), batch()
    cross_entropy(*model(x, target=y)).backward()
    assert all(p.grad is not None for p in model.parameters())
    plain = convert_iebn(trained()).eval()
    program = torch.export.export(plain, (x,))
    torch.testing.assert_close(program.module()(x), plain(x))


def test_norms_of_other_classes_are_left_and_named() -> None:
    class Activated(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).relu()

    model = nn.Sequential(nn.BatchNorm2d(3), Activated(3), nn.LazyBatchNorm2d())
    with pytest.warns(UserWarning, match="left as they are: '1', '2', of type Activated"):
        convert_iebn(model)
    assert [type(layer) for layer in model] == [IEBN2d, Activated, nn.LazyBatchNorm2d]
    convert_iebn(nn.Sequential(nn.BatchNorm2d(3), Activated(3)), skip="1")
