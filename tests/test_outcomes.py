import copy
import json

import numpy as np
import pytest
from coco_sets import random_set

from vr1kit.evaluate import METRICS
from vr1kit.measures.intervals import accumulate, find_matches, run_cocoeval
from vr1kit.measures.outcomes import THRESHOLDS, find_outcomes


def cocoeval(coco, detections, folder):
    """(path, COCOeval) or (path, None) where COCO's tools cannot start: without detections."""
    path = folder / "annotations.json"
    path.write_text(json.dumps(coco))
    return path, run_cocoeval(path, copy.deepcopy(detections))  # it writes into what it is given


def cocos_matches(evaluation):
    """Rows (image, category, score, what was matched at each threshold, ignored at each) in COCOeval's order, area all."""
    rows = []
    for e in evaluation.evalImgs:
        if e is not None and e["aRng"] == evaluation.params.areaRng[0]:
            for d, score in enumerate(e["dtScores"]):
                matched, ignored = e["dtMatches"][:, d].astype(int), e["dtIgnore"][:, d].astype(bool)
                rows.append((e["image_id"], e["category_id"], score, matched.tolist(), ignored.tolist()))
    return sorted(rows, key=lambda row: row[:2])  # stable: the order within a picture and category stays


def our_matches(o, coco):
    ids = np.array([a["id"] for a in coco["annotations"]] + [0])
    d = o.detections
    columns = (o.image_ids[d.picture], o.category_ids[d.category], d.score, ids[o.match], o.ignored)
    return list(zip(*(c.tolist() for c in columns), strict=True))


@pytest.mark.parametrize("block", range(10))
def test_matches_and_metrics_are_cocoevals_to_the_last_bit(block, tmp_path):
    """200 random sets, with crowds and empty pictures."""
    crowds = empty = 0
    for seed in range(20 * block, 20 * block + 20):
        coco, detections = random_set(seed)
        crowds += any(a["iscrowd"] for a in coco["annotations"])
        empty += len(coco["images"]) > len({a["image_id"] for a in coco["annotations"]})
        path, evaluation = cocoeval(coco, detections, tmp_path)
        if evaluation is None:
            continue
        ours = find_outcomes(path, detections)
        assert our_matches(ours, coco) == cocos_matches(evaluation), seed
        stats = {name: 100 * evaluation.stats[place] for name, place in METRICS.items()}
        for name, value in ours.metrics().items():
            assert value == stats[name] or (np.isnan(value) and stats[name] == -100), (seed, name)
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        for c, value in enumerate(ours.ap_by_category()):
            theirs = precision[:, :, c]
            assert (theirs == -1).all() if np.isnan(value) else value == 100 * theirs.mean(), (seed, c)
    assert crowds > 10 and empty > 5


def test_the_bootstraps_numbers_agree_where_there_are_no_crowds(tmp_path):
    """`intervals` knows no crowds, and has exact recall points where COCOeval's 0.7 is above 7/10 by rounding."""
    compared = 0
    for seed in range(100):
        coco, detections = random_set(seed, crowds=False)
        path, evaluation = cocoeval(coco, detections, tmp_path)
        ours = find_outcomes(path, detections)
        if evaluation is None or not coco["annotations"] or (ours.positives % 10 == 0)[ours.positives > 0].any():
            continue
        theirs = accumulate(find_matches(evaluation, path), np.ones((1, len(coco["images"])), int))
        for name, value in ours.metrics().items():
            assert theirs[name][0] == pytest.approx(value, abs=1e-9), (seed, name)
        compared += 1
    assert compared > 80


def small(annotations, detections, n_images=1):
    coco = {"images": [{"id": i, "file_name": "x", "width": 100, "height": 100} for i in range(1, n_images + 1)],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}],
            "annotations": [{"id": k, "image_id": 1, "iscrowd": 0, **a} for k, a in enumerate(annotations, 1)]}  # fmt: skip
    return find_outcomes(coco, [{"image_id": 1, "score": 0.99, **d} for d in detections], [0.5])


def test_by_hand_the_second_box_of_an_object_is_no_hit_and_a_crowd_takes_any_number():
    cat = {"category_id": 7, "bbox": [10, 10, 20, 20]}
    crowd = {"category_id": 7, "bbox": [50, 50, 40, 40], "iscrowd": 1}
    inside = {"category_id": 7, "bbox": [60, 60, 10, 10]}
    o = small([cat, crowd], [cat, cat, inside, inside, {**cat, "category_id": 9}, {**inside, "image_id": 2}], n_images=2)
    assert o.match[:, 0].tolist() == [0, -1, 1, 1, -1, -1]
    assert o.hit[:, 0].tolist() == [True, False, False, False, False, False]
    assert o.ignored[:, 0].tolist() == [False, False, True, True, False, False]
    assert o.positives.tolist() == [1, 0]
    assert o.metrics() == {"AP50": pytest.approx(100)}


def test_by_hand_ap_of_a_miss_between_two_hits():
    """Hit, false alarm, hit on 2 objects: precision 1 up to recall 0.5 (51 of 101 points), then 2/3."""
    a, b = {"category_id": 7, "bbox": [0, 0, 20, 20]}, {"category_id": 7, "bbox": [50, 50, 20, 20]}
    o = small([a, b], [{**b, "score": 0.2}, {**a, "score": 0.9}, {"category_id": 7, "bbox": [80, 0, 5, 5], "score": 0.5}])
    assert o.metrics()["AP50"] == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)
    assert o.detections.place.tolist() == [1, 2, 0]


def test_an_annotation_with_id_0_is_an_object_like_any_other(tmp_path):
    coco, _ = random_set(3, crowds=False)
    coco["annotations"] = [{**a, "id": k} for k, a in enumerate(coco["annotations"])]  # counted from 0, as some exporters do
    perfect = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.99} for a in coco["annotations"]]
    path, evaluation = cocoeval(coco, perfect, tmp_path)
    assert find_outcomes(path, perfect).metrics()["AP"] == pytest.approx(100)
    assert evaluation.stats[0] < 1  # COCOeval takes the match with object 0 for none


def test_nothing_to_find_has_no_ap_and_nothing_found_has_ap_0():
    assert np.isnan(small([], [{"category_id": 7, "bbox": [0, 0, 5, 5]}]).metrics()["AP50"])
    assert small([{"category_id": 7, "bbox": [0, 0, 5, 5]}], []).metrics() == {"AP50": 0.0}
    assert len(THRESHOLDS) == 10
