import itertools
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vr1kit.completions import parse_completion
from vr1kit.criteria import ADVANCED, BEGINNER, Criteria
from vr1kit.rewards import PAPER, differentiate, score_completion, score_group, score_parsed

SIZE = (100, 100)
SOME = settings(max_examples=60, deadline=None)


def answer(*boxes_xyxy, label="cat") -> str:
    return json.dumps([{"bbox_2d": list(box), "label": label} for box in boxes_xyxy])


def rewards(text, truth, criteria=BEGINNER, **options):
    score = score_completion(text, truth, ["cat"] * len(truth), SIZE, criteria, **options)
    assert score.total == score.dual_format + score.recall + score.precision
    return score.dual_format, score.recall, pytest.approx(score.precision)


def row(count: int) -> list[list[int]]:
    """Squares of 10 x 10, side by side along the diagonal, none touching another."""
    return [[20 * n, 20 * n, 20 * n + 10, 20 * n + 10] for n in range(count)]


def narrowed(box, width):
    """The left part of a box of `row`, `width` of its 10 wide: its IoU with it is width * 10 / 100."""
    return [box[0], box[1], box[0] + width, box[3]]


# --- By hand ---


def test_perfect_answer():
    assert rewards(answer(*row(3)), row(3)) == (1, 1, 1)


def test_defaults_are_the_beginner_stage_of_the_paper():
    score = score_completion(answer([0, 0, 6, 10]), [[0, 0, 10, 10]], ["cat"], SIZE)
    assert (score.dual_format, score.recall, score.precision, score.total) == (1.0, 1.0, 0.6, 2.6)
    assert Criteria() == BEGINNER


@pytest.mark.parametrize(
    ("width", "beginner", "advanced"),
    [
        # One box of IoU width / 10. Beginner: 0 below 0.5, itself up to 0.75, then 1. Advanced: 0.75 and 0.9.
        (4.9, (0, 0), (0, 0)),
        (5, (1, 0.5), (0, 0)),  # IoU exactly xi0 is valid, and exactly xi1 is not below it
        (6, (1, 0.6), (0, 0)),
        (7.4, (1, 0.74), (0, 0)),
        (7.5, (1, 1), (1, 0.75)),  # exactly xi2 is enough for 1
        (8.5, (1, 1), (1, 0.85)),
        (9, (1, 1), (1, 1)),
    ],
)
def test_thresholds(width, beginner, advanced):
    text = answer(narrowed(row(1)[0], width))
    assert rewards(text, row(1), BEGINNER) == (1, *beginner)
    assert rewards(text, row(1), ADVANCED) == (1, *advanced)


@pytest.mark.parametrize(
    ("found", "recall", "plain"),
    [
        (1, 0.0, 1 / 4),  # 1 / 4 < xi1
        (2, 0.5, 2 / 4),  # 2 / 4 = xi1: itself
        (3, 1.0, 3 / 4),  # 3 / 4 = xi2: 1
        (4, 1.0, 4 / 4),
    ],
)
def test_recall_is_differentiated_per_answer(found, recall, plain):
    assert rewards(answer(*row(4)[:found]), row(4)) == (1, recall, 1)
    assert rewards(answer(*row(4)[:found]), row(4), differentiation=False) == (1, plain, 1)


def test_recall_between_the_thresholds_is_itself():
    assert rewards(answer(*row(5)[:3]), row(5)) == (1, 3 / 5, 1)  # 0.5 <= 0.6 < 0.75


def test_precision_is_the_mean_over_all_predictions():
    truth = row(2)
    # IoU 1 -> 1, IoU 0.6 -> 0.6, IoU 0.4 -> not valid: 0, one elsewhere: 0. (1 + 0.6) / 4 = 0.4
    text = answer(truth[0], narrowed(truth[1], 6), [60, 60, 70, 70], [80, 80, 90, 90])
    assert rewards(text, truth) == (1, 1, 0.4)
    # Two correct boxes and forty junk boxes: 2 / 42; the released code's mean over matched pairs says 1.
    junk = [[60 + n / 10, 60, 61 + n / 10, 61] for n in range(40)]
    assert rewards(answer(*truth, *junk), truth) == (1, 1, 2 / 42)
    matched_only = replace(PAPER, name="matched only", surplus_counts=False)
    assert rewards(answer(*truth, *junk), truth, variant=matched_only) == (1, 1, 1)


