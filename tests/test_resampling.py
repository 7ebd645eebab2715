"""All twelve of COCO's numbers over resampled pictures are COCOeval's on a file in which drawn pictures are written out."""

import numpy as np
import pytest
from coco_sets import random_set
from test_intervals import write, write_out

from vr1kit.measures.intervals import accumulate, draw_weights, run_cocoeval
from vr1kit.measures.resampling import (
    PARTS,
    drop_detections,
    find_interval,
    find_parts,
    load_parts,
    resample_numbers,
    save_parts,
)
from vr1kit.measures.scorecard import METRICS, DetectionWarning, score_set


def stretched_set(seed):
    """A random set, every box and crowd two and a half times as large: objects of all three sizes."""
    coco, detections = random_set(seed)
    for row in (*coco["annotations"], *detections):
        row["bbox"] = [2.5 * v for v in row["bbox"]]
    for a in coco["annotations"]:
        a["area"] = a["bbox"][2] * a["bbox"][3]
    return coco, detections


def find(folder, coco, detections):
    path = write(folder, coco)
    return find_parts(run_cocoeval(path, detections), path)


def expect(stats, name):
    value = stats[METRICS.index(name)]
    return 100 * value if value > -1 else np.nan


@pytest.mark.parametrize("block", range(4))
def test_every_number_is_cocoevals_on_the_pictures_written_out(block, tmp_path):
    compared = dict.fromkeys(METRICS, 0)
    for seed in range(500 + 8 * block, 508 + 8 * block):
        coco, detections = stretched_set(seed)
        if not detections:
            continue
        weights = np.vstack(
            [np.ones((1, len(coco["images"])), int), draw_weights(len(coco["images"]), 2, np.random.default_rng(seed))]
        )
        ours = resample_numbers(find(tmp_path, coco, detections), weights)
        assert ours.keys() == set(METRICS)
        for k, drawn in enumerate(weights):
            again, copied = write_out(coco, detections, drawn)
            if not copied or all(a["iscrowd"] for a in again["annotations"]):
                continue
            stats = run_cocoeval(write(tmp_path, again), copied).stats
            for name in METRICS:
                assert ours[name][k] == pytest.approx(expect(stats, name), abs=1e-9, nan_ok=True), (seed, k, name)
                compared[name] += stats[METRICS.index(name)] > -1
    assert min(compared.values()) > 5, compared


def test_parts_are_kept_and_read_again(tmp_path):
    coco, detections = stretched_set(7)
    parts = find(tmp_path, coco, detections)
    save_parts(parts, tmp_path)
    weights = draw_weights(len(coco["images"]), 20, np.random.default_rng(0))
    want, read = resample_numbers(parts, weights), load_parts(tmp_path)
    assert list(read) == list(PARTS)
    for name, drawn in resample_numbers(read, weights).items():
        assert drawn == pytest.approx(want[name], nan_ok=True)
    for path in tmp_path.glob("matches_*.npz"):
        path.unlink()  # as before there were parts
    assert resample_numbers(load_parts(tmp_path), weights).keys() == {"AP", "AP50", "AP75", "AR100"}


def test_nothing_found_is_0_at_every_size(tmp_path):
    coco, _ = stretched_set(7)
    with pytest.warns(DetectionWarning, match="no detections"):
        card = score_set(write(tmp_path, coco), [])
    assert all(len(m.picture) == 0 for m in card.parts.values())
    once = resample_numbers(card.parts, np.ones((1, len(coco["images"])), int))
    for name, value in card.metrics.items():
        assert once[name][0] == pytest.approx(value, nan_ok=True)
    dropped = drop_detections(find(tmp_path, *stretched_set(7)))
    assert accumulate(dropped["all"], np.ones((1, len(coco["images"])), int))["AP"] == 0


def test_an_interval_is_of_what_is_a_number():
    assert find_interval(np.array([np.nan, 1.0, 1.0])) == (1, 1) and find_interval(np.array([np.nan])) is None
