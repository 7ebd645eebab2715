import contextlib
import copy
import io
import json
import warnings

import numpy as np
import pytest
from coco_sets import random_set
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vr1kit.measures.outcomes import find_outcomes
from vr1kit.measures.scorecard import METRICS, DetectionError, DetectionWarning, check_detections, score_set

COCO_SET = {
    "images": [
        {"id": 1, "file_name": "a", "width": 100, "height": 100},
        {"id": 2, "file_name": "b", "width": 100, "height": 100},
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 7, "name": "emu"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 5, "bbox": [50, 50, 40, 40], "area": 1600, "iscrowd": 0},
    ],
}
CAT = {"image_id": 1, "category_id": 3, "bbox": [10, 10, 20, 20], "score": 0.9}


@pytest.fixture
def path(tmp_path):
    return write(tmp_path, COCO_SET)


def write(folder, coco):
    file = folder / "annotations.json"
    file.write_text(json.dumps(coco))
    return file


def by_hand(path, detections):
    """COCO's tools as their own demo uses them."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("block", range(5))
def test_the_twelve_numbers_are_cocoevals_to_the_last_bit(block, tmp_path):
    for seed in range(200 + 10 * block, 210 + 10 * block):
        coco, detections = random_set(seed)
        if not detections or not any(not a["iscrowd"] for a in coco["annotations"]):
            continue
        path, before = write(tmp_path, coco), copy.deepcopy(detections)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DetectionWarning)
            card = score_set(path, detections)
        assert detections == before, "what is given is not changed"
        evaluation = by_hand(path, detections)
        assert [-0.01 if np.isnan(v) else v / 100 for v in card.metrics.values()] == pytest.approx(
            [-0.01 if v == -1 else v for v in evaluation.stats], abs=1e-15
        )
        ours = find_outcomes(coco, detections).ap_by_category()
        assert [card.by_category[c["name"]]["AP"] for c in sorted(coco["categories"], key=lambda c: c["id"])] == pytest.approx(
            ours, nan_ok=True
        )


def test_what_is_not_there_has_no_number_and_what_is_found_is_full_marks(path):
    card = score_set(path, [CAT, {**CAT, "category_id": 5, "bbox": [50, 50, 40, 40]}])
    assert tuple(card.metrics) == METRICS and card.notes == ()
    assert card.metrics["AP"] == pytest.approx(100) and card.metrics["APs"] == pytest.approx(100)
    assert np.isnan(card.metrics["APl"]) and np.isnan(card.by_category["emu"]["AP"])
    assert card.by_category["dog"] == {m: pytest.approx(100) for m in ("AP", "AP50", "AP75", "AR100")}


def test_no_detections_is_0_and_said(path):
    with pytest.warns(DetectionWarning, match="no detections; every number is 0"):
        card = score_set(path, [])
    assert card.metrics["AP"] == card.metrics["AR100"] == card.by_category["cat"]["AP"] == 0
    assert np.isnan(card.metrics["APl"])


REFUSED = {
    "picture 9 is not in annotations.json": {"image_id": 9},
    "picture '1' is not in": {"image_id": "1"},
    r"picture \[1\] is not in": {"image_id": [1]},
    "score must be a finite number, got nan": {"score": float("nan")},
    "score must be a finite number, got inf": {"score": float("inf")},
    "score must be a finite number, got None": {"score": None},
    "score must be a finite number, got '0.9'": {"score": "0.9"},
    "bbox must be four finite numbers": {"bbox": [1, 2, float("nan"), 4]},
    r"bbox must be .* got \[1, 2, 3\]": {"bbox": [1, 2, 3]},
    "bbox must be .* got 'all'": {"bbox": "all"},
}


@pytest.mark.parametrize("message", REFUSED)
def test_bad_detections_are_refused_with_their_place(path, message):
    with pytest.raises(DetectionError, match=f"detection 1: {message}"):
        score_set(path, [CAT, {**CAT, **REFUSED[message]}])


def test_a_missing_key_and_what_is_no_list_are_refused(path):
    for key in CAT:
        with pytest.raises(DetectionError, match=f"detection 0: has no {key}"):
            check_detections(path, [{k: v for k, v in CAT.items() if k != key}])
    with pytest.raises(DetectionError, match="must be a list of COCO results, got dict"):
        check_detections(path, CAT)
    with pytest.raises(DetectionError, match="detection 0: has no image_id"):
        check_detections(path, ["cat"])


def test_numpy_numbers_are_numbers(path):
    card = score_set(path, [{**CAT, "score": np.float32(0.5), "bbox": np.array([10, 10, 20, 20]), "image_id": np.int64(1)}])
    assert card.by_category["cat"]["AP"] == pytest.approx(100)


def test_oddities_count_as_with_cocos_tools_and_are_said(path):
    odd = {
        "1 of a category that the set does not have: left out": [{**CAT, "category_id": 99}],
        "2 repeat another of the same picture, category and box": [CAT, CAT],
        "2 without width or height: false alarms": [{**CAT, "bbox": [10, 10, 0, 5]}, {**CAT, "bbox": [10, 10, 5, -1]}],
        "1 beyond the 100 highest scored": [{**CAT, "bbox": [0, k, 1, 1]} for k in range(100)],
    }
    for note, surplus in odd.items():
        detections = [CAT, *surplus]
        with pytest.warns(DetectionWarning, match=note):
            card = score_set(path, detections)
        assert len(card.notes) == 1 and card.counts["detections"] == len(detections)
        stats = by_hand(path, detections).stats
        assert card.metrics["AP"] == 100 * stats[0] and card.metrics["AR100"] == 100 * stats[8]
    everything = [CAT, *(d for surplus in odd.values() for d in surplus)]
    assert len(check_detections(path, everything)[1]) == 4


def test_an_annotation_with_id_0_is_said(tmp_path):
    coco = copy.deepcopy(COCO_SET)
    coco["annotations"][0]["id"] = 0
    with pytest.warns(DetectionWarning, match="id 0; COCOeval takes a hit on it for a false alarm"):
        card = score_set(write(tmp_path, coco), [CAT])
    assert card.by_category["cat"]["AP"] == 0


def test_bad_annotations_are_refused(tmp_path):
    def refused(message, **parts):
        with pytest.raises(DetectionError, match=message):
            score_set(write(tmp_path, {**COCO_SET, **parts}), [CAT])

    refused("nothing is annotated", annotations=[])
    refused("nothing is annotated", annotations=[{**COCO_SET["annotations"][0], "iscrowd": 1}])
    refused("nothing is annotated", images=[])
    refused(
        "entry 0 of annotations has no area, iscrowd",
        annotations=[{k: COCO_SET["annotations"][0][k] for k in ("id", "image_id", "category_id", "bbox")}],
    )
    refused("entry 1 of categories has no id, name", categories=[*COCO_SET["categories"][:1], "dog"])
    refused("needs the lists images, annotations and categories", images=None)
    refused("the annotation id 1 stands 2 times", annotations=COCO_SET["annotations"][:1] * 2)
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(DetectionError, match="not JSON"):
        score_set(tmp_path / "annotations.json", [CAT])
    with pytest.raises(DetectionError, match="no such file"):
        score_set(tmp_path / "nowhere.json", [CAT])


def test_a_name_that_stands_for_two_categories_keeps_both(tmp_path):
    coco = copy.deepcopy(COCO_SET)
    coco["categories"][1]["name"] = "cat"
    card = score_set(write(tmp_path, coco), [CAT])
    assert card.by_category["cat"]["AP"] == pytest.approx(100) and card.by_category["cat (id 5)"]["AP"] == 0
