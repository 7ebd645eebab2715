import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vr1kit.baselines import (
    BASELINES,
    image_ap,
    match_greedily,
    v_triune,
    vision_reasoner,
    visual_rft_iou,
    vlm_r1_od_length,
    vlm_r1_weighted_sum,
)

SIZE = (100, 100)
SOME = settings(max_examples=40, deadline=None)
HIGHEST = {"visual_rft_iou": 2, "vision_reasoner": 3}  # else 1
SQUARE = [0, 0, 10, 10]
FAR = [80, 80, 90, 90]


def answer(boxes, labels=None) -> str:
    labels = ["cat"] * len(boxes) if labels is None else labels
    return json.dumps([{"bbox_2d": list(box), "label": label} for box, label in zip(boxes, labels, strict=True)])


def narrowed(width, box=SQUARE):
    """The left part of a 10 x 10 box: its IoU with the box is width / 10."""
    return [box[0], box[1], box[0] + width, box[3]]


def one(reward, boxes, truth, labels=None, truth_labels=None, **options):
    """The reward of a single answer; every label is cat where nothing else is said."""
    truth_labels = ["cat"] * len(truth) if truth_labels is None else truth_labels
    (value,) = reward([answer(boxes, labels)], truth, truth_labels, SIZE, **options)
    assert type(value) is float
    return pytest.approx(value)


# --- By hand ---


def test_vlm_r1_weighted_sum():
    truth = [SQUARE, FAR]
    found = [SQUARE, narrowed(6, FAR), [40, 40, 50, 50]]
    # position (1 + 0.6) / 2 = 0.8; nothing missed, one of three a false alarm: completeness 1 - (1 / 3) / 2 = 5 / 6
    assert one(vlm_r1_weighted_sum, found, truth) == 0.7 * 0.8 + 0.3 * 5 / 6
    # a wrong label costs the pair's IoU, but it is neither a miss nor a false alarm
    assert one(vlm_r1_weighted_sum, found, truth, ["cat", "dog", "cat"]) == 0.7 * 0.5 + 0.3 * 5 / 6
    assert one(vlm_r1_weighted_sum, [SQUARE], truth) == 0.7 * 0.5 + 0.3 * (1 - 0.5 / 2)
    assert one(vlm_r1_weighted_sum, [SQUARE], [SQUARE], ["CAT"]) == 1
    assert one(vlm_r1_weighted_sum, [narrowed(5)], [SQUARE]) == 0.7 * 0.5 + 0.3  # exactly 0.5 is enough
    assert one(vlm_r1_weighted_sum, [narrowed(4.9)], [SQUARE]) == 0
    # the best pair first, not the first box first
    assert one(vlm_r1_weighted_sum, [narrowed(6), narrowed(9)], [SQUARE]) == 0.7 * 0.9 + 0.3 * (1 - 0.5 / 2)


def test_vlm_r1_od_length():
    assert one(vlm_r1_od_length, [SQUARE, FAR], [SQUARE, FAR]) == 1
    assert one(vlm_r1_od_length, [SQUARE, FAR] * 2, [SQUARE, FAR]) == 0.5  # AP 1, twice as many boxes as there are
    assert one(vlm_r1_od_length, [SQUARE], [SQUARE, FAR]) == 51 / 101  # too few cost nothing but AP
    assert one(vlm_r1_od_length, [narrowed(7.2)], [SQUARE]) == 0.5


def test_image_ap():
    assert one(image_ap, [narrowed(7.2)], [SQUARE]) == 0.5  # 0.5, 0.55, 0.6, 0.65, 0.7 of ten thresholds
    assert one(image_ap, [SQUARE], [SQUARE, FAR]) == 51 / 101  # precision 1 at recalls 0, 0.01, ..., 0.5
    assert one(image_ap, [[40, 40, 50, 50], SQUARE], [SQUARE]) == 0.5  # a false box ranked first halves precision
    assert one(image_ap, [SQUARE, [40, 40, 50, 50]], [SQUARE]) == 1  # and ranked last costs nothing
    assert one(image_ap, [SQUARE], [SQUARE, FAR], truth_labels=["cat", "dog"]) == 0.5  # one of two classes
    assert one(image_ap, [SQUARE], [SQUARE], ["dog"]) == 0
    assert one(image_ap, [FAR, SQUARE], [SQUARE], ["dog", "cat"]) == 1  # dogs are not looked at where there are none


