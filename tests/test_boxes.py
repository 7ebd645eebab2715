import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask

from vr1kit import boxes

SMALL = settings(max_examples=60, deadline=None)


def random_boxes_xyxy(rng: np.random.Generator, count: int, extent: float = 100.0) -> np.ndarray:
    corners = rng.uniform(0, extent, (count, 2, 2))
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)  # (count, 4)


def plain_iou(p, g) -> float:
    """The definition, box by box, without numpy."""
    width = max(0.0, min(p[2], g[2]) - max(p[0], g[0]))
    height = max(0.0, min(p[3], g[3]) - max(p[1], g[1]))
    union = (p[2] - p[0]) * (p[3] - p[1]) + (g[2] - g[0]) * (g[3] - g[1]) - width * height
    return width * height / union if union else 0.0


def test_formats_by_hand_and_back():
    boxes_xyxy = [[1.5, 2, 4, 8], [0, 0, 0, 0]]
    boxes_xywh = [[1.5, 2, 2.5, 6], [0, 0, 0, 0]]  # 4 - 1.5 = 2.5, 8 - 2 = 6
    assert boxes.xyxy_to_xywh(boxes_xyxy).tolist() == boxes_xywh
    assert boxes.xywh_to_xyxy(boxes_xywh).tolist() == boxes_xyxy


def test_conversion_leaves_its_argument_alone():
    given_boxes = np.array([[1.0, 2.0, 4.0, 8.0]])
    boxes.xyxy_to_xywh(given_boxes)
    boxes.xywh_to_xyxy(given_boxes)
    boxes.clip_boxes_xyxy(given_boxes, (3, 3))
    assert given_boxes.tolist() == [[1, 2, 4, 8]]


def test_clip():
    clipped = boxes.clip_boxes_xyxy([[-5, 2, 30, 8], [25, 2, 30, 8]], (20, 6))
    assert clipped.tolist() == [[0, 2, 20, 6], [20, 2, 20, 6]]  # the second lies right of the picture: empty


def test_area():
    # 2.5 * 6 = 15; a point; right of left by -3 and below top by -2 is 0, not 6
    assert boxes.area([[1.5, 2, 4, 8], [3, 3, 3, 3], [5, 5, 2, 3]]).tolist() == [15, 0, 0]


def test_iou_by_hand():
    p_boxes = [[0, 0, 10, 10], [0, 0, 5, 10], [20, 20, 30, 30]]
    g_boxes = [[0, 0, 10, 10], [5, 5, 15, 15]]
    # row 0: the same box; 5 * 5 / (100 + 100 - 25) = 25 / 175
    # row 1: 50 / 100; shares only the line x = 5 with the second: 0
    # row 2: far away from both
    assert boxes.iou_matrix(p_boxes, g_boxes) == pytest.approx(np.array([[1, 1 / 7], [0.5, 0], [0, 0]]))


def test_one_pixel_box_equals_itself():
    assert boxes.iou_matrix([[3, 3, 4, 4]], [[3, 3, 4, 4]]).item() == 1.0


def test_giou_by_hand():
    # Two unit squares, one unit apart: IoU 0, union 2, hull 3 x 1 = 3, so 0 - (3 - 2) / 3
    assert boxes.giou_matrix([[0, 0, 1, 1]], [[2, 0, 3, 1]]).item() == pytest.approx(-1 / 3)
    # Corner overlap of before: 1 / 7 - (15 * 15 - 175) / 225 = 1 / 7 - 2 / 9
    assert boxes.giou_matrix([[0, 0, 10, 10]], [[5, 5, 15, 15]]).item() == pytest.approx(1 / 7 - 2 / 9)
    assert boxes.giou_matrix([[0, 0, 2, 2]], [[0, 0, 2, 2]]).item() == 1.0


def test_empty_boxes_have_iou_and_giou_zero():
    point, line = [3, 3, 3, 3], [0, 3, 9, 3]
    for box in (point, line):
        assert boxes.iou_matrix([box], [box]).item() == 0.0
        assert boxes.giou_matrix([box], [box]).item() == 0.0
    assert boxes.iou_matrix([[5, 5, 2, 3]], [[0, 0, 10, 10]]).item() == 0.0  # right of left, below top


@pytest.mark.parametrize(("count_p", "count_g"), [(0, 0), (0, 3), (3, 0), (1, 1), (7, 3), (500, 40), (3, 5000)])
def test_shapes_and_agreement_with_the_definition(count_p, count_g):
    rng = np.random.default_rng(count_p + count_g)
    p_boxes, g_boxes = random_boxes_xyxy(rng, count_p), random_boxes_xyxy(rng, count_g)
    iou = boxes.iou_matrix(p_boxes, g_boxes)
    assert iou.shape == boxes.giou_matrix(p_boxes, g_boxes).shape == (count_p, count_g)
    for p_index, g_index in rng.integers(0, (max(1, count_p), max(1, count_g)), (50, 2)) if iou.size else ():
        assert iou[p_index, g_index] == pytest.approx(plain_iou(p_boxes[p_index], g_boxes[g_index]))


@SMALL
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(1, 80))
def test_iou_equals_pycocotools(seed, count_p, count_g):
    rng = np.random.default_rng(seed)
    p_boxes, g_boxes = random_boxes_xyxy(rng, count_p), random_boxes_xyxy(rng, count_g)
    theirs = mask.iou(boxes.xyxy_to_xywh(p_boxes), boxes.xyxy_to_xywh(g_boxes), [0] * count_g)
    np.testing.assert_allclose(boxes.iou_matrix(p_boxes, g_boxes), theirs, rtol=1e-9, atol=1e-12)


@SMALL
@given(st.integers(0, 2**32 - 1))
def test_bounds_symmetry_and_scale(seed):
    rng = np.random.default_rng(seed)
    p_boxes, g_boxes = random_boxes_xyxy(rng, 6), random_boxes_xyxy(rng, 4)
    iou, giou = boxes.iou_matrix(p_boxes, g_boxes), boxes.giou_matrix(p_boxes, g_boxes)
    assert iou.min() >= 0 and iou.max() <= 1
    assert giou.min() >= -1 and (giou <= iou + 1e-12).all()
    np.testing.assert_array_equal(boxes.iou_matrix(g_boxes, p_boxes), iou.T)
    np.testing.assert_allclose(boxes.iou_matrix(p_boxes * 7.3, g_boxes * 7.3), iou, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(np.diag(boxes.iou_matrix(p_boxes, p_boxes)), 1.0)


@pytest.mark.parametrize("bad", [[1, 2, 3, 4], [[1, 2, 3]], np.zeros((2, 5)), np.zeros((0, 3)), [[1, 2], [3]], "box", None])
def test_wrong_shapes_name_argument_and_value(bad):
    with pytest.raises(ValueError, match="boxes_xyxy"):
        boxes.xyxy_to_xywh(bad)
    with pytest.raises(ValueError, match="g_boxes_xyxy"):
        boxes.iou_matrix([[0, 0, 1, 1]], bad)
    with pytest.raises(ValueError, match=r"\[1, 2, 3, 4\]"):
        boxes.area([1, 2, 3, 4])
