"""Filters: each reason by hand, and nothing looked at that was not asked for."""

from pathlib import Path

import numpy as np
import pytest

from vr1kit.filters import REASONS, Limits, count_truncated, describe_shares, find_reasons, has_duplicates, is_hard
from vr1kit.records import Record


def record(boxes, labels=None, **changes):
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    return Record(Path("a.png"), 1, 100, 50, boxes, tuple(labels or ["cat"] * len(boxes)), "set", **changes)


GOOD = [10, 10, 30, 30]
CASES = [  # record, limits, reasons
    (record([GOOD]), Limits(), ()),
    (record([]), Limits(), ("too few",)),
    (record([]), Limits(min_instances=0), ()),
    (record([GOOD] * 31), Limits(), ("too many",)),
    (record([[10, 10, 13.9, 30]]), Limits(), ("tiny",)),
    (record([[10, 10, 14, 30]]), Limits(), ()),
    (record([GOOD], ignored=1), Limits(), ()),
    (record([GOOD], ignored=1), Limits(max_ignored=0), ("crowd",)),
    (record([GOOD, GOOD], truncated=1), Limits(max_truncated=0.5), ()),
    (record([GOOD, GOOD], truncated=2), Limits(max_truncated=0.5), ("truncated",)),
    (record([[0, 10, 30, 30], GOOD]), Limits(max_truncated=0.4), ("truncated",)),  # touches the left edge
    (record([[10, 10, 99.5, 30], GOOD]), Limits(max_truncated=0.4), ("truncated",)),  # and the right
    (record([[0, 10, 30, 30], GOOD], truncated=0), Limits(max_truncated=0.5), ()),
    (record([[0, 10, 90, 15]]), Limits(max_aspect=18), ()),
    (record([[0, 10, 91, 15]]), Limits(max_aspect=18), ("degenerate",)),
    (record([[0, 0, 100, 50]]), Limits(max_area=0.95), ("degenerate",)),
    (record([GOOD, GOOD]), Limits(duplicate_iou=0.95), ("duplicate boxes",)),
    (record([GOOD, GOOD], ["cat", "dog"]), Limits(duplicate_iou=0.95), ()),
    (record([GOOD, [11, 10, 30, 30]]), Limits(duplicate_iou=0.95), ("duplicate boxes",)),  # IoU 0.95
    (record([GOOD, [12, 10, 30, 30]]), Limits(duplicate_iou=0.95), ()),  # IoU 0.9
    (record([]), Limits(min_instances=0, max_truncated=0, max_aspect=1, max_area=0, duplicate_iou=0.1, max_ignored=0), ()),
    (record([[0, 0, 100, 1]] * 40, ignored=1), Limits(1, 30, 4, 0, 0.1, 9, 0.01, 0.9),
     ("too many", "tiny", "crowd", "truncated", "degenerate", "duplicate boxes")),
]  # fmt: skip


@pytest.mark.parametrize(("item", "limits", "reasons"), CASES, ids=range(len(CASES)))
def test_reasons_by_hand(item, limits, reasons):
    assert find_reasons(item, limits) == reasons
    assert [reason for reason in REASONS if reason in reasons] == list(reasons), "in the order of REASONS"


def test_every_reason_has_a_case():
    assert {reason for *_, reasons in CASES for reason in reasons} == set(REASONS)


def test_of_several_phrases_for_one_box_one_counts():
    item = record([GOOD] * 40, [f"phrase {i}" for i in range(40)])
    assert find_reasons(item) == ("too many",) and find_reasons(item, phrases=True) == ()
    assert find_reasons(item, Limits(duplicate_iou=0.9), phrases=True) == ()
    assert not is_hard(item) and find_reasons(record([]), phrases=True) == ("too few",)


def test_hard_is_more_than_ten():
    boxes = [[i, 0, i + 5, 5] for i in range(11)]
    assert is_hard(record(boxes)) and not is_hard(record(boxes[:10]))
    assert describe_shares([11, 10, 0, 0]) == {"hard": 0.25, "negatives": 0.5}
    assert describe_shares([]) == {"hard": 0.0, "negatives": 0.0}


def test_parts_of_the_filters():
    assert count_truncated(record([[0, 0, 9, 9], GOOD], truncated=2)) == 2, "marks go before touching"
    assert count_truncated(record([])) == 0 and not has_duplicates(record([]), 0.5)
