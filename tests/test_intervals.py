"""Intervals: resampled AP is COCOeval's on a file in which drawn pictures are written out as often as they were drawn."""

import json
import warnings

import numpy as np
import pytest
from coco_sets import random_set

from vr1kit.evaluate import METRICS
from vr1kit.measures import intervals
from vr1kit.measures.intervals import (
    Matches,
    accumulate,
    accumulate_categories,
    accumulate_recall,
    draw_weights,
    find_matches,
    run_cocoeval,
)


def write(folder, coco, name="annotations.json"):
    (folder / name).write_text(json.dumps(coco))
    return folder / name


def find(folder, coco, detections):
    path = write(folder, coco)
    return find_matches(run_cocoeval(path, detections), path)


def write_out(coco, detections, weights):
    """The resampled set as if its copies were pictures of their own."""
    images, annotations, copied = [], [], []
    for image, times in zip(sorted(coco["images"], key=lambda i: i["id"]), weights, strict=True):
        for _ in range(times):
            new = len(images) + 1
            images.append({**image, "id": new})
            annotations += [{**a, "image_id": new} for a in coco["annotations"] if a["image_id"] == image["id"]]
            copied += [{**d, "image_id": new} for d in detections if d["image_id"] == image["id"]]
    annotations = [{**a, "id": i + 1} for i, a in enumerate(annotations)]
    return {**coco, "images": images, "annotations": annotations}, copied


@pytest.mark.parametrize("block", range(4))
def test_a_resample_is_what_cocoeval_says_of_the_pictures_written_out(block, tmp_path):
    """Crowds, empty pictures, equal scores and surplus boxes included; every resample drawn for a set is done in one call."""
    compared = 0
    for seed in range(300 + 8 * block, 308 + 8 * block):
        coco, detections = random_set(seed)
        if not detections:
            continue
        weights = draw_weights(len(coco["images"]), 3, np.random.default_rng(seed))
        ours = accumulate(find(tmp_path, coco, detections), weights)
        for k, drawn in enumerate(weights):
            again, copied = write_out(coco, detections, drawn)
            if not copied or all(a["iscrowd"] for a in again["annotations"]):
                continue
            naive = run_cocoeval(write(tmp_path, again), copied)
            for name, place in METRICS.items():
                assert ours[name][k] == pytest.approx(100 * naive.stats[place], abs=1e-9), (seed, k, name)
                compared += 1
    assert compared > 60


def test_how_many_are_done_at_once_changes_nothing(tmp_path, monkeypatch):
    coco, detections = random_set(3)
    matches = find(tmp_path, coco, detections)
    weights = draw_weights(len(coco["images"]), 40, np.random.default_rng(0))
    at_once = accumulate(matches, weights)
    monkeypatch.setattr(intervals, "AT_ONCE", 1)
    one_by_one = accumulate(matches, weights)
    for name in METRICS:
        assert at_once[name] == pytest.approx(one_by_one[name], abs=1e-9, nan_ok=True)


def test_hand_computed(tmp_path):
    """One object in each of two pictures. Found in the first with score 0.9; in the second a false alarm of 0.95."""
    hit = np.array([[True] * 10, [False] * 10])
    matches = Matches(np.array([0, 1]), np.array([0, 0]), np.array([0.9, 0.95]), hit, np.array([[1], [1]]))
    ap = accumulate(matches, np.array([[1, 1], [2, 0], [0, 2], [2, 1]]))["AP"]
    # false alarm first: precision 1/2 up to recall 1/2; hits alone: 1; nothing; 2/3 up to recall 2/3, at 67 of 101 points
    assert ap == pytest.approx([100 * 51 * 0.5 / 101, 100, 0, 100 * 67 * (2 / 3) / 101])


def test_nothing_found_is_0_and_nothing_to_find_is_no_number():
    none = Matches(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros((0, 10), bool), np.array([[1], [0]]))
    assert accumulate(none, np.array([[1, 1]]))["AP"].tolist() == [0]
    assert np.isnan(accumulate(none, np.array([[0, 2]]))["AP"]).all()


def test_every_category_has_its_ap(tmp_path):
    coco, detections = random_set(4)
    matches, evaluation = find(tmp_path, coco, detections), run_cocoeval(write(tmp_path, coco), detections)
    ap, ar = accumulate_categories(matches, np.ones((1, len(matches.truths)), int))
    theirs = evaluation.eval["precision"][:, :, :, 0, -1].mean(axis=1)  # (T, C)
    assert ap[:, 0] == pytest.approx(np.where(theirs > -1, theirs, np.nan), nan_ok=True, abs=1e-9)
    recall = evaluation.eval["recall"][:, :, 0, -1]
    assert ar[:, 0] == pytest.approx(np.where(recall > -1, recall, np.nan), nan_ok=True, abs=1e-9)


def test_recall_alone_is_the_same_without_a_ranking(tmp_path):
    for seed in range(20, 30):
        coco, detections = random_set(seed)
        matches, weights = find(tmp_path, coco, detections), draw_weights(len(coco["images"]), 20, np.random.default_rng(seed))
        assert accumulate_recall(matches, weights) == pytest.approx(accumulate(matches, weights)["AR100"], nan_ok=True)


def test_a_resample_without_objects_has_no_ap_and_warns_in_no_thread():
    """Filters of warnings are shared by threads, so resamples drawn in two must not lean on them."""
    ap = np.full((10, 3, 2), np.nan)  # (T, B, C)
    ap[:, 1] = [0.25, np.nan]
    ap[:, 2] = [0.25, 0.75]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = intervals.mean_over_categories(ap, ap)
    for values in found.values():
        assert np.array_equal(values, [np.nan, 25.0, 50.0], equal_nan=True)
