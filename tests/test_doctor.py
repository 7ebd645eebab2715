"""The doctor: each finding from a case by hand, and each space recognised from answers written in it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vr1kit.coordinates import CoordinateSpace, convert_boxes_xyxy, round_boxes_xyxy, space_size
from vr1kit.curation.doctor import (
    Processor,
    check_bounds,
    check_labels,
    check_length,
    check_space,
    measure_spaces,
    read_processor,
)
from vr1kit.prompts import write_answer
from vr1kit.records import DataError, DetectionSet, Record
from vr1kit.scoring import Answer

SIZE = (640, 480)
TRUTH = np.asarray([[60.0, 30, 260, 200], [300, 250, 600, 460], [20, 300, 90, 400]])
QWEN = Processor("trained", "qwen2_5_vl", 28, 56 * 56, 401_408)


def answer(space=CoordinateSpace.PIXELS, seen=None, labels=("cat", "dog", "cat"), truth=TRUTH, size=SIZE):
    boxes = convert_boxes_xyxy(truth, CoordinateSpace.PIXELS, space, size, seen)
    boxes = round_boxes_xyxy(boxes, space_size(space, size, seen))
    return Answer(1, write_answer(boxes, labels), 1, "a.png", size, seen, truth, labels)


@pytest.mark.parametrize("space", CoordinateSpace)
def test_each_space_is_recognised(space):
    seen = QWEN.input_size(1280, 960)
    answers = [answer(space, seen, size=(1280, 960)), answer(space, seen, truth=TRUTH * 1.5 + 10, size=(1280, 960))]
    means = measure_spaces(answers)
    assert max(means, key=means.get) is space and means[space] > 0.97
    assert check_space(answers, space).level == "ok"
    for other in CoordinateSpace:
        if other is not space:
            found = check_space(answers, other)
            assert found.level == "problem" and found.remedy.startswith(
                f"read them with --coordinates {space.value.replace('_', '-')}"
            )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), space=st.sampled_from([CoordinateSpace.PIXELS, CoordinateSpace.NORM1000]))
def test_noisy_answers_are_never_put_into_a_wrong_space(seed, space):
    """Two spaces apart by half: whatever is said for sure is right."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, (400, 300), (4, 2))
    truth = np.hstack([low, low + rng.uniform(60, (240, 180), (4, 2))])
    noisy = answer(space, truth=(truth + rng.normal(0, 6, truth.shape)).clip(0, 480), labels=("cat",) * 4)
    told = Answer(1, noisy.completion, 1, "a.png", SIZE, None, truth, ("cat",) * 4)
    found = check_space([told])
    if found.level == "ok":
        assert found.what.startswith(f"answers are in {space.value}")


def test_model_input_needs_a_size_or_a_processor():
    told = Answer(
        1,
        answer(CoordinateSpace.MODEL_INPUT, QWEN.input_size(1280, 960), size=(1280, 960)).completion,
        1,
        "a",
        (1280, 960),
        None,
        TRUTH,
        ("cat",) * 3,
    )
    assert "model-input could not be tried" in check_space([told]).what
    assert check_space([told], processor=QWEN).what.startswith("answers are in model-input")


def test_nothing_to_tell_from():
    assert check_space([]).level == "unclear"
    far = Answer(1, '[{"bbox_2d": [600, 1, 620, 9], "label": "cat"}]', 1, "a", SIZE, None, TRUTH[:1], ("cat",))
    assert "in no space do the boxes lie on objects" in check_space([far]).what
    square = answer(size=(1000, 1000))  # pixels of such a picture are norm1000
    assert check_space([square]).level == "unclear" and "too close to tell" in check_space([square]).what
    assert check_space([square], CoordinateSpace.NORM1000).level == "ok"


def test_bounds_that_differ_are_named_with_a_case():
    small = Processor("served", None, 28, 56 * 56, 28 * 28 * 64)
    found = check_bounds(QWEN, small, [(100, 100), (640, 480)])
    assert found.level == "problem" and "1 of 2 pictures" in found.what
    # by hand: the shrink is sqrt(640 * 480 / 50176) = 2.474, and 9.2 and 6.9 multiples of 28 are cut down
    assert "640 x 480 becomes 644 x 476 in training and 252 x 168 in evaluation" in found.what
    assert found.remedy == "set min_pixels=3136 and max_pixels=401408 in evaluation"
    assert check_bounds(QWEN, QWEN, [SIZE]).level == "ok"
    assert "but not for these pictures" in check_bounds(QWEN, small, [(100, 100)]).what


def test_labels_that_are_no_categories_get_a_suggestion():
    found = check_labels([answer(labels=("cats", "Traffic-Light", "cat"))], {"cat": 1, "traffic light": 2})
    assert found.level == "problem" and found.what.startswith("2 of 3 labels are no categories")
    assert "'Traffic-Light' (1 times, perhaps 'traffic light')" in found.what and "perhaps 'cat'" in found.what
    assert check_labels([answer()], {"cat": 1, "dog": 2}).level == "ok"
    assert check_labels([], {"cat": 1}).level == "unclear"


def test_lengths_by_hand():
    record = Record(Path("a.png"), 1, *SIZE, TRUTH, ("cat", "dog", "cat"), "set")
    data = DetectionSet("set", Path("x"), (record,), {"cat": 1, "dog": 2})
    words = lambda text: len(text.split())  # noqa: E731
    image = 644 * 476 // 28**2  # 391 tokens
    prompt = words("Locate every item from the category list in the image and output the coordinates in JSON format. "
                   "The category set includes cat, dog.")  # fmt: skip
    assert check_length(data, QWEN, image + prompt, 99, words).level == "ok"
    found = check_length(data, QWEN, image + prompt - 1, 99, words)
    assert (
        found.level == "problem"
        and f"1 of 1 pictures with their prompts are longer than {image + prompt - 1} tokens" in found.what
    )
    assert "1 right answers are longer than 3 tokens" in check_length(data, QWEN, 999, 3, words).what
    assert "estimated" in check_length(data, QWEN, 999, 999).what


def test_processors_are_read_in_both_spellings(tmp_path):
    for size in ({"min_pixels": 3136, "max_pixels": 401408}, {"size": {"shortest_edge": 3136, "longest_edge": 401408}}):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({"patch_size": 14, "merge_size": 2, **size}))
        (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
        assert read_processor(tmp_path) == Processor(tmp_path.name, "qwen2_5_vl", 28, 3136, 401408)
    (tmp_path / "preprocessor_config.json").write_text('{"patch_size": "14"}')
    with pytest.raises(DataError, match="patch_size, merge_size and pixel bounds are not whole numbers; give the folder"):
        read_processor(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_processor(tmp_path / "absent")
