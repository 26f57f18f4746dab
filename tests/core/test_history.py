"""The history's counts, means and records, from plans alone."""

import json
import math

import numpy as np
import pytest

from mixlayers import CutMix, History, ManifoldMixup, MixRecord, Mixup, OneOf, PatchUp, Scheduled
from mixlayers._core.model.history import KEPT

SHAPE = (8, 6, 9, 9)


def run(method, steps, places=("input", "layer1")):
    """A history, and the plans and shares that it was told."""
    history, told = History(), []
    for step in range(steps):
        plan = method.plan(step=step, batch_size=8, places=places, seed=2)
        s = 0.0 if plan.place is None else plan.blend(SHAPE).s
        history._add(plan, s)
        told.append((plan, s))
    return history, told


@pytest.mark.parametrize(
    "method",
    [
        ManifoldMixup(),
        Mixup(lam_per="sample"),
        Mixup(lam_per="pair"),
        PatchUp("soft", block_size=3),
        OneOf({CutMix(): 1, PatchUp("hard", block_size=3): 1}, prob=0.7),
        Scheduled(Mixup(), start=3),
    ],
    ids=repr,
)
def test_counts_means_and_records_are_those_of_the_plans(method):
    history, told = run(method, 40)
    mixed = [(plan, s) for plan, s in told if plan.place is not None]
    assert (history.steps, history.mixed, len(history)) == (40, len(mixed), 40)
    for place in (None, "input", "layer1"):
        assert history.counts.get(place, 0) == sum(plan.place == place for plan, _ in told)
    assert history.mean_lam == pytest.approx(np.mean([np.mean(plan.lam) for plan, _ in mixed]))
    assert history.mean_s == pytest.approx(np.mean([np.mean(s) for _, s in mixed]))
    for record, (plan, s) in zip(history, told, strict=True):
        assert (record.step, record.layer) == (plan.step, plan.place)
        assert plan.method.startswith(f"{record.method}(")
        assert type(record.lam) is type(record.s) is float
        assert record.lam == pytest.approx(np.mean(plan.lam)) and record.s == pytest.approx(np.mean(s))
    assert history.last == list(history)[-1]


def test_the_counts_go_on_when_the_oldest_records_are_dropped():
    plans = [ManifoldMixup().plan(step=step, batch_size=2, places=("a", "b")) for step in range(KEPT + 50)]
    history = History()
    for plan in plans:
        history._add(plan, 1.0 - plan.lam)
    assert len(history) == KEPT and history.steps == KEPT + 50
    assert next(iter(history)).step == 50 and history.last.step == KEPT + 49
    assert history.counts == {place: sum(plan.place == place for plan in plans) for place in ("a", "b")}
    assert history.mean_lam == pytest.approx(np.mean([plan.lam for plan in plans]))
    assert history.mean_s == pytest.approx(1.0 - history.mean_lam)


def test_columns_and_json():
    history, _ = run(OneOf({ManifoldMixup(): 1}, prob=0.5), 20)
    columns = history.as_arrays()
    assert {name: column.dtype.kind for name, column in columns.items()} == {
        "step": "i", "method": "U", "layer": "U", "lam": "f", "s": "f",
    }  # fmt: skip
    for at, record in enumerate(history):
        assert MixRecord(*(columns[name][at] for name in MixRecord._fields)) == record._replace(
            layer=record.layer or ""
        )
    read = json.loads(json.dumps(history.to_dict()))
    assert [MixRecord(**record) for record in read["records"]] == list(history)
    assert read["clean"] == history.counts[None] and read["mixed"] == history.mixed
    assert read["layers"] == {place: history.counts[place] for place in ("input", "layer1")}
    assert (read["mean_lam"], read["mean_s"]) == (history.mean_lam, history.mean_s)


def test_nothing_yet():
    history = History()
    assert (len(history), history.steps, history.mixed, history.last) == (0, 0, 0, None)
    assert math.isnan(history.mean_lam) and math.isnan(history.mean_s) and "nothing" in repr(history)
    assert history.to_dict()["mean_lam"] is None
    assert [len(column) for column in history.as_arrays().values()] == [0] * 5


def test_one_line_says_where_and_how_much():
    history, _ = run(Scheduled(ManifoldMixup(), start=4), 20)
    text, counts = repr(history), history.counts
    assert text.startswith("History(20 steps: ") and "\n" not in text
    assert f"clean {counts[None]}" in text and f"layer1 {counts['layer1']}" in text
    assert f"mean lam {history.mean_lam:.3f}, mean s {history.mean_s:.3f}" in text
