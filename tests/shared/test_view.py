"""The pictures: what is drawn (axes, texts, arrays), that nothing of the user's changes, and what is refused."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from mixlayers import CutMix, History, ManifoldMixup, MixedTarget, Mixup, OneOf, PatchUp, Scheduled, view
from mixlayers._core.audit.report import Audit, Point
from tests.support import reference


@pytest.fixture(autouse=True)
def _settings_stay():
    before, backend = dict(mpl.rcParams), mpl.get_backend(auto_select=False)
    yield
    assert dict(mpl.rcParams) == before and mpl.get_backend(auto_select=False) == backend


def pictures(figure):
    """The image of each axes, None where it has none."""
    return [axes.images[0].get_array() if axes.images else None for axes in figure.axes]


def texts(figure):
    return [figure.get_suptitle(), *(axes.get_xlabel() + axes.get_ylabel() for axes in figure.axes)]


def drawn(figure, tmp_path):
    """A figure without a window, that can be saved."""
    assert type(figure) is Figure
    figure.savefig(tmp_path / "figure.png", dpi=40)
    return figure


@pytest.mark.parametrize(
    "method", [Mixup(), CutMix(), Mixup(lam_per="sample"), CutMix(lam_per="sample")], ids=repr
)
def test_a_batch_of_any_framework(fw, method, tmp_path):
    images = np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32)
    x, (_, y) = fw.tensor(np.repeat(images, 3, axis=1)), fw.batch()
    kept = fw.numpy(x).copy()
    model = fw.face.wrap(fw.net(), method)
    output, target = model(x, target=y)
    figure = drawn(view.batch(x, target, samples=4), tmp_path)
    assert not target.used  # looking is no use
    fw.face.cross_entropy(output, target).backward()
    assert np.array_equal(fw.numpy(x), kept)

    plan = fw.face.get_mixer(model).last
    how = plan.blend((6, 3, 8, 8))
    expected = [kept[:4], kept[plan.perm][:4], reference.mix(kept, plan.perm, plan.lam, how.mask)[:4]]
    found = pictures(figure)
    assert len(found) == 12
    for at, picture in enumerate(found):
        np.testing.assert_allclose(picture, expected[at // 4][at % 4].transpose(1, 2, 0), atol=1e-5)
    labels = fw.numpy(y).astype(int)
    for at, s in enumerate(np.broadcast_to(how.s, 6)[:4]):
        caption = figure.axes[8 + at].get_xlabel()
        assert caption.startswith(f"{1 - s:.0%} {labels[at]} + {s:.0%} {labels[plan.perm[at]]}")
        assert f"lam {1 - s:.2f}" in caption
    assert repr(method)[:20] in figure.get_suptitle() and "input" in figure.get_suptitle()


def test_a_mixer_and_a_wrapped_model_stand_for_what_they_did_last(fw):
    x, y = fw.batch()
    model = fw.face.wrap(fw.net(), Mixup())
    mixer = fw.face.get_mixer(model)
    output, target = model(x, target=y)
    fw.face.cross_entropy(output, target).backward()
    for drawn, expected in (
        (view.batch(x, model), view.batch(x, mixer.last)),
        (view.batch(x, mixer), view.batch(x, mixer.last)),
        (view.history(model), view.history(mixer.history)),
        (view.history(mixer), view.history(mixer.history)),
    ):
        assert texts(drawn) == texts(expected)
    with fw.evaluating(model):
        model(x)
    assert mixer.last is None
    with pytest.raises(
        ValueError, match=r"was not to be mixed .*eval mode.*draw right after a training forward"
    ):
        view.batch(x, model)
    for draw in (lambda: view.batch(x, fw.net()), lambda: view.history(fw.net())):
        with pytest.raises(TypeError, match="the wrapped model"):
            draw()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_tensors_that_numpy_has_no_type_for(dtype):
    import torch

    plan = Mixup().plan(step=0, batch_size=4)
    x = torch.rand(4, 3, 5, 5)
    figure = view.batch(x.to(getattr(torch, dtype)).requires_grad_(), plan)
    np.testing.assert_allclose(pictures(figure)[0], x[0].permute(1, 2, 0), atol=1e-2)


def test_features_of_a_hidden_layer_are_shown_as_their_mean(tmp_path):
    x = np.random.default_rng(0).standard_normal((5, 16, 6, 6)).astype(np.float32)
    plan = PatchUp("soft", block_size=3).plan(step=3, batch_size=5, places=("layer1",))
    how = plan.blend(x.shape)
    found = pictures(drawn(view.batch(x, plan), tmp_path))
    mixed = reference.mix(x, plan.perm, plan.lam, how.mask)
    np.testing.assert_allclose(found[10], mixed[0].mean(axis=0), atol=1e-5)
    last = pictures(view.batch(np.moveaxis(x, 1, -1), plan, channel_dim=-1))
    np.testing.assert_allclose(last[10], found[10], atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 3, 20), (5, 7)])
def test_sequences_and_tables_are_lines(shape, tmp_path):
    x = np.random.default_rng(0).standard_normal(shape)
    plan = Mixup().plan(step=0, batch_size=5)
    figure = drawn(view.batch(x, plan, labels=np.linspace(0, 1, 5)), tmp_path)
    mixed = reference.mix(x, plan.perm, plan.lam).reshape(5, -1, shape[-1])
    for at in range(5):
        lines = [line.get_ydata() for line in figure.axes[10 + at].lines]
        np.testing.assert_allclose(lines, mixed[at], atol=1e-5)
    assert "0.25" in figure.axes[1].get_xlabel()


def test_labels_in_all_their_forms():
    x, plan = np.zeros((3, 1, 4, 4)), Mixup().plan(step=0, batch_size=3)

    def captions(target, **options):
        return [axes.get_xlabel() for axes in view.batch(x, target, **options).axes[:3]]

    assert captions(plan) == ["", "", ""]
    assert captions(plan, labels=[2, 0, 1], names=["ant", "bee", "cat"]) == ["cat", "ant", "bee"]
    assert captions(plan, labels=np.eye(3)) == ["0", "1", "2"]
    several = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    assert captions(plan, labels=several) == ["0, 2", "none", "1"]
    assert captions(plan, labels=several, names=["ant", "bee", "cat"]) == ["ant, cat", "none", "bee"]
    # labels that do not count
    assert captions(plan, labels=[-1, 1, -100], names=["ant", "bee"]) == ["-1", "bee", "-100"]
    with pytest.raises(ValueError, match="names has one for each class, got 2 and a label of 2"):
        captions(plan, labels=[0, 1, 2], names=["ant", "bee"])
    assert captions(MixedTarget({"colour": [1, 2, 3]}, None, 0.5, plan)) == ["", "", ""]
    assert captions(MixedTarget(np.array([4, 5, 6]))) == ["4", "5", "6"]
    assert "Nothing was mixed" in view.batch(x, MixedTarget(np.array([4, 5, 6]))).get_suptitle()


def test_batches_that_cannot_be_drawn():
    plan = Mixup().plan(step=0, batch_size=4)
    for x, options, words in [
        (np.zeros((3, 1, 4, 4)), {}, "batch of 4.*whole batch"),
        (np.zeros((4, 1, 4, 4, 4)), {}, "slice"),
        (np.zeros(4), {}, "single sample"),
        (np.zeros((4, 1, 4, 4)), {"samples": 0}, "at least 1"),
        (np.zeros((4, 1, 4, 4)), {"labels": [1, 2]}, "one per sample"),
        (np.zeros((4, 1, 4, 4)), {"channel_dim": 2}, "1 or -1"),
    ]:
        with pytest.raises(ValueError, match=words):
            view.batch(x, plan, **options)


def test_masks_at_each_layer(tmp_path):
    shapes = {"input": (4, 3, 16, 16), "layer1": (4, 8, 16, 16), "layer2": (4, 3, 8, 8)}
    figure = drawn(view.masks(PatchUp("hard", block_size=3), shapes, step=5, seed=2, maps=4), tmp_path)
    assert len(figure.axes) == 3 * 5
    rows = [figure.axes[5 * at : 5 * at + 5] for at in range(3)]
    for row, (place, shape) in zip(rows, shapes.items(), strict=True):
        plan = PatchUp("hard", block_size=3).plan(step=5, batch_size=4, places=(place,), seed=2)
        how = plan.blend(shape)
        shown = [axes.images[0].get_array() for axes in row if axes.images]
        channels = min(4, how.mask.shape[1])
        expected = [*how.mask[0, :channels], *([how.mask[0].mean(axis=0)] if channels > 1 else [])]
        np.testing.assert_allclose(shown, expected)
        assert f"{place}\n" in row[0].get_ylabel() and f"s {how.s:.0%}" in row[0].get_ylabel()
        assert all(axes.get_visible() == bool(axes.images) for axes in row)


def test_masks_of_one_plan_of_samples_of_sequences_and_of_none():
    plan = CutMix(lam_per="sample").plan(step=0, batch_size=3)
    shown = pictures(view.masks(plan, {"input": (3, 2, 9, 9)}))
    np.testing.assert_array_equal(shown, plan.blend((3, 2, 9, 9)).mask[:, 0])
    last = pictures(view.masks(plan, {"input": (3, 9, 9, 2)}, channel_dim=-1))
    np.testing.assert_array_equal(last, shown)
    [sequence] = pictures(view.masks(PatchUp("hard"), {"layer1": (3, 5, 30)}))
    assert sequence.shape == (5, 30)
    [everywhere] = pictures(view.masks(ManifoldMixup(), {"layer1": (3, 5, 6, 6)}))
    assert everywhere.all()
    clean = OneOf({CutMix(): 1}, prob=1e-9).plan(step=0, batch_size=3)
    [nowhere] = pictures(view.masks(clean, {"input": (3, 5, 6, 6)}))
    assert not nowhere.any()


def test_a_schedule_is_followed_to_where_it_acts():
    figure = view.masks(Scheduled(CutMix(), start=40), {"input": (4, 3, 8, 8)})
    assert "step 40" in figure.axes[0].get_ylabel()


def test_masks_that_cannot_be_drawn():
    for method, shapes, words in [
        (CutMix(), {}, "at least one layer"),
        (CutMix(), {"input": (3, 8)}, "batch axis"),
        (CutMix(), {"layer1": (4, 3, 8, 8)}, "input alone"),
    ]:
        with pytest.raises(ValueError, match=words):
            view.masks(method, shapes)


def test_the_audit(fw, tmp_path):
    x, _ = fw.batch()
    report = fw.face.audit(fw.net(), x)
    figure = drawn(view.audit(report), tmp_path)
    axes = figure.axes[0]
    assert len(axes.patches) == len(axes.texts) == len(report.points)
    colour = {}
    for bar in axes.patches:
        colour[round(bar.get_y() + bar.get_height() / 2)] = bar.get_facecolor()
    kinds = ["chosen" if point.name in report.chosen else "true" if point.true else "not" for point in report]
    assert len({(kind, colour[at]) for at, kind in enumerate(kinds)}) == len(set(kinds)) == 3
    for point, label, note in zip(report, axes.get_yticklabels(), axes.texts, strict=True):
        assert label.get_text().startswith(point.name)
        assert point.reason.partition(" (")[0] in note.get_text()
    assert figure.get_suptitle().startswith(f"{len(report.true)} of {len(report.points)} layers")


def test_an_audit_of_many_layers_shows_the_true_ones():
    points = tuple(
        Point(f"layer{at}", "Conv", (3, 4), at % 10 == 0, "" if at % 10 == 0 else "no") for at in range(200)
    )
    figure = view.audit(Audit(points))
    assert len(figure.axes[0].patches) == 20 and "180" in figure.get_suptitle()
    with pytest.raises(ValueError, match="no layer"):
        view.audit(Audit(()))


def test_the_history(tmp_path):
    history, method = History(), OneOf({ManifoldMixup(): 1, PatchUp("hard", block_size=3): 1}, prob=0.7)
    for step in range(80):
        plan = method.plan(step=step, batch_size=4, places=("input", "layer1", "layer2"))
        history._add(plan, 0.0 if plan.place is None else plan.blend((4, 4, 8, 8)).s)
    figure = drawn(view.history(history), tmp_path)
    where, over, spread = figure.axes
    names = [tick.get_text() for tick in where.get_yticklabels()]
    assert names == ["input", "layer1", "layer2", "clean"]
    assert [bar.get_width() for bar in where.patches] == [
        history.counts[n if n != "clean" else None] for n in names
    ]
    points = np.concatenate([dots.get_offsets() for dots in over.collections])
    columns = history.as_arrays()
    mixed = columns["layer"] != ""
    expected = np.stack((columns["step"][mixed], 1 - columns["s"][mixed]), axis=1)
    np.testing.assert_allclose(points[points[:, 0].argsort()], expected)
    assert sum(bar.get_height() for bar in spread.patches) == mixed.sum()
    with pytest.raises(ValueError, match="empty"):
        view.history(History())


def test_a_history_of_clean_steps_alone():
    history = History()
    history._add(Scheduled(Mixup(), start=9).plan(step=0, batch_size=2), 0.0)
    assert len(view.history(history).axes[0].patches) == 1


def test_a_users_style_is_kept(tmp_path):
    plan = Mixup().plan(step=0, batch_size=2)
    with mpl.rc_context({"figure.facecolor": "black", "text.color": "white"}):
        figure = view.batch(np.zeros((2, 1, 4, 4)), plan)
    assert figure.get_facecolor() == (0.0, 0.0, 0.0, 1.0) and figure._suptitle.get_color() == "white"
