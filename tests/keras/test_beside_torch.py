"""Keras and PyTorch in one process, whichever backend Keras runs on."""

import keras
import numpy as np
import pytest
import torch
from keras import ops
from torch.utils.data import DataLoader

import mixlayers.keras as mixing
import mixlayers.torch
from mixlayers import CutMix, Mixup
from tests.keras.keras_nets import batch, compiled, sequential


def test_pytorchs_loader_mixes():
    x, y = batch(16)
    collate = mixing.MixCollate(CutMix(), num_classes=4, seed=2, tensors="torch")
    loader = DataLoader(list(zip(x, y, strict=True)), batch_size=8, collate_fn=collate)
    soft = keras.losses.CategoricalCrossentropy(from_logits=True)
    logs = compiled(sequential(), loss=soft).fit(loader, epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    with pytest.raises(ValueError, match='"numpy" or "torch"'):
        mixing.MixCollate(CutMix(), num_classes=4, tensors="jax")


def test_boxes_are_cut_as_pytorch_cuts_them():
    images = np.random.default_rng(0).random((4, 8, 10, 3)).astype("f")
    boxes, labels = [np.array([[1.0, 2, 8, 7], [0, 0, 3, 3]], "f")] * 4, [np.arange(2)] * 4
    mixed, found = mixing.mix_detection(images, boxes, labels, CutMix(), step=4, min_visible=0.2)
    first, expected = mixlayers.torch.mix_detection(
        torch.tensor(images).movedim(-1, 1),
        [torch.tensor(each) for each in boxes],
        [torch.tensor(each) for each in labels],
        CutMix(),
        step=4,
        min_visible=0.2,
    )
    np.testing.assert_array_equal(ops.convert_to_numpy(mixed), first.movedim(1, -1).numpy())
    for ours, theirs in zip(found, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(one), other.numpy())


def test_pytorchs_wrap_says_where_to_go():
    with pytest.raises(TypeError, match=r"use mixlayers\.keras\.wrap"):
        mixlayers.torch.wrap(sequential(), Mixup())
