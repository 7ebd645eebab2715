import numpy as np
import pytest

from vr1kit.credit import IOU_FLOOR, LABEL_FLOOR, ObjectCredit, assign_object_credit
from vr1kit.rewards import score_group

BY_IOU = ObjectCredit(edges=False)

TRUTH, LABELS, SIZE = np.array([[10, 10, 30, 30], [50, 50, 70, 70]], float), ["cat", "dog"], (100, 100)


def group(*answers):
    texts = ["[" + ", ".join(f'{{"bbox_2d": {list(b)}, "label": "{name}"}}' for b, name in a) + "]" for a in answers]
    return texts, score_group(texts, TRUTH, LABELS, SIZE)


def by_character(texts):
    """One token per character: any span can be looked up."""
    return [np.arange(1, len(t) + 1) for t in texts]


def at(text, part, start=0):
    return text.index(part, start)


RIGHT, LOOSE = ((10, 10, 30, 30), "cat"), ((10, 10, 30, 34), "cat")  # IoU 1 and 400/480
DOG = ((50, 50, 70, 70), "dog")


def test_a_box_is_compared_with_the_groups_other_boxes_of_its_object():
    texts, scores = group([RIGHT, DOG], [LOOSE, DOG], [LOOSE, DOG])
    advantages = np.array([9.0, -9.0, 0.5])
    out = assign_object_credit(scores, LABELS, advantages, by_character(texts), BY_IOU)
    ious = np.array([1.0, 400 / 480, 400 / 480])
    expected = (ious - ious.mean()) / (ious.std() + IOU_FLOOR)
    for i, values in enumerate(out):
        assert values[at(texts[i], "10")] == pytest.approx(expected[i])  # x1 of the cat
        assert values[at(texts[i], "50")] == pytest.approx(0.0)  # all dogs alike: no credit, no blame
        assert values[0] == advantages[i] and values[-1] == advantages[i]  # "[" and "]" keep the completion's
    assert expected[0] > 0 > expected[1]


def test_a_wrong_label_is_blamed_alone():
    texts, scores = group([RIGHT], [RIGHT], [((10, 10, 30, 30), "dog")])
    out = assign_object_credit(scores, LABELS, np.zeros(3), by_character(texts), BY_IOU)
    right = np.array([1.0, 1.0, 0.0])
    expected = (right - right.mean()) / (right.std() + LABEL_FLOOR)
    for i, name in enumerate(("cat", "cat", "dog")):
        assert out[i][at(texts[i], f'"{name}"') + 1] == pytest.approx(expected[i])
        assert out[i][at(texts[i], "10")] == pytest.approx(0.0)  # the box itself is as good as the others


def test_surplus_boxes_are_blamed_and_lonely_objects_keep_the_completions_advantage():
    junk = ((80, 80, 90, 90), "cat")
    texts, scores = group([RIGHT, junk], [RIGHT], [])
    out = assign_object_credit(scores, LABELS, np.array([0.3, 0.2, 0.1]), by_character(texts), BY_IOU)
    assert out[0][at(texts[0], "80")] == -1.0
    assert out[0][at(texts[0], "10")] == 0.3  # two boxes of the cat: too few to compare
    off = assign_object_credit(
        scores, LABELS, np.array([0.3, 0.2, 0.1]), by_character(texts), ObjectCredit(edges=False, surplus=0.0)
    )
    assert off[0][at(texts[0], "80")] == 0.3


def test_tokens_that_merge_structure_and_content_count_with_their_content():
    text = '[{"bbox_2d": [10, 10, 30, 30], "label": "cat"}]'
    pieces = ['[{"bbox_2d": [', "10", ", 10", ", 30", ", 30", '], "label": "cat', '"}]']
    assert "".join(pieces) == text
    texts, scores = group([RIGHT], [LOOSE], [LOOSE])
    ends = [np.cumsum([len(p) for p in pieces])] + by_character(texts)[1:]
    out = assign_object_credit(scores, LABELS, np.array([0.25, 0.0, 0.0]), ends, BY_IOU)
    assert out[0][0] == 0.25 and out[0][6] == 0.25
    assert len(set(out[0][1:5].tolist())) == 1 and out[0][1] > 1
    assert out[0][5] == pytest.approx(0.0)  # label: right everywhere


def test_with_edges_only_the_wrong_edge_is_blamed():
    texts, scores = group([RIGHT], [LOOSE], [LOOSE])
    out = assign_object_credit(scores, LABELS, np.zeros(3), by_character(texts), ObjectCredit(), TRUTH)
    miss = np.array([0, 4 / 20, 4 / 20])  # the bottom edge, as a share of 20 px
    expected = (miss.mean() - miss) / (miss.std() + IOU_FLOOR)
    for i, bottom in enumerate(("30]", "34]", "34]")):
        assert out[i][at(texts[i], bottom)] == pytest.approx(expected[i])
        assert out[i][at(texts[i], "10")] == pytest.approx(0.0)  # the left edge is right everywhere
    with pytest.raises(ValueError, match="truth_boxes_xyxy"):
        assign_object_credit(scores, LABELS, np.zeros(3), by_character(texts))