def test_visual_rft():
    truth = [SQUARE, FAR]
    assert one(visual_rft_iou, truth, truth) == 1 + 1
    assert one(visual_rft_iou, [SQUARE], truth) == 1 / 2 + 1  # IoU over max(P, G), confidence over P
    assert one(visual_rft_iou, [SQUARE, [40, 40, 50, 50]], truth) == 1 / 2 + 1 / 2
    assert one(visual_rft_iou, [SQUARE] * 2, [SQUARE]) == 1 / 2 + 1 / 2
    assert one(visual_rft_iou, [narrowed(6)], [SQUARE], ["dog"]) == 0.6 + 1  # label-free
    assert one(visual_rft_iou, [narrowed(5)], [SQUARE]) == 0  # 0.5 is not above 0.5
    assert one(visual_rft_iou, [narrowed(6), narrowed(9)], [SQUARE]) == 0.6 / 2 + 1 / 2  # the first takes the object


def test_vision_reasoner():
    square = [0, 0, 40, 40]
    # 8 to the right: IoU 32 / 48 > 0.5; the coordinates are 8, 0, 8, 0 off: 4 < 10; the centre 8 < 30
    assert one(vision_reasoner, [[8, 0, 48, 40]], [square], ["dog"]) == 3
    # 20 to the right: IoU 20 / 60; 10 is not below 10; 20 < 30
    assert one(vision_reasoner, [[20, 0, 60, 40]], [square]) == 1
    assert one(vision_reasoner, [[30, 0, 70, 40]], [square]) == 0
    # down and to the right by 18 and 24: the centre is 30 off
    assert one(vision_reasoner, [[18, 24, 58, 64]], [square]) == 0
    assert one(vision_reasoner, [[8, 0, 48, 40]], [square], pixel=0.1) == 1  # 4 > 1 and 8 > 3: the IoU alone is left
    assert one(vision_reasoner, [SQUARE, FAR], [SQUARE]) == 3 / 2
    assert one(vision_reasoner, [SQUARE], [SQUARE, FAR]) == 3 / 2
    # the assignment is the best, not greedy: each box has its own object
    near = [0, 0, 10, 8]  # IoU 0.8 with the square
    assert one(vision_reasoner, [SQUARE, near], [near, SQUARE]) == 3
    junk = [[90, 90, 91, 91]]
    assert one(vision_reasoner, junk * 119 + [SQUARE], [SQUARE]) == 3 / 120
    assert one(vision_reasoner, junk * 120 + [SQUARE], [SQUARE]) == 0  # the 121st is cut off


@pytest.mark.parametrize(
    ("width", "progress", "paid"),
    [(9, 0, True), (8.5, 0.1, True), (8.4, 0, False), (9, 0.11, False), (9.5, 0.25, True), (9.8, 0.26, False), (9.9, 1, True)],
)
def test_v_triune_threshold_rises(width, progress, paid):
    value = one(v_triune, [narrowed(width)], [SQUARE], progress=progress)
    assert value == (0.7 * width / 10 + 0.3 if paid else 0)


def test_v_triune():
    truth = [SQUARE, FAR]
    assert one(v_triune, truth, truth) == 1
    assert one(v_triune, truth, truth, ["CAT", "dog"]) == 0.7 / 2 + 0.3 / 2  # another label: missed, and a false alarm
    assert one(v_triune, [SQUARE] * 2, [SQUARE]) == 0.6 * (0.7 + 0.3 * (1 - 0.5 / 2))
    assert one(v_triune, [SQUARE], truth) == 0.6 * (0.7 / 2 + 0.3 * (1 - 0.5 / 2))
    # so a guess that makes the number right pays, whatever it is: part of the formula
    assert one(v_triune, [SQUARE, [40, 40, 50, 50]], truth) == 0.7 / 2 + 0.3 / 2
    assert 0.7 / 2 + 0.3 / 2 > 0.6 * (0.7 / 2 + 0.3 * (1 - 0.5 / 2))


