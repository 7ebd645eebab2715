from dataclasses import replace

import numpy as np
import pytest
from coco_sets import random_set

from vr1kit.measures.errors import (
    KINDS,
    SIZES,
    by_number,
    by_size,
    compare_errors,
    count_changes,
    describe_errors,
    find_errors,
)
from vr1kit.measures.outcomes import find_outcomes

CAT, DOG = 1, 2


def errors(truths, detections, n_images=1, size=(100, 100)):
    """truths (category, box), detections (category, box, score), both perhaps with a picture's number at the end."""
    coco = {"images": [{"id": i, "width": size[0], "height": size[1]} for i in range(n_images)],
            "categories": [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}],
            "annotations": [{"id": k, "category_id": c, "bbox": b, "image_id": i[0] if i else 0, "iscrowd": 0}
                            for k, (c, b, *i) in enumerate(truths, 1)]}  # fmt: skip
    rows = [{"category_id": c, "bbox": b, "score": s, "image_id": i[0] if i else 0} for c, b, s, *i in detections]
    return find_errors(find_outcomes(coco, rows, [0.5]))


def in_order(e):
    """Kinds in the order in which the detections were given."""
    return e.kind[np.argsort(e.outcomes.detections.place)].tolist()


# Five objects and six boxes, one of each kind. IoUs: loose cat 200 / 600, loose "cat" on a dog 160 / 640.
CORNERS = (CAT, 0, 0), (CAT, 40, 0), (DOG, 0, 40), (DOG, 40, 40), (CAT, 70, 70)
TRUTHS = [(category, [x, y, 20, 20]) for category, x, y in CORNERS]
BOXES = [
    (CAT, [80, 0, 10, 10], 0.99),  # background, ranked first
    (CAT, [0, 0, 20, 20], 0.95),  # hit
    (CAT, [0, 0, 20, 20], 0.90),  # duplicate
    (CAT, [40, 10, 20, 20], 0.80),  # badly placed
    (CAT, [0, 40, 20, 20], 0.70),  # mislabelled
    (CAT, [40, 52, 20, 20], 0.60),  # both: its dog stays missed
]


def test_by_hand_one_error_of_each_kind():
    e = errors(TRUTHS, BOXES)
    assert in_order(e) == ["background", "", "duplicate", "badly_placed", "mislabelled", "both"]
    assert e.missed.tolist() == [False, False, False, True, True]
    assert e.truth_states().tolist() == ["found", "badly_placed", "mislabelled", "missed", "missed"]
    assert {kind: e.count(kind) for kind in KINDS} == {**dict.fromkeys(KINDS, 1), "missed": 2}


def test_by_hand_what_mending_each_kind_is_worth():
    """Cats: 3 objects, precision 1/2 up to recall 1/3 (34 of 101 points). Dogs: 2 objects, nothing detected."""
    e = errors(TRUTHS, BOXES)
    points = {kind: 101 * 2 * e.ap(kind) / 100 for kind in (None, *KINDS)}  # sum of precisions over both categories
    assert points[None] == pytest.approx(34 / 2)
    assert points["background"] == pytest.approx(34)  # the hit comes first
    assert points["badly_placed"] == pytest.approx(67 / 2)  # ranks: false, hit, false, hit: 1/2 up to recall 2/3
    assert points["mislabelled"] == pytest.approx(34 / 2 + 51)  # the dog moves over: recall 1/2 of the dogs at precision 1
    assert points["missed"] == pytest.approx(51 / 2)  # 2 cats asked for: recall 1/2; 1 dog asked for, and not found
    assert points["duplicate"] == points["both"] == points[None]  # below the last hit: taken away, they change nothing
    rows = {row["kind"]: row for row in describe_errors(e)}
    assert rows["mislabelled"]["dAP"] == pytest.approx(100 * 51 / 202) and rows["missed"]["count"] == 2
    assert rows["missed"]["objects"] == 5 and rows["missed"]["detections"] == 6


def test_of_two_boxes_that_want_an_object_only_the_higher_scored_can_be_mended():
    loose, wrong = (CAT, [40, 10, 20, 20], 0.8), (DOG, [40, 0, 20, 20], 0.7)
    e = errors(TRUTHS[:2], [loose, wrong])
    assert in_order(e) == ["badly_placed", "mislabelled"] and e.mends.tolist() == [True, False]
    assert e.ap("mislabelled") == e.ap() == 0 and e.ap("badly_placed") == pytest.approx(100 * 51 / 101)
    e = errors(TRUTHS[:2], [(*loose[:2], 0.7), (*wrong[:2], 0.8)])
    assert e.ap("mislabelled") == pytest.approx(100 * 51 / 101) and e.ap("badly_placed") == 0
    assert e.truth_states().tolist() == ["missed", "mislabelled"]


def test_a_loose_box_on_an_object_that_was_found_is_taken_away_and_the_limits_are_tides():
    hit, loose = (CAT, [0, 0, 20, 20], 0.5), (CAT, [0, 10, 20, 20], 0.9)
    e = errors(TRUTHS[:1], [loose, hit])
    assert in_order(e) == ["badly_placed", ""] and not e.mends.any() and not e.missed.any()
    assert e.ap() == pytest.approx(50) and e.ap("badly_placed") == pytest.approx(100)
    half = (CAT, [0, 0, 20, 10], 0.4)  # IoU exactly 0.5 with an object that was found
    tenth, below = (CAT, [0, 0, 20, 2], 0.3), (CAT, [0, 0, 20, 1.9], 0.2)  # IoU 0.1, and 0.095
    assert in_order(errors(TRUTHS[:1], [hit, half, tenth, below])) == ["", "duplicate", "badly_placed", "background"]
    dog = (DOG, [0, 0, 20, 2], 0.3)
    assert in_order(errors(TRUTHS[:1], [hit, dog, (DOG, *below[1:])])) == ["", "both", "background"]


