"""Other readings of the reward: what the released code does, and what `strict` closes."""

import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vr1kit.boxes import iou_matrix
from vr1kit.criteria import ADVANCED, BEGINNER, Criteria
from vr1kit.rewards import PAPER, RELEASED, STRICT, VARIANTS, differentiate, score_completion

SIZE = (100, 100)
A, B, JUNK = [10, 10, 30, 30], [50, 50, 90, 90], [0, 95, 5, 100]


def answer(*boxes_xyxy, labels=None) -> str:
    labels = labels or ["cat"] * len(boxes_xyxy)
    return json.dumps([{"bbox_2d": list(box), "label": label} for box, label in zip(boxes_xyxy, labels, strict=True)])


def rewards(text, truth, variant, labels=None, criteria=BEGINNER, **options):
    score = score_completion(text, truth, labels or ["cat"] * len(truth), SIZE, criteria, variant, **options)
    return score.dual_format, score.recall, pytest.approx(score.precision)


def test_a_variant_is_found_by_name():
    assert set(VARIANTS) == {"paper", "box_and_label", "released", "strict"}
    for name, variant in VARIANTS.items():
        assert rewards(answer(A), [A], name) == rewards(answer(A), [A], variant) == (1, 1, 1)


# --- released: the items of the public code, one by one ---
def test_released_takes_no_account_of_surplus():
    forty = [[x, 95, x + 1, 100] for x in range(40)]
    assert rewards(answer(A, B, *forty), [A, B], RELEASED) == (1, 1, 1)
    assert rewards(answer(A, B, *forty), [A, B], PAPER) == (1, 1, 2 / 42)


def test_released_calls_giou_iou():
    far = [60, 60, 80, 80]
    score = score_completion(answer(far), [A], ["cat"], SIZE, variant=RELEASED)
    hull, union = 70 * 70, 800
    assert score.ious == pytest.approx([-(hull - union) / hull])


def test_released_matches_by_pixels_first():
    # corners in pixels: 56 + 60 = 116 as they stand, 100 + 104 = 204 exchanged; GIoU: -0.47 + 0.33 against 0.03 - 0.00
    boxes, truth = [[0, 0, 10, 10], [30, 0, 90, 60]], [[28, 0, 38, 10], [0, 0, 60, 60]]
    by_pixels, by_overlap = (
        score_completion(answer(*boxes), truth, ["cat"] * 2, SIZE, variant=v).g_idx.tolist()
        for v in (RELEASED, replace(RELEASED, matching="overlap"))
    )
    assert by_pixels == [0, 1] and by_overlap == [1, 0]


@pytest.mark.parametrize("text", ["{}", "5", "[1, 2]", '[{"label": "cat"}]', '[{"bbox_2d": ["1", "2", "3", "4"], "label": "cat"}]',
                                  answer([30, 30, 10, 10]), answer([-5, 0, 99999, 10])])  # fmt: skip
def test_released_pays_the_format_of_almost_anything(text):
    assert score_completion(text, [A], ["cat"], SIZE, variant=RELEASED).dual_format == 1
    assert score_completion(text, [A], ["cat"], SIZE, variant=PAPER).dual_format == 0


def test_released_refuses_prose_and_short_boxes_but_pays_what_prose_says():
    assert rewards("Sure! ```json\n" + answer(A) + "\n```", [A], RELEASED) == (0, 1, 1)
    assert rewards('[{"bbox_2d": [1, 2, 3], "label": "cat"}]', [A], RELEASED)[0] == 0
    assert rewards("```json\n" + answer(A) + "\n```", [A], RELEASED)[0] == 1
    assert rewards("[" * 100_000, [A], RELEASED)[0] == 0


def test_released_turns_the_empty_scene_upside_down():
    assert rewards("[]", [], RELEASED) == (0, 0, 0)
    assert rewards("[]", [], PAPER) == rewards("[]", [], STRICT) == (1, 1, 1)


def test_released_keeps_recalls_thresholds_in_the_advanced_stage():
    truth = [[20 * k, 0, 20 * k + 10, 10] for k in range(5)]
    four = answer(*truth[:4])  # recall 0.8: full for the beginner's xi2 0.75, itself for the advanced 0.9
    assert rewards(four, truth, PAPER, criteria=ADVANCED)[1] == 0.8
    assert rewards(four, truth, RELEASED, criteria=ADVANCED)[1] == 1.0
    assert rewards(four, truth, RELEASED, criteria=ADVANCED, differentiation=False)[1] == 0.8


def test_released_wants_more_than_xi2():
    criteria = Criteria(0.5, 0.5, 0.75)
    assert differentiate([0.75, 0.76], criteria).tolist() == [1, 1]
    assert differentiate([0.75, 0.76], criteria, full_from_xi2=False).tolist() == [0.75, 1]


