"""Figures: what must be on them is on them, and the same figure gives the same file."""

import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from PIL import Image

from vr1kit import figures
from vr1kit.criteria import ADVANCED, BEGINNER, Criteria, ramp, two_stage
from vr1kit.drawing.style import BLUE, GREEN, ORANGE, RED, STYLE
from vr1kit.profiles import SHIFTED_NAMES, UNSEEN_NAMES
from vr1kit.results import read_paper
from vr1kit.scenes import draw_scene

PAPER = read_paper()
POLICIES = {"base": 20.0, "sft": 28.0, "vision_r1": 27.0, "vision_r1_object": 30.0}


def words(figure):
    return [t.get_text() for t in figure.findobj(matplotlib.text.Text) if t.get_text()]


def marked(axes, gid):
    return [line for line in axes.lines if line.get_gid() == gid]


def main_rows(bases=("mixed",), n_seeds=3):
    return [
        {"base_policy": b, "seed": s, "policy": p, "suite": suite, "metric": metric, "value": v + s * (p != "base"), "n_images": 9}
        for b in bases for suite, metric in figures.SUITES for p, v in POLICIES.items() for s in range(n_seeds)
    ]  # fmt: skip


def test_main_shows_each_mean_seed_and_ratio_and_the_paper_apart():
    figure = figures.plot_main(main_rows(), PAPER)
    assert len(figure.axes) == 8
    ours, theirs = figure.axes[0], figure.axes[4]
    assert [m.get_xdata()[0] for m in marked(ours, "mean")] == [20.0, 29.0, 28.0, 31.0]
    rings = [line for line in ours.lines if len(line.get_xdata()) == 3]
    assert sorted(rings[0].get_xdata()) == [28.0, 29.0, 30.0] and len(rings) == 3, "the base is one, not three seeds"
    assert [t.get_text() for t in ours.texts] == ["×1.45", "×1.40", "×1.55"]
    assert [m.get_xdata()[0] for m in marked(theirs, "paper")] == [17.7, 23.6, 26.6]
    assert all(to_hex(m.get_markerfacecolor()) == "#ffffff" for m in marked(theirs, "paper"))
    assert [t.get_text() for t in theirs.texts] == ["×1.33", "×1.50"]
    assert ours.get_title(loc="left") == "in-domain, AP" and "Vision-R1, object credit" in words(figure)
    assert len({m.get_marker() for m in marked(ours, "mean")}) == 4, "readable without colour"


def test_main_with_one_seed_promises_no_interval():
    figure = figures.plot_main(main_rows(("mixed", "converged"), 1), PAPER)
    assert len(figure.axes) == 16 and "95 % interval" not in words(figure) and "measured, one seed" in words(figure)


def log(n=40, switch=20, **changes):
    return [
        {"step": t, "stage": "beginner" if t <= switch else "advanced", "dual_format": 0.9, "recall": 0.5 if t <= switch else 0.2,
         "precision": 0.4, "tokens": 20 + t} | changes
        for t in range(1, n + 1)
    ]  # fmt: skip


def test_rewards_have_four_panels_a_stage_line_and_no_smoothing_across_it():
    figure = figures.plot_rewards({"vision_r1": log(), "vision_r1_object": log(precision=None)})
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["dual format reward", "recall reward", "precision reward", "tokens in an answer"]
    assert all(marked(axes, "stage")[0].get_xdata()[0] == 20.5 for axes in figure.axes)
    assert {"beginner", "advanced", "Vision-R1", "Vision-R1, object credit", "step"} <= set(words(figure))
    smoothed = [line for line in figure.axes[1].lines if line.get_linewidth() == 2.2]
    assert {round(float(y), 9) for line in smoothed for y in line.get_ydata()} == {0.5, 0.2}
    assert not marked(figures.plot_rewards({"": log(switch=99)}).axes[0], "stage")


def test_the_stages_on_both_sides_of_the_line_are_those_of_the_logs():
    rows = [{**r, "stage": {"beginner": "novice", "advanced": "beginner"}[r["stage"]]} for r in log()]
    figure = figures.plot_rewards({"never": log(switch=99), "novice first": rows})
    assert {"novice", "beginner"} <= set(words(figure)) and "advanced" not in words(figure)


