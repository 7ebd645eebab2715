"""Sloppy annotators: what they change, and what they leave."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vr1kit.annotators import ANNOTATORS, SLOPPY, annotate
from vr1kit.boxes import iou_matrix
from vr1kit.prompts import sort_left_to_right

SIZE = (96, 96)


def some_boxes(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 70, (n, 2))
    boxes = np.concatenate([starts, starts + rng.integers(8, 26, (n, 2))], axis=1).astype(float)
    return boxes[sort_left_to_right(boxes)]


@given(st.sampled_from(list(ANNOTATORS)), st.integers(0, 12), st.integers(0, 1000))
def test_boxes_stay_boxes_in_the_picture_with_a_label_each(annotator, n, seed):
    boxes = some_boxes(n, seed)
    found, labels = annotate(boxes, [str(i) for i in range(n)], SIZE, annotator, np.random.default_rng(seed))
    assert found.shape == (len(labels), 4) and len(set(labels)) == len(labels) <= n and bool(labels) == bool(n)
    assert (found[:, :2] < found[:, 2:]).all() and (found >= 0).all() and (found <= 96).all() and (found == found.round()).all()
    if annotator != "unsorted":
        assert (sort_left_to_right(found) == np.arange(len(found))).all()
    if annotator in ("missing", "unsorted"):  # what is there is exact
        assert all((boxes[int(label)] == box).all() for label, box in zip(labels, found, strict=True))
    again, _ = annotate(boxes, [str(i) for i in range(n)], SIZE, annotator, np.random.default_rng(seed))
    assert (again == found).all()


def test_the_errors_are_as_large_as_said():
    rng, kept, iou, moved = np.random.default_rng(0), 0, [], 0
    for seed in range(300):
        boxes, names = some_boxes(8, seed), list("abcdefgh")
        kept += len(annotate(boxes, names, SIZE, "missing", rng)[1])
        loose, labels = annotate(boxes, names, SIZE, "loose", rng)
        iou += list(np.diag(iou_matrix(loose, boxes[["abcdefgh".index(x) for x in labels]])))
        moved += annotate(boxes, names, SIZE, "unsorted", rng)[1] != names
    assert kept / 2400 == pytest.approx(1 - SLOPPY["missing"].missing, abs=0.03)
    assert 0.7 < np.mean(iou) < 0.8 and SLOPPY["loose"].edge_error == 0.1
    assert moved > 295


def test_an_unknown_annotator_is_refused():
    with pytest.raises(ValueError, match="annotator 'drunk' is not known; there are: loose, missing, unsorted, careless"):
        annotate(np.zeros((0, 4)), [], SIZE, "drunk", np.random.default_rng(0))
