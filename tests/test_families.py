"""Families as data: space, size, wording and format of each, by hand."""

import numpy as np
import pytest

from vr1kit.coordinates import CoordinateSpace
from vr1kit.families import FAMILIES, GRIFFON_REFERRING, QWEN_2_5, QWEN_3
from vr1kit.prompts import ask_detection, ask_grounding

BOX = np.array([[100.0, 200, 300, 400]])
JSON = '[{"bbox_2d": [100, 200, 300, 400], "label": "cat"}]'


@pytest.mark.parametrize(
    ("name", "space", "tokens", "answer"),
    [  # 640 x 480 in multiples of 28: 644 x 476, in multiples of 32: as it is
        ("qwen2_vl", CoordinateSpace.NORM1000, 23 * 17, JSON),
        ("qwen2_5_vl", CoordinateSpace.MODEL_INPUT, 23 * 17, JSON),
        ("qwen3_vl", CoordinateSpace.NORM1000, 20 * 15, JSON),
        ("griffon", CoordinateSpace.NORM1000, 23 * 17, "cat-[0.1, 0.2, 0.3, 0.4]"),
    ],
)
def test_each_family(name, space, tokens, answer):
    family = FAMILIES[name]
    assert family.answers is space
    assert family.count_image_tokens(640, 480) == tokens
    assert family.count_image_tokens(6400, 4800) <= family.most_image_tokens == 512  # the paper's
    assert family.write(BOX, ["cat"]) == answer
    parsed = family.parse(answer, (1000, 1000))
    assert parsed.labels == ("cat",) and parsed.dual_format == 1 and parsed.boxes_xyxy == pytest.approx(BOX)


def test_every_family_has_a_test():
    assert set(FAMILIES) == {"qwen2_vl", "qwen2_5_vl", "qwen3_vl", "griffon"}


def test_questions_are_asked_in_the_familys_words():
    detection, grounding = ask_detection(["cat", "dog"]), ask_grounding("red car")
    assert FAMILIES["qwen2_5_vl"].reword(detection) == detection
    assert (
        FAMILIES["qwen3_vl"]
        .reword(detection)
        .startswith("Locate every instance that belongs to the following categories: cat, dog.")
    )
    assert FAMILIES["griffon"].reword(grounding) == "Locate the exact position of red car in the picture, if you can."
    published = GRIFFON_REFERRING.grounding.replace("{x}", "the man on the left")  # as the published data asks
    assert FAMILIES["qwen2_5_vl"].reword(published) == ask_grounding("the man on the left")


@pytest.mark.parametrize("name", FAMILIES)
def test_rewording_goes_back_and_leaves_other_questions_alone(name):
    family = FAMILIES[name]
    for wording in (QWEN_2_5, QWEN_3):
        for kind in ("detection", "grounding"):
            prompt = getattr(wording, kind).replace("{x}", "cat, dog")
            assert (
                family.reword(family.reword(prompt)) == family.reword(prompt) == family.reword(FAMILIES["griffon"].reword(prompt))
            )
    assert family.reword("How many cats are there?") == "How many cats are there?"