def test_a_duplicate_is_a_surplus_box():
    assert rewards(answer(row(1)[0], row(1)[0]), row(1)) == (1, 1, 0.5)


def test_differentiation_off():
    truth = row(2)
    # Valid still means IoU >= xi0: 0.8 counts as 0.8, not 1; 0.4 does not count. (0.8 + 0) / 2; recall 1 / 2
    text = answer(narrowed(truth[0], 8), narrowed(truth[1], 4))
    assert rewards(text, truth, differentiation=False) == (1, 0.5, 0.4)
    assert rewards(text, truth) == (1, 0.5, 0.5)


def test_nothing_predicted_and_nothing_to_find():
    assert rewards("[]", row(2)) == (1, 0, 0)
    assert rewards("[]", []) == (1, 1, 1)
    assert rewards(answer([0, 0, 1, 1]), []) == (1, 0, 0)
    assert rewards("Nothing here.", []) == (0, 1, 1)
    assert rewards(answer([0, 0, 1, 101]), []) == (0, 1, 1)  # no detection, so nothing predicted
    assert rewards("Nothing here.", row(2)) == (0, 0, 0)


def test_the_label_does_not_matter():
    assert rewards(answer(*row(2), label="dog"), row(2)) == (1, 1, 1)


def test_badly_formed_answers_lose_the_format_only():
    assert rewards(f"Sure: {answer(*row(2))}", row(2)) == (0, 1, 1)
    assert rewards(answer(*row(2))[:-1], row(2)) == (0, 1, 1)


def test_items_that_are_no_detections_are_no_predictions():
    # The third box lies outside the picture: format 0, but the mean stays over two.
    assert rewards(answer(*row(2), [90, 90, 120, 120]), row(2)) == (0, 1, 1)


def test_matching_is_optimal_not_greedy():
    # Greedy by IoU: p0-g0 (0.9) leaves p1 with nothing. Optimal: p0-g1 and p1-g0.
    truth = [[0, 0, 10, 10], [0, 2, 10, 12]]
    predictions = [[0, 1, 10, 10], [0, 0, 10, 6]]
    # p0-g0 9 x 10 / 100 = 0.9; p0-g1 8 x 10 / (90 + 100 - 80) = 8 / 11; p1-g0 0.6; p1-g1 4 x 10 / (60 + 100 - 40) = 1 / 3
    # 0.9 + 1 / 3 = 1.233 < 8 / 11 + 0.6 = 1.327
    score = score_completion(answer(*predictions), truth, ["cat"] * 2, SIZE)
    assert (score.p_idx.tolist(), score.g_idx.tolist()) == ([0, 1], [1, 0])
    assert score.ious == pytest.approx([8 / 11, 0.6])
    assert (score.recall, score.precision) == (1.0, pytest.approx((8 / 11 + 0.6) / 2))


def test_box_and_label_matching_of_table_3():
    both = replace(PAPER, name="box and label", label_weight=1.0)
    truth, labels = [[0, 0, 10, 10], [0, 2, 10, 12]], ["cat", "dog"]
    text = json.dumps([{"bbox_2d": [0, 0, 10, 10], "label": "dog"}, {"bbox_2d": [0, 2, 10, 12], "label": "cat"}])
    # by boxes: IoU 1 and 1. With labels: 8 x 10 / 120 = 2 / 3 each, but + 1 each: 3.33 > 2.
    assert score_completion(text, truth, labels, SIZE).precision == 1.0
    assert score_completion(text, truth, labels, SIZE, variant=both).precision == pytest.approx(2 / 3)


def test_a_score_shows_its_parts():
    truth = row(2)
    text = answer([60, 60, 70, 70], narrowed(truth[1], 6), narrowed(truth[0], 4))
    score = score_completion(text, truth, ["cat"] * 2, SIZE)
    assert score.parsed.labels == ("cat", "cat", "cat") and score.parsed.reasons == ()
    assert (score.p_idx.tolist(), score.g_idx.tolist()) == ([1, 2], [1, 0])
    assert score.ious == pytest.approx([0.6, 0.4])
    assert score.valid.tolist() == [True, False]
    assert score.instance_scores == pytest.approx([0, 0.6, 0])
    assert score.precision == pytest.approx(score.instance_scores.mean())


def test_differentiate_is_equation_8():
    values = np.array([0.0, 0.49, 0.5, 0.74, 0.75, 1.0])
    assert differentiate(values, BEGINNER).tolist() == [0, 0, 0.5, 0.74, 1, 1]
    assert differentiate(values, Criteria(0.5, 0.0, 1.0)).tolist() == values.tolist()


