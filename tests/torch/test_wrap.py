"""What wrapping leaves of PyTorch's own as it was; the rest is in tests/shared/test_wrap.py."""

import copy
import io

import torch
from torch import nn

from mixlayers.torch import Mixer, cross_entropy, get_mixer, wrap
from tests.torch.networks import batch, net


def test_a_model_travels_through_torch_save():
    model, (x, y) = wrap(net(), layers=["layer1"]), batch()
    model(x, target=y)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    twin = torch.load(file, weights_only=False)
    ours, theirs = model(x, target=y)[0], twin(x, target=y)[0]
    assert torch.equal(ours, theirs) and get_mixer(twin).step == get_mixer(model).step == 2


def test_resume_with_an_optimizers_state_equals_an_uninterrupted_run():
    x, y = batch()

    def steps(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            cross_entropy(*model(x, target=y)).backward()
            optimizer.step()

    def start():
        model = wrap(net(), layers=["layer1", "layer2"], seed=11)
        return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    whole, optimizer = start()
    steps(whole, optimizer, 7)
    first, optimizer = start()
    steps(first, optimizer, 4)
    saved = copy.deepcopy((first.state_dict(), optimizer.state_dict(), get_mixer(first).state_dict()))
    second, optimizer = start()
    for part, state in zip((second, optimizer, get_mixer(second)), saved, strict=True):
        part.load_state_dict(state)
    steps(second, optimizer, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


def test_what_was_detached_is_known_by_its_memory():
    """A metric of a detached output; split learning, where the next part differentiates by what the first returned."""
    torch.manual_seed(0)
    first, head = nn.Linear(5, 8), nn.Linear(8, 3)
    model, y = nn.Sequential(first), torch.arange(6) % 3
    mixer = Mixer(model, layers=["0"])
    criterion = mixer.loss(nn.CrossEntropyLoss(reduction="sum"))
    feature = model(torch.randn(6, 5))
    plan = mixer.last
    cut = feature.detach().requires_grad_()

    def blended(output):
        partner = y[torch.tensor(plan.perm)]
        plain = nn.CrossEntropyLoss(reduction="sum")
        return plan.lam * plain(output, y) + (1 - plan.lam) * plain(output, partner)

    for output in (head(cut), feature.detach()[:, :3]):
        torch.testing.assert_close(criterion(output, y), blended(output))
    criterion(head(cut), y).backward()
    feature.backward(cut.grad)
    assert first.weight.grad is not None
