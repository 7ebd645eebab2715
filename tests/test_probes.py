import numpy as np
import pytest

from vr1kit.baselines import BASELINES
from vr1kit.boxes import iou_matrix
from vr1kit.completions import parse_completion
from vr1kit.probes import (
    CHEATS,
    INPUT_SIZE,
    ON_NOTHING,
    ON_TRUTH,
    Sample,
    collect_rewards,
    probe_all,
    probe_reward,
    sample_scenes,
    write_modest,
)
from vr1kit.rewards import VARIANTS
from vr1kit.scenes import TOYBOX

CATEGORIES = ("cat", "dog", "fox")
TRUTH = np.array([[0.0, 0, 40, 40], [50, 0, 90, 20], [10, 60, 30, 90], [60, 40, 90, 90]])
LABELS = ("cat", "cat", "fox", "dog")
SAMPLE = Sample(TRUTH, LABELS, CATEGORIES, INPUT_SIZE)
NOTHING = Sample(np.zeros((0, 4)), (), CATEGORIES, INPUT_SIZE)


@pytest.fixture(scope="module")
def samples():
    return sample_scenes(24, seed=3)


@pytest.fixture(scope="module")
def table(samples):
    return probe_all(samples)


def read(cheat, sample=SAMPLE):
    """The boxes and labels of a cheat's answer, which is well-formed unless it is the prompt."""
    write = write_modest if cheat == "modest" else CHEATS[cheat]
    asked = (sample.boxes_xyxy, sample.labels, sample.categories, sample.size)
    text = write(*asked)
    assert text == write(*asked)
    parsed = parse_completion(text, sample.size)
    assert parsed.dual_format == (cheat != "prompt copy")
    return parsed.boxes_xyxy.tolist(), parsed.labels


# --- Each cheat is what its name says ---


def test_honest_is_the_truth():
    assert read("honest") == (TRUTH.tolist(), LABELS)
    assert read("honest", NOTHING) == ([], ())


def test_modest_is_honest_but_imperfect():
    boxes, labels = read("modest")
    assert labels == ("cat", "cat", "dog")  # the third of each three is missing
    iou = iou_matrix(boxes, TRUTH[[0, 1, 3]]).diagonal()
    assert ((iou > 0.75) & (iou < 0.95)).all()  # two edges, 5 % each, to either side: 0.9 x 0.9 or so
    moved = np.abs(np.array(boxes) - TRUTH[[0, 1, 3]])
    assert moved.max() <= 0.05 * 50 + 0.5  # the longest side is 50, answers are whole numbers
    assert read("modest", NOTHING) == ([], ())


def test_every_box_twice():
    assert read("every box twice") == (TRUTH.tolist() * 2, LABELS * 2)


@pytest.mark.parametrize(("cheat", "count"), [("forty junk boxes", 40), ("one surplus box", 1)])
def test_junk(cheat, count):
    boxes, labels = read(cheat)
    assert (boxes[:4], labels[:4]) == (TRUTH.tolist(), LABELS)
    assert len(boxes) == 4 + count and set(labels) <= set(CATEGORIES)
    sides = np.diff(np.array(boxes[4:]).reshape(-1, 2, 2), axis=1)
    assert sides.max() <= 0.2 * 96 + 1
    assert len({tuple(box) for box in boxes[4:]}) == count


def test_wrong_labels():
    assert read("wrong labels") == (TRUTH.tolist(), ("dog", "dog", "cat", "fox"))
    alone = Sample(TRUTH[:1], ("cat",), ("cat",), INPUT_SIZE)
    assert read("wrong labels", alone) == (TRUTH[:1].tolist(), ("not cat",))


def test_guessed_rest_has_the_right_number_of_boxes():
    boxes, labels = read("guessed rest")
    modest_boxes, modest_labels = read("modest")
    assert (boxes[:3], labels[:3]) == (modest_boxes, modest_labels)
    assert len(boxes) == len(TRUTH)


def test_answers_without_a_look_at_the_picture():
    whole = [0, 0, 96, 96]
    assert read("whole picture") == ([whole], ("cat",))
    assert read("all labels") == ([whole] * 3, CATEGORIES)
    assert read("empty answer") == read("prompt copy") == ([], ())
    boxes, labels = read("grid")
    assert len(boxes) == 36 and set(labels) == {"cat"}
    cover = np.zeros((96, 96), int)
    for x1, y1, x2, y2 in np.array(boxes, int):
        cover[y1:y2, x1:x2] += 1
    assert (cover == 1).all()
    for cheat in set(CHEATS) - set(ON_TRUTH) - {"honest", "guessed rest"}:
        assert read(cheat) == read(cheat, NOTHING)