def test_extreme_criteria():
    # xi0 = 0: every matched pair is valid, also of IoU 0; f(0) = 0 as 0 < xi2
    assert rewards(answer([90, 90, 99, 99]), row(1), Criteria(0, 0, 0.5)) == (1, 1, 0)
    # xi0 = xi1 = xi2 = 1: only the very box
    assert rewards(answer(row(2)[0], narrowed(row(2)[1], 9)), row(2), Criteria(1, 1, 1)) == (1, 0, 0.5)
    # xi2 = 0: f is 1 everywhere, but the surplus box adds nothing
    assert rewards(answer([90, 90, 99, 99], [80, 80, 85, 85]), row(1), Criteria(0, 0, 0)) == (1, 1, 0.5)


# --- Groups ---


def test_a_group_is_its_answers_one_by_one():
    truth = row(4)
    texts = [
        answer(*truth),
        "[]",
        "no",
        answer(truth[2], narrowed(truth[1], 6)),
        answer(*row(5), *row(3)),
        answer([1, 1, 2, 2]),
    ]
    for variant in (PAPER, replace(PAPER, name="other", label_weight=1.0, surplus_counts=False)):
        for boxes_xyxy in (truth, truth[:1], []):
            labels = ["cat", "dog", "cat", "dog"][: len(boxes_xyxy)]
            group = score_group(texts, boxes_xyxy, labels, SIZE, ADVANCED, variant)
            parsed = [parse_completion(text, SIZE) for text in texts]
            again = score_parsed(parsed, boxes_xyxy, labels, ADVANCED, variant)
            for text, ours, theirs in zip(texts, group, again, strict=True):
                alone = score_completion(text, boxes_xyxy, labels, SIZE, ADVANCED, variant)
                for other in (ours, theirs):
                    assert (other.dual_format, other.recall) == (alone.dual_format, alone.recall)
                    assert other.precision == pytest.approx(alone.precision)
                    assert other.parsed.text == text
                    for name in ("p_idx", "g_idx", "ious", "valid", "instance_scores"):
                        np.testing.assert_array_equal(getattr(other, name), getattr(alone, name), strict=True)
    assert score_group([], truth, ["cat"] * 4, SIZE) == []


# --- Properties ---


def random_case(seed: int, count_p: int, count_g: int) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth, and predictions near some of it and anywhere. Continuous, so that no two sums of IoU tie."""
    rng = np.random.default_rng(seed)

    def anywhere(count):
        low = rng.uniform(0, 70, (count, 2))
        return np.hstack([low, low + rng.uniform(5, 30, (count, 2))])

    truth, predictions = anywhere(count_g), anywhere(count_p)
    for index in range(min(count_p, count_g)):
        if rng.random() < 0.8:
            predictions[index] = truth[index] + rng.uniform(-2, 2, 4)
    return np.clip(predictions, 0, 100), truth


def reference(predictions, truth, criteria) -> tuple[float, float]:
    """Recall and precision by trying all assignments, without the package's matcher, IoU or f."""

    def iou(p, g):
        width, height = min(p[2], g[2]) - max(p[0], g[0]), min(p[3], g[3]) - max(p[1], g[1])
        inter = max(width, 0) * max(height, 0)
        return inter / ((p[2] - p[0]) * (p[3] - p[1]) + (g[2] - g[0]) * (g[3] - g[1]) - inter)

    def f(x):
        return 1.0 if x >= criteria.xi2 else 0.0 if x < criteria.xi1 else x

    # Surplus ground truth is paired with None; so is every prediction that is left over.
    columns = [*truth, *[None] * len(predictions)]
    best = max(
        ([0.0 if g is None else iou(p, g) for p, g in zip(predictions, chosen, strict=True)]
         for chosen in itertools.permutations(columns, len(predictions))), key=sum)  # fmt: skip
    valid = [x for x in best if x >= criteria.xi0]
    return f(len(valid) / len(truth)), sum(map(f, valid)) / len(predictions)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 4), st.sampled_from([BEGINNER, ADVANCED]))
def test_equals_the_definition(seed, count_p, count_g, criteria):
    predictions, truth = random_case(seed, count_p, count_g)
    assert rewards(answer(*predictions.tolist()), truth, criteria)[1:] == reference(predictions, truth, criteria)