def test_nothing_detected_and_nothing_there():
    e = errors(TRUTHS, [])
    assert e.missed.all() and e.ap() == 0 and np.isnan(e.ap("missed"))
    assert next(row for row in describe_errors(e) if row["kind"] == "missed")["dAP"] is None
    e = errors([], BOXES[:1])
    assert in_order(e) == ["background"] and np.isnan(e.ap())


def test_sizes_are_shares_of_the_picture_and_of_the_object_where_there_is_one():
    cocos, ours = (640, 480), (96, 96)
    for size in (cocos, ours):
        unit = np.sqrt(size[0] * size[1] / (640 * 480))  # the same scene in another resolution
        squares = [
            [x * unit, 0, side * unit, side * unit]
            for x, side in ((0, 31), (100, 33), (200, 97), (100, 100), (400, 10), (400, 90))
        ]
        truths = [(CAT, box) for box in squares[:3]]
        boxes = [(CAT, box, 0.9 - x / 10) for x, box in enumerate(squares[3:])]
        e = errors(truths, boxes, size=size)
        assert in_order(e) == ["badly_placed", "background", "background"]
        table = {(r["group"], r["kind"]): r["count"] for r in describe_errors(e, by_size) if r["count"]}
        assert table == {("medium", "badly_placed"): 1, ("small", "background"): 1, ("medium", "background"): 1,
                         ("small", "missed"): 1, ("large", "missed"): 1}  # fmt: skip
    assert [name for name, _ in SIZES] == ["small", "medium", "large"]
    with pytest.raises(ValueError, match="no width and height"):
        by_size(errors(TRUTHS, BOXES, size=(0, 0)))


def test_numbers_count_the_objects_of_the_picture():
    truths = [*TRUTHS, (CAT, [0, 0, 9, 9], 1)]
    boxes = [(CAT, [50, 50, 9, 9], 0.9, 1), (CAT, [50, 50, 9, 9], 0.9, 2), *BOXES]
    table = {(r["group"], r["kind"]): r for r in describe_errors(errors(truths, boxes, n_images=3), by_number)}
    assert table["none", "background"]["count"] == table["1 to 3", "background"]["count"] == 1
    assert table["4 to 6", "missed"]["count"] == 2 and table["1 to 3", "missed"]["count"] == 1
    assert (table["4 to 6", "missed"]["objects"], table["4 to 6", "missed"]["detections"]) == (5, 6)
    assert table["more than 10", "missed"]["objects"] == 0


def test_before_against_after():
    before, after = errors(TRUTHS, BOXES), errors(TRUTHS, [*BOXES[1:2], *((c, b, 0.9) for c, b in TRUTHS[1:4])])
    rows = {row["kind"]: row for row in compare_errors(before, after)}
    assert (rows["missed"]["before"], rows["missed"]["after"], rows["missed"]["difference"]) == (2, 1, -1)
    assert rows["duplicate"]["after"] == 0 and rows["duplicate"]["dAP_after"] == 0.0
    assert rows["mislabelled"]["dAP_before"] == pytest.approx(100 * 51 / 202)
    assert {(r["before"], r["after"]): r["objects"] for r in count_changes(before, after)} == {
        ("found", "found"): 1, ("badly_placed", "found"): 1, ("mislabelled", "found"): 1, ("missed", "found"): 1,
        ("missed", "missed"): 1,
    }  # fmt: skip
    for other in (errors(TRUTHS[:4], BOXES), errors(TRUTHS, BOXES, n_images=2)):
        with pytest.raises(ValueError, match="different annotations"):
            compare_errors(before, other)


@pytest.mark.parametrize("seed", range(30))
def test_everything_has_one_kind_and_groups_are_parts(seed):
    coco, detections = random_set(seed)
    outcomes = find_outcomes(coco, detections)
    e = find_errors(outcomes)
    assert e.outcomes.metrics() == pytest.approx({"AP50": outcomes.metrics()["AP50"]}, nan_ok=True)
    assert e.ap() == pytest.approx(outcomes.metrics()["AP50"], nan_ok=True)
    good = outcomes.hit[:, 0] | outcomes.ignored[:, 0]
    assert ((e.kind == "") == good).all()
    found = np.zeros(len(outcomes.truths), bool)
    found[outcomes.match[outcomes.hit[:, 0], 0]] = True
    claimed = np.zeros(len(found), bool)
    claimed[e.about[e.mends]] = True
    assert e.mends.sum() == claimed.sum()  # an object is claimed once
    assert ((found.astype(int) + claimed + e.missed + outcomes.truths.crowd) == 1).all()
    whole = {row["kind"]: row["count"] for row in describe_errors(e)}
    for grouping in (by_size, by_number):
        for kind in KINDS:
            assert sum(r["count"] for r in describe_errors(e, grouping) if r["kind"] == kind) == whole[kind]


def test_errors_need_matches_at_an_iou_of_a_half():
    e = errors(TRUTHS, BOXES)
    with pytest.raises(ValueError, match="defined at IoU 0.5"):
        find_errors(replace(e.outcomes, thresholds=np.array([0.75])))