def test_turns_of_the_greedy_matcher():
    iou = np.array([[0.9, 0.95], [0.0, 0.9]])
    turns = ("best", "prediction", "truth")
    pairs = {first: list(zip(*match_greedily(iou, iou >= 0.85, first), strict=True)) for first in turns}
    assert pairs == {"best": [(0, 1)], "prediction": [(0, 1)], "truth": [(0, 0), (1, 1)]}
    iou = np.array([[0.6], [0.9]])
    assert [match_greedily(iou, iou > 0.5, first)[0].tolist() for first in turns] == [[1], [0], [1]]
    equal = np.ones((2, 2))
    assert [i.tolist() for i in match_greedily(equal, equal > 0, "best")] == [[0, 1], [0, 1]]
    for shape in ((0, 3), (3, 0)):
        p_idx, g_idx = match_greedily(np.zeros(shape), np.zeros(shape, bool), "truth")
        assert p_idx.dtype == g_idx.dtype == np.intp and len(p_idx) == len(g_idx) == 0


def test_nothing_to_find_and_nothing_predicted():
    silent = {name: reward(["[]"], [], [], SIZE) for name, reward in BASELINES.items()}
    ones = ("vlm_r1_weighted_sum", "vlm_r1_od_length", "image_ap")
    assert silent == {name: [float(name in ones)] for name in BASELINES}
    for reward in BASELINES.values():
        assert reward([answer([SQUARE]), answer([SQUARE] * 3)], [], [], SIZE) == [0, 0]
        assert reward(["[]", "Nothing here.", ""], [SQUARE], ["cat"], SIZE) == [0, 0, 0]
        assert reward([], [SQUARE], ["cat"], SIZE) == []


# --- Properties ---


