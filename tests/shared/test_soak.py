"""Hundreds of steps in every framework leave no hooks and no objects behind; PyTorch's long run is in torch/."""

import gc

from mixlayers import CutMix, ManifoldMixup, OneOf, PatchUp


def test_nothing_grows(fw):
    method = OneOf({ManifoldMixup(): 2, PatchUp("soft", block_size=3): 1, CutMix(): 1}, prob=0.9)
    model, (x, y) = fw.face.wrap(fw.net(), method, ["input", "layer1", "layer2"]), fw.batch()
    learn = fw.learner(model, 0.01)

    def steps(count):
        for _ in range(count):
            learn(fw.face.cross_entropy(*model(x, target=y)))
        gc.collect()
        # but for a list that paddle.to_tensor(array) itself, of 3.3.1, leaves behind at every call
        left = [
            each
            for each in gc.get_objects()
            if type(each) is not list or not each or type(each[0]) is not str or each[0] != "value"
        ]
        return len(left), [fw.hooks(layer) for layer in fw.layers(model)]

    steps(20)
    objects, hooks = steps(20)
    more, as_many = steps(120)
    assert more <= objects + 40 and as_many == hooks
    assert fw.face.get_mixer(model).history.steps == 160
