from dataclasses import replace

import numpy as np
import pytest

from vr1kit.data import ask, read_coco
from vr1kit.evaluate import to_detections
from vr1kit.measures.outcomes import find_outcomes
from vr1kit.measures.protocols import (
    ProtocolError,
    mean_over_sets,
    merge_answers,
    plan_queries,
    set_gains,
    side_by_side,
)
from vr1kit.prompts import write_answer
from vr1kit.results import read_paper


@pytest.fixture(scope="module")
def toybox(toybox_folder):
    return read_coco(toybox_folder / "annotations.json")


def right(policy, plan):
    """What a perfect model answers: the objects that are asked for."""
    texts = []
    for q in plan.queries:
        keep = [k for k, label in enumerate(q.record.labels) if label in q.categories]
        boxes, _ = policy.write_boxes(q.record.boxes_xyxy_px[keep], q.record.width, q.record.height)
        texts.append(write_answer(boxes, [q.record.labels[k] for k in keep]))
    return texts


def test_all_asks_every_picture_once_for_everything_with_the_prompt_of_the_default_evaluation(toybox):
    plan = plan_queries(toybox, "all")
    assert [q.record.image_id for q in plan.queries] == [r.image_id for r in toybox.records]
    assert [q.prompt for q in plan.queries] == [ask(r, list(toybox.categories)).prompt for r in toybox.records]
    assert all(set(q.categories) == set(toybox.categories) for q in plan.queries)


def test_present_asks_for_each_category_that_is_there_and_for_nothing_else(toybox):
    empty = replace(toybox.records[0], labels=(), boxes_xyxy_px=np.zeros((0, 4)))
    data = replace(toybox, records=(empty, *toybox.records[1:]))
    plan = plan_queries(data, "present")
    assert len(plan.queries) == sum(len(set(r.labels)) for r in data.records)
    assert empty.image_id not in {q.record.image_id for q in plan.queries}
    q = plan.queries[0]
    assert q.prompt == f"Locate every {q.categories[0]} in the image and output the coordinates in JSON format."
    assert q.categories[0] in q.record.labels


def test_all_with_constant_scores_gives_the_default_evaluations_detections(toybox, random_policy):
    plan = plan_queries(toybox, "all")
    texts = right(random_policy, plan)
    texts[0], texts[1] = '[{"bbox_2d": [1, 2, 30, 40], "label": "unicorn"}]', "[{'bbox_2d': [1, 2, 30, 40], 'label': 'ball'}]"
    detections, counts = merge_answers(random_policy, plan, texts)
    expected, expected_counts = to_detections(random_policy, toybox, texts)
    assert detections == expected
    assert {k: counts[k] for k in expected_counts} == expected_counts and counts["unknown_labels"] == 1
    assert counts["queries"] == len(toybox.records) and counts["other_labels"] == 0


def test_right_answers_are_right_under_both_protocols(toybox, random_policy):
    for protocol in ("present", "all"):
        plan = plan_queries(toybox, protocol)
        detections, counts = merge_answers(random_policy, plan, right(random_policy, plan))
        assert find_outcomes(toybox.annotations, detections).metrics()["AP50"] == pytest.approx(100)
        assert counts["boxes"] == sum(len(r.labels) for r in toybox.records)


def test_the_protocols_differ_in_what_an_invented_object_costs(toybox, random_policy):
    """A model that sees a surplus object of every category everywhere: `present` never asks for the absent ones."""
    values = {}
    for protocol in ("present", "all"):
        plan = plan_queries(toybox, protocol)
        texts = []
        for q, text in zip(plan.queries, right(random_policy, plan), strict=True):
            invented = ", ".join(f'{{"bbox_2d": [0, 0, 2, 2], "label": "{c}"}}' for c in q.categories)
            texts.append(f"[{invented}" + (", " if text != "[]" else "") + text[1:])
        detections, _ = merge_answers(random_policy, plan, texts)
        values[protocol] = find_outcomes(toybox.annotations, detections).metrics()["AP"]
    assert values["all"] < values["present"] < 90


def test_the_label_decides_and_other_labels_are_counted(toybox, random_policy):
    plan = plan_queries(toybox, "present")
    asked = plan.queries[0].categories[0]
    other = next(name for name in toybox.categories if name != asked)
    texts = [f'[{{"bbox_2d": [1, 2, 30, 40], "label": "{other}"}}]'] + ["[]"] * (len(plan.queries) - 1)
    detections, counts = merge_answers(random_policy, plan, texts)
    assert [d["category_id"] for d in detections] == [toybox.categories[other]] and counts["other_labels"] == 1
    texts[0] = texts[0].replace(other, other.upper())
    assert merge_answers(random_policy, plan, texts)[1]["unknown_labels"] == 1
    folded, counts = merge_answers(random_policy, plan, texts, ignore_case=True)
    assert folded == detections and counts["unknown_labels"] == 0