def random_case(seed: int, count_p: int, count_g: int):
    """Truth, and predictions near some of it and anywhere; two labels are in the truth, a third may be named."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 40, (count_p + count_g, 2))
    boxes = np.hstack([low, low + rng.uniform(8, 30, low.shape)])
    predicted, truth = boxes[:count_p], boxes[count_p:]
    p_labels, g_labels = rng.choice(["cat", "dog", "fox"], count_p).tolist(), rng.choice(["cat", "dog"], count_g).tolist()
    for i in range(min(count_p, count_g)):
        if rng.random() < 0.8:
            predicted[i] = np.clip(truth[i] + rng.uniform(-1.5, 1.5, 4), 0, 70)
            p_labels[i] = g_labels[i]
    return predicted, p_labels, truth, g_labels


CASES = (st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 6))


@SOME
@given(*CASES)
def test_bounds_and_the_honest_answer(seed, count_p, count_g):
    predicted, p_labels, truth, g_labels = random_case(seed, count_p, count_g)
    for name, reward in BASELINES.items():
        value, honest = reward([answer(predicted, p_labels), answer(truth, g_labels)], truth, g_labels, SIZE)
        assert 0 <= value <= HIGHEST.get(name, 1) + 1e-9
        if count_g:
            assert honest == pytest.approx(HIGHEST.get(name, 1))


@SOME
@given(*CASES)
def test_order_does_not_matter_where_it_is_not_confidence(seed, count_p, count_g):
    predicted, p_labels, truth, g_labels = random_case(seed, count_p, count_g)
    rng = np.random.default_rng(seed + 1)
    p_order, g_order = rng.permutation(count_p), rng.permutation(count_g)
    texts = [answer(predicted, p_labels), answer(predicted[p_order], [p_labels[i] for i in p_order])]
    for name, reward in BASELINES.items():
        before = reward(texts, truth, g_labels, SIZE)
        if name in ("vlm_r1_weighted_sum", "vision_reasoner", "v_triune"):
            assert before[0] == pytest.approx(before[1])
        if name != "v_triune":  # it goes through the objects in order
            assert reward(texts, truth[g_order], [g_labels[i] for i in g_order], SIZE) == pytest.approx(before)


@SOME
@given(*CASES)
def test_scale_does_not_matter_but_to_pixels(seed, count_p, count_g):
    predicted, p_labels, truth, g_labels = random_case(seed, count_p, count_g)
    for name, reward in BASELINES.items():
        options = {"pixel": 4.0} if name == "vision_reasoner" else {}
        large = reward([answer(4 * predicted, p_labels)], 4 * truth, g_labels, (400, 400), **options)
        assert large == pytest.approx(reward([answer(predicted, p_labels)], truth, g_labels, SIZE))


@SOME
@given(*CASES)
def test_a_far_box_pays_only_where_the_number_becomes_right(seed, count_p, count_g):
    predicted, p_labels, truth, g_labels = random_case(seed, count_p, max(1, count_g))
    more = answer([*predicted, [99, 99, 100, 100]], [*p_labels, "cat"])
    for name, reward in BASELINES.items():
        before, after = reward([answer(predicted, p_labels), more], truth, g_labels, SIZE)
        if name != "v_triune" or count_p >= len(truth):
            assert after <= before + 1e-9
        if name in ("vlm_r1_weighted_sum", "visual_rft_iou") and before:
            assert after < before


def cocoeval_ap(predicted, p_labels, truth, g_labels) -> float:
    """pycocotools on a single picture, all scores equal."""
    numbers = {"cat": 1, "dog": 2, "fox": 3}
    boxes = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in truth.tolist()]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1}],
            "categories": [{"id": number, "name": label} for label, number in numbers.items()],
            "annotations": [
                {"id": i, "image_id": 1, "category_id": numbers[label], "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
                for i, (box, label) in enumerate(zip(boxes, g_labels, strict=True), 1)
            ],
        }
        coco.createIndex()
        found = [
            {"image_id": 1, "category_id": numbers[label], "bbox": [x1, y1, x2 - x1, y2 - y1], "score": 0.99}
            for (x1, y1, x2, y2), label in zip(predicted.tolist(), p_labels, strict=True)
        ]
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 8), st.sampled_from([1, 4]))
def test_image_ap_is_that_of_pycocotools(seed, count_p, count_g, grain):
    """Whole numbers, also coarse ones: equal IoU and IoU on a threshold do occur."""
    predicted, p_labels, truth, g_labels = random_case(seed, count_p, count_g)
    predicted, truth = (np.maximum(np.round(boxes / grain) * grain, 0) for boxes in (predicted, truth))
    assert one(image_ap, predicted, truth, p_labels, g_labels) == cocoeval_ap(predicted, p_labels, truth, g_labels)


def test_image_ap_sees_a_hundred_of_a_class_as_pycocotools():
    for count in (99, 100):
        predicted = np.array([[90, 90, 91, 91]] * count + [SQUARE], dtype=float)
        expected = cocoeval_ap(predicted, ["cat"] * (count + 1), np.array([SQUARE], dtype=float), ["cat"])
        assert one(image_ap, predicted, [SQUARE]) == expected == pytest.approx(0.01 if count == 99 else 0)


# --- Borders ---


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["cat"]}, "labels.*2.*1.*cat"),
        ({"boxes_xyxy": [0, 0, 1, 1]}, r"boxes_xyxy.*\(4,\)"),
        ({"boxes_xyxy": [[0, 0, 1, 1], [0, 0, 1, float("nan")]]}, "boxes_xyxy.*finite.*nan"),
        ({"boxes_xyxy": [[0, 0, 1, 1], [60, 60, 10, 10]]}, "boxes_xyxy.*xywh.*60"),
        ({"size": (0, 100)}, r"size.*\(0, 100\)"),
    ],
)
def test_arguments_are_checked(name, changes, message):
    arguments = {"texts": ["[]"], "boxes_xyxy": [SQUARE, FAR], "labels": ["cat", "cat"], "size": SIZE} | changes
    with pytest.raises(ValueError, match=f"(?s){message}"):
        BASELINES[name](**arguments)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_progress_and_pixel_are_checked(value):
    with pytest.raises(ValueError, match=f"progress.*{value}"):
        one(v_triune, [], [], progress=value)
    with pytest.raises(ValueError, match="pixel.*nan|pixel.*0"):
        one(vision_reasoner, [], [], pixel=min(value, 0))