# --- strict: what costs ---
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (answer(A, B), (1, 1, 1)),
        (answer(A, A, B, B), (1, 1, 0.5)),  # duplicates
        (answer(A, B, JUNK), (1, 1, 2 / 3)),  # surplus
        (answer(A, B, labels=["cat", "dog"]), (1, 0.5, 0.5)),  # mislabelled
        (answer(A, B, labels=["dog", "dog"]), (1, 0, 0)),
        (answer(A, B, labels=["CAT", " cat "]), (1, 1, 1)),  # case and blanks are no matter of localization
        (answer(A, B)[:-1] + ', {"bbox_2d": [1, 2], "label": "cat"}]', (0, 1, 2 / 3)),  # an item that is no detection
        ("[]", (1, 0, 0)),
    ],
)
def test_what_costs_under_strict(text, expected):
    assert rewards(text, [A, B], STRICT) == expected


@pytest.mark.parametrize("text", ["", "nothing", '[{"bbox_2d": [1, 2], "label": "cat"}]', answer(JUNK), "{}", "[1]", "[] []"])
def test_only_an_empty_list_is_right_where_there_is_nothing(text):
    assert score_completion("[]", [], [], SIZE, variant=STRICT).total == 3
    assert score_completion(text, [], [], SIZE, variant=STRICT).total < 3


def test_a_malformed_box_never_beats_a_well_formed_one_under_strict():
    malformed = score_completion('[{"bbox_2d": [1, 2], "label": "cat"}]', [], [], SIZE, variant=STRICT).total
    assert malformed < score_completion(answer(JUNK), [], [], SIZE, variant=STRICT).total
    assert score_completion('[{"bbox_2d": [1, 2], "label": "cat"}]', [], [], SIZE, variant=PAPER).total == 2  # the loophole


def test_strict_matches_for_the_reward_not_for_the_sum_of_overlaps():
    # Squares of 100, shifted by s: IoU (100 - s) / (100 + s). As they stand 1 + 34/166 = 1.20, one valid; exchanged 2 * 67/133, both.
    boxes, truth = [[33, 0, 133, 100], [0, 0, 100, 100]], [[33, 0, 133, 100], [66, 0, 166, 100]]
    paper, strict = (score_completion(answer(*boxes), truth, ["cat"] * 2, (200, 100), variant=v) for v in (PAPER, STRICT))
    assert paper.g_idx.tolist() == [0, 1] and (paper.recall, paper.precision) == (0.5, 0.5)
    assert strict.g_idx.tolist() == [1, 0] and (strict.recall, strict.precision) == (1, pytest.approx(67 / 133))


def scene(seed, count_p, count_g):
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 12, (count_p + count_g, 2)) * 5
    boxes = np.concatenate([low, low + rng.integers(1, 7, low.shape) * 5], 1)  # a coarse grid: ties are common
    labels = rng.choice(["cat", "dog"], count_p + count_g).tolist()
    return boxes[:count_p].tolist(), labels[:count_p], boxes[count_p:].tolist(), labels[count_p:], rng


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6), st.sampled_from([BEGINNER, ADVANCED, Criteria(0.2, 0, 1)])
)
def test_strict_depends_on_no_order_and_no_scale(seed, count_p, count_g, criteria):
    boxes, names, truth, labels, rng = scene(seed, count_p, count_g)
    one = score_completion(answer(*boxes, labels=names), truth, labels, SIZE, criteria, STRICT)
    p, g = rng.permutation(count_p), rng.permutation(count_g)
    shuffled = answer(*(boxes[i] for i in p), labels=[names[i] for i in p])
    two = score_completion(shuffled, [truth[i] for i in g], [labels[i] for i in g], SIZE, criteria, STRICT)
    assert (one.dual_format, one.recall) == (two.dual_format, two.recall) and one.precision == pytest.approx(two.precision)
    doubled = answer(*(np.array(boxes).reshape(-1, 4) * 2).tolist(), labels=names)
    twice = score_completion(doubled, (np.array(truth).reshape(-1, 4) * 2).tolist(), labels, (200, 200), criteria, STRICT)
    assert twice.total == pytest.approx(one.total)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 5))
def test_nothing_added_to_an_answer_pays_under_strict(seed, count_p, count_g, surplus):
    boxes, names, truth, labels, _ = scene(seed, count_p, count_g)
    honest = score_completion(answer(*boxes, labels=names), truth, labels, SIZE, BEGINNER, STRICT)
    more = answer(*boxes, *[JUNK] * surplus, labels=[*names, *["cat"] * surplus])
    padded = score_completion(more, truth, labels, SIZE, BEGINNER, STRICT)
    assert padded.total < honest.total or honest.precision == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_stricts_matching_is_the_best_of_all(seed, count_p, count_g):
    """Brute force over all assignments: none has more valid pairs, and none with as many scores more."""
    boxes, names, truth, labels, _ = scene(seed, count_p, count_g)
    got = score_completion(answer(*boxes, labels=names), truth, labels, SIZE, BEGINNER, STRICT)
    iou = iou_matrix(boxes, truth)
    valid = (iou >= BEGINNER.xi0) & np.array([[p == g for g in labels] for p in names])
    worth = np.where(valid, differentiate(iou, BEGINNER), 0.0)
    k = min(count_p, count_g)
    best = max(
        (int(valid[list(p), list(g)].sum()), float(worth[list(p), list(g)].sum()))
        for p in permutations(range(count_p), k)
        for g in permutations(range(count_g), k)
    )
    assert (int(got.valid.sum()), got.instance_scores.sum()) == (best[0], pytest.approx(best[1]))
