import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vr1kit.matching import match_boxes


def best_sum(benefit: np.ndarray) -> float:
    """The largest sum of any one-to-one assignment, by trying all."""
    if benefit.shape[0] > benefit.shape[1]:
        benefit = benefit.T
    rows = range(benefit.shape[0])
    return max(
        sum(benefit[row, column] for row, column in zip(rows, columns, strict=True))
        for columns in itertools.permutations(range(benefit.shape[1]), benefit.shape[0])
    )


def test_best_sum_beats_best_first():
    # Greedy takes 0.9 and is left with 0.0; the optimum is 0.8 + 0.7 = 1.5.
    iou = np.array([[0.9, 0.8], [0.7, 0.0]])
    p_idx, g_idx = match_boxes(iou)
    assert (p_idx.tolist(), g_idx.tolist()) == ([0, 1], [1, 0])


@pytest.mark.parametrize(
    ("iou", "pairs"),
    [
        (np.zeros((0, 0)), []),
        (np.zeros((0, 3)), []),
        (np.zeros((3, 0)), []),
        (np.array([[0.1, 0.7, 0.2]]), [(0, 1)]),
        (np.array([[0.1], [0.7], [0.2]]), [(1, 0)]),
        (np.array([[0.0]]), [(0, 0)]),  # min(P, G) pairs, also where nothing overlaps
        (np.array([[0.1, 0.2, 0.9], [0.3, 0.2, 0.8]]), [(0, 2), (1, 0)]),  # 0.9 + 0.3 against 0.2 + 0.8
    ],
)
def test_small_and_rectangular(iou, pairs):
    p_idx, g_idx = match_boxes(iou)
    assert list(zip(p_idx.tolist(), g_idx.tolist(), strict=True)) == pairs
    assert p_idx.dtype.kind == g_idx.dtype.kind == "i"


def test_label_weight():
    iou = np.array([[0.8, 0.7], [0.6, 0.8]])
    crossed = np.array([[False, True], [True, False]])
    # boxes alone: 0.8 + 0.8 = 1.6 against 1.3; labels at 1 each: 1.6 against 1.3 + 2; at 0.1 each: 1.6 against 1.5
    assert match_boxes(iou)[1].tolist() == [0, 1]
    assert match_boxes(iou, crossed)[1].tolist() == [0, 1]
    assert match_boxes(iou, crossed, label_weight=1.0)[1].tolist() == [1, 0]
    assert match_boxes(iou, crossed, label_weight=0.1)[1].tolist() == [0, 1]
    assert match_boxes(iou[:1], crossed[:1], label_weight=1.0)[1].tolist() == [1]  # the single-row path too


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="iou"):
        match_boxes(np.zeros(3))
    with pytest.raises(ValueError, match="same_label"):
        match_boxes(np.zeros((2, 2)), label_weight=1.0)
    with pytest.raises(ValueError, match="same_label"):
        match_boxes(np.zeros((2, 2)), np.zeros((2, 3), dtype=bool), label_weight=1.0)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.sampled_from([0.0, 0.3, 1.0]))
def test_optimal_and_one_to_one(seed, count_p, count_g, label_weight):
    rng = np.random.default_rng(seed)
    iou = rng.random((count_p, count_g)) * (rng.random((count_p, count_g)) < 0.7)
    same_label = rng.random((count_p, count_g)) < 0.5
    p_idx, g_idx = match_boxes(iou, same_label, label_weight)
    assert len(p_idx) == len(g_idx) == min(count_p, count_g)
    assert sorted(set(p_idx.tolist())) == p_idx.tolist()
    assert len(set(g_idx.tolist())) == len(g_idx)
    benefit = iou + label_weight * same_label
    assert benefit[p_idx, g_idx].sum() == pytest.approx(best_sum(benefit))