def test_differentiation_draws_f_with_its_closed_and_open_ends():
    figure = figures.plot_differentiation()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["beginner stage", "advanced stage"]
    dots = [line for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert [(float(d.get_xdata()[0]), float(d.get_ydata()[0])) for d in dots] == [
        (0.75, 0),
        (0.75, 0.75),
        (0.9, 0.9),
        (0.9, 1),
    ]
    filled = [to_hex(d.get_markerfacecolor()) != "#ffffff" for d in dots]
    assert filled == [False, True, False, True]
    assert len(figures.plot_differentiation([BEGINNER, ADVANCED, Criteria(0.3, 0.3, 0.6)]).axes) == 3


@pytest.mark.parametrize("step, lines", [(0.5, 1), (1.0, 0), (0.0, 0)])
def test_schedule_shows_the_thresholds(step, lines):
    figure = figures.plot_schedule(two_stage(step))
    axes = figure.axes[0]
    assert len(marked(axes, "stage")) == lines and axes.get_xlabel() == "progress of training"
    values = {line.get_ydata()[-1] for line in axes.lines if line.get_label().startswith("ξ")}
    assert values == ({0.5, 0.75} if step == 1 else {0.75, 0.9})


def test_schedules_side_by_side_share_a_scale_and_a_ramp_slopes():
    figure = figures.plot_schedules({"two stages": two_stage(), "a ramp": ramp()})
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["two stages", "a ramp"]
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    valid = next(line for line in figure.axes[1].lines if line.get_label().startswith("ξ₀"))
    assert valid.get_xydata().tolist() == [[0, 0.5], [1, 0.75]]


def test_probes_say_what_a_cheat_earns_and_mark_what_pays():
    rows = [
        {"reward": "paper", "cheat": "wrong labels", "mean": 3.0, "honest": 3.0, "modest": 2.5, "pays": True},
        {"reward": "strict", "cheat": "wrong labels", "mean": 1.0, "honest": 3.0, "modest": 2.5, "pays": False},
        {"reward": "peer", "cheat": "wrong labels", "mean": 0.0, "honest": 0.0, "modest": 0.0, "pays": True},
    ]
    axes = figures.plot_probes(rows).axes[0]
    assert [t.get_text() for t in axes.texts] == ["100", "33", "free"]
    assert [to_hex(p.get_facecolor()) == to_hex(RED) for p in axes.patches] == [True, False, True]


def test_domains_are_dumbbells_with_gains():
    rows = [
        {"base_policy": b, "seed": s, "policy": p, "suite": suite, "set": d, "metric": "AP", "value": v + i, "n_images": 9}
        for b in ("mixed", "converged") for suite, names in (("shifted13", SHIFTED_NAMES), ("unseen4", UNSEEN_NAMES))
        for i, d in enumerate(names) for p, v in POLICIES.items() for s in (0, 1)
    ]  # fmt: skip
    figure = figures.plot_domains(rows)
    assert len(figure.axes) == 4 and set(SHIFTED_NAMES + UNSEEN_NAMES) <= set(words(figure))
    first = figure.axes[0]
    assert sum(t.get_text() == "+10.0" for t in first.texts) == 13
    assert len(first.lines) == 13 * 4, "a bar and three marks each"
    assert {"Base", "SFT", "Vision-R1, object credit"} <= set(words(figure))


def test_domains_of_one_gain_stand_by_name_whatever_order_they_come_in():
    names = ["road", "fog", "zoo", "beach", "aquarium", "toolbox", "kitchen"]
    rows = [
        {"base_policy": "mixed", "suite": "shifted13", "set": name, "policy": policy, "metric": "AP", "value": value}
        for name in names for policy, value in (("base", 40.0), ("sft", 50.0))
    ]  # fmt: skip
    axes = figures.plot_domains(rows, ("base", "sft")).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] in (sorted(names), sorted(names, reverse=True))


def test_an_ablation_stands_where_it_changed_things_and_the_paper_beside_it():
    values = {"base": (1.0, 2.0), "all_rewards": (10.0, 20.0), "precision_only": (6.0, 21.0), "mine": (10.5, 20.0)}
    rows = [{"name": n, "seed": s, "AP": a + s, "AP75": b} for n, (a, b) in values.items() for s in (0, 1, 2)]
    figure = figures.plot_ablation(rows, PAPER)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["AP (11.0)", "AP75 (20.0)"]
    at = {(line.get_gid(), line.get_ydata()[0]): line.get_xdata()[0] for line in figure.axes[0].lines if line.get_gid()}
    assert at == {("ours", 0): pytest.approx(-4.0), ("ours", 1): pytest.approx(0.5), ("paper", 0): pytest.approx(41.5 - 42.1)}
    assert {"precision_only", "mine", "-4.0", "+0.5"} <= set(words(figure)) and "base" not in words(figure)