def test_box_for_nothing():
    boxes, labels = read("box for nothing", NOTHING)
    assert len(boxes) == len(labels) == 1


# --- Pictures ---


def test_sample_scenes(samples):
    again = sample_scenes(24, seed=3)
    for sample, other in zip(samples, again, strict=True):
        np.testing.assert_array_equal(sample.boxes_xyxy, other.boxes_xyxy)
        assert (sample.labels, sample.categories) == (other.labels, other.categories)
    assert [i for i, sample in enumerate(samples) if not sample.labels] == [7, 15, 23]
    assert any(len(sample.labels) > 6 for sample in samples)
    for sample in samples:
        boxes = sample.boxes_xyxy
        assert boxes.shape == (len(sample.labels), 4) and sample.size == (96, 96)
        assert (
            (boxes == np.round(boxes)).all()
            and (boxes[:, :2] < boxes[:, 2:]).all()
            and (0 <= boxes).all()
            and (boxes <= 96).all()
        )
        assert set(sample.labels) <= set(sample.categories) <= set(TOYBOX.labels)
        assert read("honest", sample) == (boxes.tolist(), sample.labels)
        assert len(sample.categories) < len(TOYBOX.labels) or sample.labels
    first, second = (sample_scenes(2, seed)[0].boxes_xyxy.tolist() for seed in (3, 4))
    assert first != second


# --- The verdicts ---


def test_table_has_one_row_for_each_reward_and_cheat(table):
    rewards = list(collect_rewards())
    assert rewards == [*VARIANTS, *BASELINES]
    cheats = [name for name in CHEATS if name != "honest"]
    assert [(row["reward"], row["cheat"]) for row in table] == [(reward, cheat) for reward in rewards for cheat in cheats]
    for row in table:
        assert list(row) == ["reward", "cheat", "mean", "honest", "modest", "pays"]
        assert type(row["pays"]) is bool and all(type(row[name]) is float for name in ("mean", "honest", "modest"))
        assert row["modest"] <= row["honest"]


def paying(table, reward) -> set[str]:
    return {row["cheat"] for row in table if row["reward"] == reward and row["pays"]}


def test_known_holes(table):
    assert paying(table, "paper") == {"wrong labels"}
    assert paying(table, "visual_rft_iou") == {"wrong labels", "box for nothing"}
    assert paying(table, "vision_reasoner") == {"wrong labels", "box for nothing", "guessed rest"}
    assert paying(table, "v_triune") == {"box for nothing", "guessed rest"}
    assert paying(table, "image_ap") == {"every box twice", "forty junk boxes", "one surplus box", "guessed rest"}
    assert paying(table, "vlm_r1_od_length") == {"guessed rest"}
    assert paying(table, "vlm_r1_weighted_sum") == set()


@pytest.mark.skipif("released" not in VARIANTS, reason="no such variant")
def test_released_code_pays_for_what_it_was_found_to_let_pass(table):
    assert paying(table, "released") >= {"every box twice", "forty junk boxes", "one surplus box", "wrong labels"}


@pytest.mark.skipif("strict" not in VARIANTS, reason="no such variant")
def test_no_cheat_pays_under_strict(table):
    assert paying(table, "strict") == set()


def test_a_mean_over_empty_pictures_hides_nothing(samples):
    """Each cheat has its own pictures: leaving out the others changes no row."""
    rows = {row["cheat"]: row for row in probe_reward(BASELINES["image_ap"], samples)}
    for empty in (True, False):
        part = [sample for sample in samples if (not sample.labels) == empty]
        alone = probe_reward(BASELINES["image_ap"], part)
        assert {row["cheat"] for row in alone} == {name for name in rows if (name in ON_NOTHING) == empty}
        assert all(row == rows[row["cheat"]] for row in alone)
    assert probe_reward(BASELINES["image_ap"], []) == []


@pytest.mark.parametrize(("constant", "others_pay"), [(0.0, False), (1.0, True)])
def test_a_reward_that_looks_at_nothing(samples, constant, others_pay):
    """Cheats built on the truth cost nothing; the others earn as much as honesty, unless that is nothing."""
    table = probe_all(samples, {"constant": lambda texts, *_: [constant] * len(texts)})
    assert {row["cheat"]: row["pays"] for row in table} == {
        name: name in ON_TRUTH or others_pay for name in CHEATS if name != "honest"
    }


def test_a_reward_has_to_answer_for_every_text(samples):
    with pytest.raises(ValueError, match="zip"):
        probe_reward(lambda texts, *_: [1.0], samples)
