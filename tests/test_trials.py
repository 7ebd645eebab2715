"""What was tried beside the main table, from the published run: its evaluations are there, so tables can be made again."""

import pytest

from vr1kit.annotators import SLOPPY
from vr1kit.jobs import list_annotated
from vr1kit.reporting import trials
from vr1kit.reporting.summary import read_rows
from vr1kit.study import evaluate_policy


def mean_ap(rows, annotator, policy, suite):
    key = (annotator, policy, suite, "AP")
    values = [r["value"] for r in rows if (r["annotator"], r["policy"], r["suite"], r["metric"]) == key]
    return sum(values) / len(values)


@pytest.mark.parametrize("annotator", SLOPPY)
def test_gains_are_over_the_better_baseline_that_the_same_annotator_taught(annotator, monkeypatch):
    monkeypatch.setattr(trials, "RESAMPLES", 30)  # values need none, intervals come out wider or narrower
    jobs = [job for job in list_annotated("published") if job.annotator == annotator]
    found = list(trials._find_gains([(job, evaluate_policy("published", "published", job, show=False)) for job in jobs]))
    rows = read_rows("published", "annotators", "annotators.csv")
    better = max(trials.BASELINES, key=lambda policy: mean_ap(rows, annotator, policy, "in_domain"))
    gains = [gain for gain in found if gain["metric"] == "AP"]
    assert {(g["policy"], g["suite"]) for g in gains} == {
        (policy, suite) for policy in ("vision_r1", "vision_r1_object") for suite in ("in_domain", "shifted13", "unseen4")
    }
    for gain in gains:
        value, before = (mean_ap(rows, annotator, policy, gain["suite"]) for policy in (gain["policy"], better))
        assert (gain["annotator"], gain["over"]) == (annotator, better)
        assert gain["value"] == pytest.approx(value, abs=1e-3) and gain["change"] == pytest.approx(value - before, abs=1e-3)
        assert gain["low"] <= gain["change"] <= gain["high"]


def test_the_published_gains_are_those_of_the_published_table():
    rows = read_rows("published", "annotators", "annotators.csv")
    gains = [gain for gain in read_rows("published", "annotators", "gains.csv") if gain["metric"] == "AP"]
    assert {gain["annotator"] for gain in gains} == {"the truth", *SLOPPY}
    for gain in gains:
        value, before = (mean_ap(rows, gain["annotator"], policy, gain["suite"]) for policy in (gain["policy"], gain["over"]))
        assert (gain["value"], gain["change"]) == (pytest.approx(value, abs=1e-3), pytest.approx(value - before, abs=1e-3))
