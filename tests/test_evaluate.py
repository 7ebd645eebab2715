import json

import numpy as np
import pytest

from vr1kit.data import read_coco
from vr1kit.evaluate import METRICS, Suites, evaluate_policy, score_detections, to_detections
from vr1kit.measures.intervals import (
    Matches,
    accumulate,
    bootstrap_suite,
    find_matches,
    interval,
    run_cocoeval,
)  # fmt: skip
from vr1kit.prompts import write_answer


def right_answers(policy, data):
    answers = []
    for r in data.records:
        boxes, _ = policy.write_boxes(r.boxes_xyxy_px, r.width, r.height)
        answers.append(write_answer(boxes, r.labels))
    return answers


def test_right_answers_score_full_marks_up_to_the_rounding_of_the_models_space(toybox_folder, random_policy):
    data = read_coco(toybox_folder / "annotations.json")
    detections, counts = to_detections(random_policy, data, right_answers(random_policy, data))
    scores, _ = score_detections(data.annotations, detections)
    assert counts == {"boxes": sum(len(r.labels) for r in data.records), "unknown_labels": 0, "malformed": 0}
    assert scores["AP50"] == pytest.approx(100) and scores["AP"] > 90


def test_unknown_labels_and_malformed_answers_are_counted_not_scored(toybox_folder, random_policy):
    data = read_coco(toybox_folder / "annotations.json")
    answers = ['[{"bbox_2d": [1, 2, 30, 40], "label": "unicorn"}]', "nothing here"] + ["[]"] * (len(data.records) - 2)
    detections, counts = to_detections(random_policy, data, answers)
    assert detections == [] and counts == {"boxes": 1, "unknown_labels": 1, "malformed": 1}
    scores, matches = score_detections(data.annotations, detections)
    assert set(scores.values()) == {0.0}
    assert matches.truths.sum() == sum(len(r.labels) for r in data.records)


def random_detections(data, rng, n=60):
    out = []
    for r in data.records:
        for box, label in zip(r.boxes_xyxy_px, r.labels, strict=True):
            for _ in range(rng.integers(0, 3)):
                x1, y1, x2, y2 = box + rng.normal(0, 4, 4)
                if x2 > x1 and y2 > y1:
                    wrong = rng.random() < 0.2
                    category = rng.choice(list(data.categories.values())) if wrong else data.categories[label]
                    row = {"image_id": r.image_id, "category_id": int(category), "bbox": [x1, y1, x2 - x1, y2 - y1]}
                    out.append({**row, "score": float(rng.choice([0.99, rng.random()]))})
    return out


@pytest.mark.parametrize("seed", range(4))
def test_accumulate_with_unit_weights_is_cocoeval(toybox_folder, seed, tmp_path):
    data = read_coco(toybox_folder / "annotations.json")
    evaluation = run_cocoeval(data.annotations, random_detections(data, np.random.default_rng(seed)))
    matches = find_matches(evaluation, data.annotations)
    matches.save(tmp_path / "m.npz")
    ours = accumulate(Matches.load(tmp_path / "m.npz"), np.ones((1, len(data.records)), int))
    for name, place in METRICS.items():
        assert ours[name][0] == pytest.approx(100 * evaluation.stats[place], abs=1e-3), name


def test_the_bootstrap_is_paired(toybox_folder):
    data = read_coco(toybox_folder / "annotations.json")
    rng = np.random.default_rng(0)
    good = find_matches(run_cocoeval(data.annotations, random_detections(data, rng)), data.annotations)
    none = find_matches(None, data.annotations)
    out = bootstrap_suite({"a": [{"toybox": good}] * 2, "b": [{"toybox": good}], "none": [{"toybox": none}]}, resamples=50)
    assert (out["a"]["AP"] == out["b"]["AP"]).all()  # the same results on the same pictures: no difference at all
    assert (out["none"]["AP"] == 0).all()
    low, high = interval(out["a"]["AP"])
    point = accumulate(good, np.ones((1, len(data.records)), int))["AP"][0]
    assert low < point < high


def test_a_policy_is_tested_on_all_suites_and_everything_is_kept(toybox_folder, random_policy, tmp_path):
    data = read_coco(toybox_folder / "annotations.json")
    image = str(data.records[0].image_path)
    question = {"image": image, "image_id": 0, "question": "Is there a ball?", "answer": "yes", "kind": "yes_no"}
    rows = evaluate_policy(random_policy, Suites({"in_domain": [data]}, [question]), tmp_path, batch=3)
    assert {(r["suite"], r["set"], r["metric"]) for r in rows if r["suite"] == "in_domain"} == {
        ("in_domain", "mean", m) for m in METRICS
    }
    assert [r["n_images"] for r in rows if r["suite"] == "questions"] == [1, 1]
    kept = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(kept) == len(data.records) + 1
    assert (tmp_path / "matches" / "toybox.npz").exists() and (tmp_path / "counts.csv").exists()