TRUTH, NAMES = [[10, 10, 30, 30], [50, 50, 90, 90], [100, 100, 120, 120]], ["ball", "star", "mug"]


def test_answers_are_judged_by_label_and_iou():
    boxes = [[10, 10, 30, 30], [50, 50, 70, 90], [60, 60, 110, 110], [100, 100, 120, 120]]
    judged = figures.judge_answer(boxes, ["ball", "star", "star", "kite"], TRUTH, NAMES)
    assert judged.kinds == ("right", "right", "wrong", "wrong"), "half of a box is IoU 0.5, which counts"
    assert judged.missed == (2,) and judged.right == 2 and judged.mean_iou == pytest.approx((1 + 0.5 + 0) / 3)
    loose = figures.judge_answer([[50, 50, 66, 90]], ["star"], TRUTH, NAMES)  # IoU 0.4
    assert loose.kinds == ("loose",) and loose.missed == (0, 2)
    assert figures.judge_answer([], [], TRUTH, NAMES).missed == (0, 1, 2)
    assert figures.judge_answer([[0, 0, 5, 5]], ["ball"], [], []).kinds == ("wrong",)


def edges(axes):
    return [to_hex(p.get_edgecolor()).upper() for p in axes.patches if isinstance(p, Rectangle)]


def test_before_and_after_colours_boxes_and_counts_them():
    answers = {
        "base": {"boxes_xyxy_px": [[50, 50, 66, 90], [60, 60, 110, 110]], "labels": ["star", "$x^{"], "text": ""},
        "vision_r1_object": {"boxes_xyxy_px": TRUTH, "labels": NAMES, "text": ""},
    }
    rows = [{"domain": "toybox", "seed": 3, "labels": NAMES, "boxes_xyxy_px": TRUTH, "answers": answers}]
    figure = figures.plot_before_after(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "toybox: 3 objects", "0/3 right, mean IoU 0.13", "3/3 right, mean IoU 1.00",
    ]  # fmt: skip
    truth, before, after = figure.axes
    assert edges(truth) == [BLUE] * 3 and edges(after) == [GREEN] * 3
    assert edges(before) == ["#FFFFFF", "#FFFFFF", ORANGE, RED], "two missed, one loose, one wrong"
    assert "$x^{" in words(figure) and "missed object" in words(figure)
    assert figure.to_png(40).startswith(b"\x89PNG"), "a label is not read as mathematics"


def test_sheets_take_scenes_and_rows():
    scene = draw_scene("toybox", 1)
    row = {"domain": "space", "seed": 2, "task": "detection", "labels": ["rocket"], "boxes_xyxy_px": [[1, 2, 30, 40]]}
    figure = figures.sheet([scene, row, scene], columns=2)
    assert len(figure.axes) == 4
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == f"toybox, {len(scene.objects)} objects" and titles[1] == "space, detection, 1 object"
    assert len(edges(figure.axes[0])) == len(scene.objects) and edges(figure.axes[1]) and "rocket" in words(figure)


def test_boxes_on_any_picture():
    image = Image.fromarray(np.zeros((50, 80, 3), np.uint8))
    figure = figures.draw_boxes(image, [[5, 20, 30, 45]], ["a\nlabel " + "x" * 99], title="t")
    box = next(p for p in figure.axes[0].patches if isinstance(p, Rectangle))
    assert (box.get_x(), box.get_y(), box.get_width(), box.get_height()) == (5, 20, 25, 25)
    assert any(w.startswith("a label") and w.endswith("…") for w in words(figure))
    assert figures.draw_boxes(image, []).axes


def test_saving_twice_gives_the_same_bytes_and_the_metadata(tmp_path):
    about = {"run": "tiny", "commit": "1a2b3c4"}
    for folder in ("a", "b"):
        png, pdf = figures.save_figure(figures.plot_schedule(two_stage()), "schedule", tmp_path / folder, about)
        assert (png.name, pdf.name) == ("schedule.png", "schedule.pdf")
    for name in ("schedule.png", "schedule.pdf"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with Image.open(png) as image:
        assert image.info["Description"] == "run tiny, commit 1a2b3c4" and round(image.info["dpi"][0]) == 150
    assert b"run tiny, commit 1a2b3c4" in pdf.read_bytes() and b"CreationDate" not in pdf.read_bytes()
    with pytest.raises(ValueError, match="figure name"):
        figures.save_figure(figures.plot_schedule(two_stage()), "../up", tmp_path)


def test_drawing_leaves_the_callers_settings_alone_and_says_nothing():
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = figures.plot_differentiation()
        assert figure._repr_png_().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before and STYLE.keys() <= before.keys()
