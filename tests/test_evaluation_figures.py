"""Figures of evaluation: what they say is what the rows say."""

import matplotlib
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from vr1kit import figures
from vr1kit.measures.confidence import calibrate
from vr1kit.results import read_paper


def words(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def bars(axes, gid):
    return [p.get_width() for p in axes.findobj(Rectangle) if p.get_gid() == gid]


def test_two_of_thirteen_sets_carry_two_thirds_of_qwens_gain():
    """Table 9 by hand: mushrooms 67.7 - 7.0, EgoHands 49.9 - 32.2, and 9.0 on the mean of thirteen."""
    gains = figures.paper_gains_of_all(read_paper())
    qwen = gains["Qwen2.5-VL-7B"]
    assert [(r["set"], round(r["gain"], 1)) for r in qwen[:2]] == [("NorthAmericaMushrooms", 60.7), ("EgoHands", 17.7)]
    assert (60.7 + 17.7) / sum(r["gain"] for r in qwen) == pytest.approx(2 / 3, abs=0.01)
    assert sum(r["gain"] for r in qwen) / 13 == pytest.approx(46.0 - 37.0, abs=0.1)
    figure = figures.plot_set_gains(gains)
    assert "Qwen2.5-VL-7B: two of 13 carry 67 %" in words(figure)
    assert bars(figure.axes[0], "gain") == pytest.approx([r["gain"] for r in qwen])
    assert [p.get_hatch() for p in figure.axes[0].patches].count("////") == sum(r["gain"] < 0 for r in qwen)


def test_no_gain_at_all_has_no_shares():
    rows = [{"set": n, "before": 1.0, "after": 1.0 + g, "gain": g, "share": None} for n, g in (("a", 1.0), ("b", -1.0))]
    figure = figures.plot_set_gains({"x": rows})
    assert "x" in words(figure) and not any("%" in w for w in words(figure) if w[0] in "+-")


def test_calibration_shows_accuracy_over_score_and_its_error():
    found = calibrate([0.95] * 8 + [0.35] * 4, [True] * 6 + [False] * 2 + [False] * 3 + [True])
    figure = figures.plot_calibration({"min": found, "none": calibrate([], [])})
    (line,) = [line for line in figure.axes[0].lines if line.get_gid() == "reliability"]
    assert np.array(line.get_xydata()) == pytest.approx(np.array([[0.35, 0.25], [0.95, 0.75]]))
    assert "min\nECE 16.7 %, 12 boxes" in words(figure) and "none\nECE none, 0 boxes" in words(figure)


def test_errors_before_and_after_stand_side_by_side():
    rows = [
        {"group": g, "kind": k, "before": b, "after": a, "difference": a - b, "dAP_before": 1.0, "dAP_after": 0.5}
        for g, k, b, a in (("all", "missed", 40, 2), ("all", "badly_placed", 1, 3), ("all", "both", 0, 0))
    ]
    figure = figures.plot_errors({"all": rows, "by size": [{**rows[0], "group": "small"}]}, ("base", "trained"))
    axes = figure.axes[0]
    assert bars(axes, "before") == [40, 1] and bars(axes, "after") == [2, 3]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["missed", "badly placed"], "kinds that never occur are left out"
    assert {"-38", "+2", "base", "trained", "small: missed"} <= set(words(figure))


def test_nothing_wrong_is_a_figure_too():
    figures.plot_errors({"all": []}).to_png()


def test_annotators_stand_below_each_other_with_a_bar_for_each_policy():
    rows = [
        {"annotator": a, "policy": p, "seed": s, "suite": suite, "metric": "AP", "value": value + s}
        for suite in ("in_domain", "shifted13")
        for a, p, value in (("the truth", "base", 40.0), ("the truth", "sft", 76.0), ("the truth", "vision_r1", 70.0),
                            ("unsorted", "sft", 20.0), ("unsorted", "vision_r1", 70.0))
        for s in (0, 1)
    ]  # fmt: skip
    figure = figures.plot_annotators(rows)
    assert bars(figure.axes[0], "sft") == [76.5, 20.5] and bars(figure.axes[1], "vision_r1") == [70.5, 70.5]
    assert {"the truth", "unsorted", "SFT", "Vision-R1", "20.5"} <= set(words(figure))
    assert len(figure.axes) == 2 and not bars(figure.axes[0], "base"), "the base is a line"
