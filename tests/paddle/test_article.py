"""Article 004's recipe, examples/paddle_resnet_iebn.py, in small: what it saves is what it trained."""

import importlib.util
import multiprocessing
from pathlib import Path

import numpy as np
import paddle

from mixlayers.paddle import IEBN

SCRIPT = Path(__file__).parents[2] / "examples" / "paddle_resnet_iebn.py"


def script():
    spec = importlib.util.spec_from_file_location("paddle_resnet_iebn", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_best_and_the_final_weights_and_the_optimizers_are_saved(tmp_path):
    article = script()
    training, validation, _ = article.loaders(side=16, batch=256, workers=1)
    assert isinstance(training.dataset[0][0], np.ndarray)  # a worker may free a tensor before it is sent
    (images, labels), *_ = training  # to its end, where its process ends too
    assert multiprocessing.active_children() == []
    assert tuple(images.shape) == (256, 3, 16, 16) and tuple(labels.shape) == (256, 1)
    assert -1.0 <= float(images.min()) < float(images.max()) <= 1.0
    paddle.seed(42)
    make = lambda: article.ResNet(18, num_classes=10, norm_layer=IEBN, base=2)  # noqa: E731
    model = make()
    curves, speed = article.train(model, training, validation, 3, tmp_path)
    assert len(curves["train"]) == len(curves["validation"]) == 3 and speed > 0
    found = {}
    for name in ("best", "final"):
        again = make()
        again.set_state_dict(paddle.load(str(tmp_path / f"{name}_model.pdparams")))
        found[name] = article.evaluate(again, validation)
        optimizer = paddle.optimizer.Momentum(0.1, parameters=again.parameters())
        optimizer.set_state_dict(paddle.load(str(tmp_path / f"{name}_optimizer.pdopt")))
    np.testing.assert_allclose(found["final"], curves["validation"][-1], rtol=1e-5)
    np.testing.assert_allclose(found["final"], article.evaluate(model, validation), rtol=1e-5)
    best = max(curves["validation"], key=lambda one: one[1])
    np.testing.assert_allclose(found["best"], best, rtol=1e-5)
    draw = tmp_path / "curves.png"
    article.draw({"IEBN": curves}, draw)
    assert draw.stat().st_size > 0