@SOME
@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 6))
def test_order_does_not_matter(seed, count_p, count_g):
    predictions, truth = random_case(seed, count_p, count_g)
    rng = np.random.default_rng(seed + 1)
    shuffled = answer(*rng.permutation(predictions).tolist())
    assert rewards(shuffled, rng.permutation(truth)) == rewards(answer(*predictions.tolist()), truth)


@SOME
@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 6), st.sampled_from([0.01, 0.5, 3.7, 1e4]))
def test_scale_does_not_matter(seed, count_p, count_g, scale):
    predictions, truth = random_case(seed, count_p, count_g)
    labels = ["cat"] * count_g
    small = score_completion(answer(*predictions.tolist()), truth, labels, SIZE)
    size = (100 * scale, 100 * scale)
    large = score_completion(answer(*np.minimum(predictions * scale, size[0]).tolist()), truth * scale, labels, size)
    assert (large.dual_format, large.recall) == (small.dual_format, small.recall)
    assert large.precision == pytest.approx(small.precision)
    assert large.g_idx.tolist() == small.g_idx.tolist() or 0 in small.ious  # pairs without overlap may swap


@SOME
@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 6), st.sampled_from([BEGINNER, ADVANCED]))
def test_rewards_are_within_bounds(seed, count_p, count_g, criteria):
    predictions, truth = random_case(seed, count_p, count_g)
    text = answer(*predictions.tolist())
    for differentiation in (True, False):
        for reward in rewards(text, truth, criteria, differentiation=differentiation)[:2]:
            assert 0 <= reward <= 1
        score = score_completion(text, truth, ["cat"] * count_g, SIZE, criteria, differentiation=differentiation)
        assert 0 <= score.precision <= 1 and 0 <= score.total <= 3
        assert all(type(part) is float for part in (score.dual_format, score.recall, score.precision, score.total))


@SOME
@given(st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 6), st.integers(1, 5))
def test_junk_boxes_never_pay(seed, count_p, count_g, junk):
    """Boxes that overlap no ground truth: recall stays, precision falls to P / (P + junk) of what it was."""
    predictions, truth = random_case(seed, count_p, count_g)
    far = [[100, 100 + 2 * n, 101, 101 + 2 * n] for n in range(junk)]  # the ground truth ends at 100
    before = score_completion(answer(*predictions.tolist()), truth, ["cat"] * count_g, (200, 200))
    after = score_completion(answer(*predictions.tolist(), *far), truth, ["cat"] * count_g, (200, 200))
    if count_g:
        assert after.recall == before.recall
    assert after.precision == pytest.approx(before.precision * count_p / (count_p + junk))


def test_hiding_a_bad_box_in_a_format_error_does_not_pay():
    truth = row(2)
    honest = score_completion(answer(truth[0], [60, 60, 70, 70]), truth, ["cat"] * 2, SIZE)
    hidden = score_completion(answer(truth[0], [60, 60, 170, 70]), truth, ["cat"] * 2, SIZE)
    assert hidden.precision > honest.precision  # 1 against 1 / 2
    assert hidden.total < honest.total  # but 1.5 against 2


# --- Borders ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variant": "papre"}, "variant.*paper.*papre"),
        ({"labels": ["cat"]}, "labels.*2.*1.*cat"),
        ({"boxes_xyxy": [0, 0, 1, 1]}, r"boxes_xyxy.*\(4,\)"),
        ({"boxes_xyxy": [[0, 0, 1, 1], [0, 0, 1, float("nan")]]}, "boxes_xyxy.*finite.*nan"),
        ({"boxes_xyxy": [[0, 0, 1, 1], [60, 60, 10, 10]]}, "boxes_xyxy.*xywh.*60"),
        ({"size": (0, 100)}, r"size.*\(0, 100\)"),
    ],
)
def test_arguments_are_checked(changes, message):
    arguments = {"text": "[]", "boxes_xyxy": row(2), "labels": ["cat", "cat"], "size": SIZE} | changes
    with pytest.raises(ValueError, match=f"(?s){message}"):
        score_completion(**arguments)


def test_ground_truth_without_area_is_allowed_and_never_found():
    assert rewards(answer([0, 0, 10, 10]), [[5, 5, 5, 9]]) == (1, 0, 0)


def test_imports_without_torch():
    code = (
        "import sys, vr1kit.boxes, vr1kit.coordinates, vr1kit.completions, vr1kit.matching, vr1kit.rewards\n"
        "print(sorted({'torch', 'transformers', 'trl', 'datasets'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