def test_scores_go_to_their_boxes_and_must_fit(toybox, random_policy):
    plan = plan_queries(toybox, "all")
    texts = ["[]"] * len(plan.queries)
    texts[0] = '[{"bbox_2d": [1, 2, 30, 40], "label": "unicorn"}, {"bbox_2d": [3, 4, 30, 40], "label": "ball"}]'
    name = next(iter(toybox.categories))
    texts[0] = texts[0].replace("ball", name)
    scores = [np.zeros(0)] * len(texts)
    detections, _ = merge_answers(random_policy, plan, texts, [np.array([0.1, 0.7]), *scores[1:]])
    assert [d["score"] for d in detections] == [0.7]  # the unicorn's went with it
    for wrong in (np.array([0.1]), np.array([0.1, float("nan")])):
        with pytest.raises(ValueError, match="2 boxes, scores"):
            merge_answers(random_policy, plan, texts, [wrong, *scores[1:]])
    with pytest.raises(ValueError, match="8 queries, but 1 answers"):
        merge_answers(random_policy, plan, texts[:1])


def test_bad_protocols_are_refused(toybox):
    with pytest.raises(ProtocolError, match="unknown protocol 'positive'; known are present, all"):
        plan_queries(toybox, "positive")
    with pytest.raises(ProtocolError, match="no categories"):
        plan_queries(replace(toybox, categories={}), "all")


def rows(values, protocol="present", score="constant", metric="AP"):
    return [
        {"set": name, "protocol": protocol, "score": score, "metric": metric, "value": value, "n_images": 10}
        for name, value in values.items()
    ]


def test_means_and_gains_are_of_one_protocol_one_score_and_one_metric():
    a, b = rows({"x": 10.0, "y": 30.0}), rows({"x": 20.0, "y": 30.0})
    assert mean_over_sets(a) == {**a[0], "set": "mean", "value": 20.0, "n_images": 20}
    assert [(g["set"], g["gain"], g["share"]) for g in set_gains(a, b)] == [("x", 10.0, 1.0), ("y", 0.0, 0.0)]
    assert set_gains(a, a)[0]["share"] is None
    for other in ({"protocol": "all"}, {"score": "vote"}, {"metric": "AP50"}):
        with pytest.raises(ProtocolError, match="do not compare"):
            mean_over_sets([*a[:1], *rows({"y": 1.0}, **other)])
        with pytest.raises(ProtocolError, match="do not compare"):
            set_gains(a, rows({"x": 20.0, "y": 30.0}, **other))
    with pytest.raises(ProtocolError, match="comes twice: x"):
        mean_over_sets([*a, a[0]])
    with pytest.raises(ProtocolError, match="missing or surplus are y, z"):
        mean_over_sets(a, ["x", "z"])
    with pytest.raises(ProtocolError, match="'y' has no AP"):
        mean_over_sets(rows({"x": 1.0, "y": float("nan")}))
    with pytest.raises(ProtocolError, match="no rows"):
        mean_over_sets([])


def test_each_protocol_and_score_has_its_own_column():
    table = side_by_side([*rows({"x": 1.0, "y": 2.0}), *rows({"x": 3.0}, "all"), *rows({"x": 4.0}, "all", "vote")])
    assert table == [
        {"set": "x", "AP, present, constant": 1.0, "AP, all, constant": 3.0, "AP, all, vote": 4.0},
        {"set": "y", "AP, present, constant": 2.0, "AP, all, constant": None, "AP, all, vote": None},
    ]
    with pytest.raises(ProtocolError, match="'x' comes twice in the column 'AP, present, constant'"):
        side_by_side([*rows({"x": 1.0}), *rows({"x": 1.0})])


def test_two_of_thirteen_sets_carry_two_thirds_of_the_papers_gain_for_qwen():
    table = read_paper()["table9_odinw13_map"]
    of = {p: rows(dict(zip(table["columns"], table["qwen2_5_vl_7b"][p], strict=True))) for p in ("base", "vision_r1")}
    assert mean_over_sets(of["base"], table["columns"])["value"] == pytest.approx(37.0, abs=0.05)  # the paper's average
    gains = set_gains(of["base"], of["vision_r1"])
    assert [g["set"] for g in gains[:2]] == ["NorthAmericaMushrooms", "EgoHands"]
    assert gains[0]["share"] + gains[1]["share"] == pytest.approx(2 / 3, abs=0.01)
    assert len(gains) == 13
