import json
import math
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vr1kit import completions
from vr1kit.completions import ANSWER_REASONS, CONTENT_REASONS, ITEM_REASONS, REASONS, parse_completion

SIZE = (100, 80)
A = '{"bbox_2d": [1, 2, 3, 4], "label": "a"}'
B = '{"bbox_2d": [5, 6, 7.5, 8], "label": "b"}'
BOX_A, BOX_B = [1, 2, 3, 4], [5, 6, 7.5, 8]


def summary(text, size=SIZE):
    parsed = parse_completion(text, size)
    return parsed.boxes_xyxy.tolist(), parsed.labels, parsed.reasons


# --- Strictness ---


@pytest.mark.parametrize(
    "text",
    [
        f"[{A}, {B}]",
        f" \n\t[{A},{B}]\r\n",
        f"```json\n[\n\t{A},\n\t{B}\n]\n```",
        f"\n```json[{A},{B}]```\n",
        f'[{{"label": "a", "score": 0.5, "more": {{"bbox": [[9]]}}, "bbox_2d": [1, 2, 3, 4]}}, {B}]',
        f'[{{"label": 7, "label": "a", "bbox_2d": [1.0, 2e0, 30e-1, 4]}}, {B}]',  # of a repeated key the last counts
        f'[{{"lab\\u0065l": "\\u0061", "bbox_2d": [1, 2, 3, 4]}}, {B}]',  # JSON may escape what it likes
    ],
)
def test_strictly_well_formed(text):
    assert summary(text) == ([BOX_A, BOX_B], ("a", "b"), ())
    parsed = parse_completion(text, SIZE)
    assert parsed.template_ok and parsed.content_ok and parsed.dual_format == 1.0


@pytest.mark.parametrize("text", ["[]", " [ ] ", "```json\n[]\n```", "```json[]```"])
def test_an_empty_list_is_well_formed(text):
    parsed = parse_completion(text, SIZE)
    assert parsed.boxes_xyxy.shape == (0, 4)
    assert (parsed.labels, parsed.reasons, parsed.spans, parsed.dual_format) == ((), (), (), 1.0)


def test_boxes_on_the_border_are_inside():
    assert summary('[{"bbox_2d": [0, 0, 100, 80], "label": ""}]') == ([[0, 0, 100, 80]], ("",), ())


# --- Recovery: (text, kept boxes, reasons) ---

BOTH = [BOX_A, BOX_B]


@pytest.mark.parametrize(
    ("text", "boxes", "reasons"),
    [
        # nothing there
        ("", [], ["no_list"]),
        (" \n", [], ["no_list"]),
        ("I see nothing.", [], ["no_list"]),
        ("5", [], ["no_list"]),
        ("null", [], ["no_list"]),
        ('"text"', [], ["no_list"]),
        # around the list
        (f"Here it's: [{A}, {B}]", BOTH, ["text_around"]),
        (f"[{A}, {B}] Done.", BOTH, ["text_around"]),
        ('At [{"bbox_2d": [0, 0, 100, 80], "label": "a"}]', [[0, 0, 100, 80]], ["text_around"]),
        (f"```\n[{A}, {B}]\n```", BOTH, ["text_around"]),
        (f"```JSON\n[{A}, {B}]\n```", BOTH, ["text_around"]),
        (f"```json\n[{A}, {B}]", BOTH, ["text_around"]),
        (f"[{A}, {B}]\n```", BOTH, ["text_around"]),
        (f"Boxes:\n```json\n[{A}, {B}]\n```", BOTH, ["text_around"]),
        (f"\ufeff[{A}, {B}]", BOTH, ["text_around"]),
        (f"\u00a0[{A}, {B}]", BOTH, ["text_around"]),  # whitespace, but not JSON's
        (f"[{A}]\n[{B}]", BOTH, ["several_lists"]),
        (f"[{A}] and [{B}]", BOTH, ["several_lists", "text_around"]),
        # another shape
        (A, [BOX_A], ["not_a_list"]),
        (f'{{"objects": [{A}, {B}]}}', BOTH, ["not_a_list", "nested"]),
        (f"[[{A}, {B}]]", BOTH, ["nested"]),
        (f"[[{A}], [[{B}]]]", BOTH, ["nested"]),
        (f'[{{"a": {A}}}, {B}]', BOTH, ["nested"]),
        # punctuation
        (f"[{A}, {B},]", BOTH, ["punctuation"]),
        (f"[{A}, , {B}]", BOTH, ["punctuation"]),
        (f"[, {A}, {B}]", BOTH, ["punctuation"]),
        (f"[{A} {B}]", BOTH, ["punctuation"]),
        ('[{"bbox_2d": [1, 2, 3, 4,], "label": "a",}]', [BOX_A], ["punctuation"]),
        ('[{"bbox_2d": [1 2 3 4] "label" "a"}]', [BOX_A], ["punctuation"]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "a", "score"}]', [BOX_A], ["punctuation"]),
        # quotes
        ("[{'bbox_2d': [1, 2, 3, 4], 'label': 'a'}]", [BOX_A], ["quotes"]),
        ('[{bbox_2d: [1, 2, 3, 4], label: "a"}]', [BOX_A], ["quotes"]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "a\tb"}]', [BOX_A], ["quotes"]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "\\q"}]', [BOX_A], ["quotes"]),
        (f'[{{"bbox_2d": [1, 2, 3, 4], "label": "a}}, {B}]', [BOX_B], ["quotes", "incomplete"]),
        # words and closers
        (f"[{A}, ..., {B}]", BOTH, ["punctuation", "junk"]),
        (f"[{A}}}, {B}]", BOTH, ["junk"]),
        (f'[{{"bbox_2d": [1, 2, 3, 4]], "label": "a"}}, {B}]', BOTH, ["junk"]),
        # closers missing, in the middle
        (f'[{{"bbox_2d": [1, 2, 3, 4}}, {B}]', [BOX_B], ["unclosed", "no_label"]),
        (f'[{{"label": "a", "bbox_2d": [1, 2, 3, 4}}, {B}]', BOTH, ["unclosed"]),
        (f'[{{"bbox_2d": [1, 2, 3, 4, "label": "a"}}, {B}]', BOTH, ["unclosed"]),
        (f'[{{"bbox_2d": [1, 2, 3, 4], "label": "a", {B}]', BOTH, ["punctuation", "unclosed"]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "a"]', [BOX_A], ["unclosed"]),
        # the end of the tokens
        (f"[{A}, {B}", BOTH, ["unclosed"]),
        (f"```json\n[{A}, {B}", BOTH, ["unclosed"]),
        (f"[{A}, {B},", BOTH, ["unclosed"]),
        (f"[{A}, {B[:-1]}", BOTH, ["unclosed"]),
        (f'[{A}, {{"label": "b", "bbox_2d": [5, 6, 7, 8', [BOX_A], ["unclosed", "incomplete"]),  # 8 may begin 80
        (f'[{A}, {{"bbox_2d": [5, 6, 7, 8], "label": "b', [BOX_A], ["quotes", "unclosed", "incomplete"]),
        (f'[{A}, {{"bbox_2d": [5, 6, 7, 8], "lab', [BOX_A], ["quotes", "unclosed", "incomplete"]),
        (f"[{A}, {{", [BOX_A], ["unclosed", "incomplete"]),
        # items that are none
        ("[1, true]", [], ["not_object", "not_object"]),
        (f'["a", {A}]', [BOX_A], ["not_object"]),
        ("{}", [], ["not_a_list", "no_box"]),
        (f"[{{}}, {A}]", [BOX_A], ["no_box"]),
        ('[{"label": "a"}]', [], ["no_box"]),
        ('[{"bbox_2d": [1, 2, 3, 4]}]', [], ["no_label"]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": 7}]', [], ["label_not_string"]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": ["a"]}]', [], ["label_not_string"]),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": null}]', [], ["label_not_string"]),
        ('[{"bbox_2d": [1, 2, 3], "label": "a"}]', [], ["box_length"]),
        ('[{"bbox_2d": [1, 2, 3, 4, 5], "label": "a"}]', [], ["box_length"]),
        ('[{"bbox_2d": [[1, 2, 3, 4]], "label": "a"}]', [], ["box_length"]),
        ('[{"bbox_2d": "1234", "label": "a"}]', [], ["box_length"]),
        ('[{"bbox_2d": {"a": 1, "b": 2, "c": 3, "d": 4}, "label": "a"}]', [], ["box_length"]),
        ('[{"bbox_2d": 7, "label": "a"}]', [], ["box_length"]),
        ('[{"bbox_2d": ["1", 2, 3, 4], "label": "a"}]', [], ["box_type"]),
        ('[{"bbox_2d": [false, 2, 3, 4], "label": "a"}]', [], ["box_type"]),
        ('[{"bbox_2d": [null, 2, 3, 4], "label": "a"}]', [], ["box_type"]),
        ('[{"bbox_2d": [[1], 2, 3, 4], "label": "a"}]', [], ["box_type"]),
        ('[{"bbox_2d": [01, 2, 3, 4], "label": "a"}]', [], ["junk", "box_type"]),
        # another key
        (f'[{{"bbox": [1, 2, 3, 4], "label": "a"}}, {B}]', BOTH, ["box_key"]),
        (f'[{{"box": [1, 2, 3, 4], "label": "a"}}, {B}]', BOTH, ["box_key"]),
        # numbers
        (f'[{{"bbox_2d": [NaN, 2, 3, 4], "label": "a"}}, {B}]', [BOX_B], ["junk", "not_finite"]),
        (f'[{{"bbox_2d": [1, 2, 3, -Infinity], "label": "a"}}, {B}]', [BOX_B], ["junk", "not_finite"]),
        (f'[{{"bbox_2d": [1, 2, 1e999, 4], "label": "a"}}, {B}]', [BOX_B], ["not_finite"]),
        (f'[{{"bbox_2d": [3, 2, 3, 4], "label": "a"}}, {B}]', [BOX_B], ["not_ordered"]),
        (f'[{{"bbox_2d": [1, 4, 3, 2], "label": "a"}}, {B}]', [BOX_B], ["not_ordered"]),
        (f'[{{"bbox_2d": [-0.5, 2, 3, 4], "label": "a"}}, {B}]', [BOX_B], ["outside"]),
        (f'[{{"bbox_2d": [1, 2, 100.5, 4], "label": "a"}}, {B}]', [BOX_B], ["outside"]),
        (f'[{{"bbox_2d": [1, 2, 3, 81], "label": "a"}}, {B}]', [BOX_B], ["outside"]),
        # one reason an item, the first that applies; and all items, in order
        ('[{"bbox_2d": [200, 2, 3], "label": 5}, {"bbox_2d": [9, 9, 300, 1], "label": "a"}]', [], "label_not_string not_ordered"),
    ],
)  # fmt: skip
def test_recovery(text, boxes, reasons):
    reasons = tuple(reasons.split()) if isinstance(reasons, str) else tuple(reasons)
    found = summary(text)
    assert (found[0], found[2]) == (boxes, reasons)
    parsed = parse_completion(text, SIZE)
    assert parsed.dual_format == 0.0
    assert parsed.content_ok == (not set(reasons) & set(CONTENT_REASONS))
    assert parsed.template_ok == (not set(reasons) - set(CONTENT_REASONS))


def test_every_reason_is_tested_and_in_one_class():
    tested = {reason for mark in test_recovery.pytestmark for case in mark.args[1] for reason in _codes(case[2])}
    assert tested == set(REASONS)
    assert len(REASONS) == len(ANSWER_REASONS) + len(ITEM_REASONS) + len(CONTENT_REASONS)


def _codes(reasons):
    return reasons.split() if isinstance(reasons, str) else reasons


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("[{'bbox_2d': [1, 2, 3, 4], 'label': 'man's hat'}]", "man's hat"),
        ("[{'bbox_2d': [1, 2, 3, 4], 'label': 'the \"x\\' \\n'}]", "the \"x' \n"),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "\\u00e9\\q"},]', "\\u00e9\\q"),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "\\u00e9"},]', "é"),
        ('[{"bbox_2d": [1, 2, 3, 4], "label": "a ] } b"}]', "a ] } b"),
    ],
)
def test_labels(text, label):
    assert parse_completion(text, SIZE).labels == (label,)


def test_an_object_in_a_detection_is_not_a_second_one():
    inner = '{"bbox": [5, 5, 6, 6], "label": "inner"}'
    assert summary(f'[{{"bbox_2d": [1, 2, 3, 4], "label": "a", "more": [{inner}]}}]') == ([BOX_A], ("a",), ())
    # The same where the text is not JSON, and where the outer one breaks the content.
    assert summary(f'[{{"bbox_2d": [1, 2, 3, 4], "label": "a", "more": [{inner}]}},]')[:2] == ([BOX_A], ("a",))
    assert summary(f'[{{"bbox_2d": [3, 2, 3, 4], "label": "a", "more": [{inner}]}}]') == ([], (), ("not_ordered",))


def test_what_a_detection_hides_does_not_make_its_holder_a_wrapper():
    hidden = '{"bbox_2d": [3, 2, 3, 4], "label": "a", "more": [{"bbox_2d": [5, 5, 6, 6], "label": "inner"}]}'
    assert summary(f'[{{"label": 7, "more": {hidden}}}]') == ([], (), ("no_box",))


def test_a_string_before_a_colon_is_a_key():
    # No value before the next key, and a stray string before a key: in neither is the key taken for a value.
    assert summary('[{"label": "bbox_2d": [1, 2, 3, 4]}]') == ([], (), ("punctuation", "no_label"))
    assert summary('[{"x" "label": "a", "bbox_2d": [1, 2, 3, 4]}]') == ([BOX_A], ("a",), ("punctuation",))


def test_items_dropped_in_a_wrapper_keep_their_reasons():
    text = '{"objects": [{"bbox_2d": [3, 2, 3, 4], "label": "a"}, {"label": "b"}]}'
    assert summary(text) == ([], (), ("not_a_list", "nested", "not_ordered", "no_box"))


def test_arguments_are_checked():
    with pytest.raises(TypeError, match="text.*list"):
        parse_completion([{"role": "assistant"}], SIZE)
    for size in ((0, 5), (5, -1), (math.nan, 5), (5, math.inf), (1e10, 5)):
        with pytest.raises(ValueError, match="size"):
            parse_completion("[]", size)


# --- Offsets ---


def check_spans(text, parsed):
    assert len(parsed.spans) == len(parsed.boxes_xyxy) == len(parsed.labels)
    for spans, box_xyxy in zip(parsed.spans, parsed.boxes_xyxy, strict=True):
        assert [float(text[start:end]) for start, end in spans.numbers] == box_xyxy.tolist()
        assert text[spans.item[0]] == "{"
        assert all(spans.item[0] < start < end <= spans.item[1] for start, end in (spans.label, *spans.numbers))


def test_offsets_by_hand():
    text = 'x [{"bbox_2d": [1, 22, 33, 44], "label": "a"}]'
    #       0123456789012345678901234567890123456789012345
    (spans,) = parse_completion(text, SIZE).spans
    assert spans.item == (3, 45)
    assert spans.numbers == ((16, 17), (19, 21), (23, 25), (27, 29))
    assert spans.label == (41, 44)


@pytest.mark.parametrize("case", test_recovery.pytestmark[0].args[1], ids=lambda case: case[0])
def test_offsets_of_recovered_items(case):
    check_spans(case[0], parse_completion(case[0], SIZE))


def test_offsets_of_dropped_items_are_left_out():
    text = f'```json\n[{A}, {{"bbox_2d": [9, 9, 9, 9], "label": "c"}}, {B}]\n```'
    parsed = parse_completion(text, SIZE)
    assert [text[slice(*spans.item)] for spans in parsed.spans] == [A, B]
    check_spans(text, parsed)


# --- Against an independent reading of the strict grammar ---


def strictly_well_formed(text: str, size=SIZE) -> bool:
    """The grammar of the module's first page, written again with the decoder only."""

    def refuse(_):
        raise ValueError

    body = text.strip(" \t\n\r")
    if body[:7] == "```json" and body[7:][-3:] == "```":
        body = body[7:-3]
    try:
        items = json.loads(body, parse_constant=refuse)
    except ValueError:
        return False
    if not isinstance(items, list):
        return False
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("label"), str):
            return False
        box = item.get("bbox_2d")
        if not isinstance(box, list) or [type(n) in (int, float) and abs(n) < 1e300 for n in box] != [True] * 4:
            return False
        if not (0 <= box[0] < box[2] <= size[0] and 0 <= box[1] < box[3] <= size[1]):
            return False
    return True


LABELS = st.text(st.characters(codec="utf-8"), max_size=6)
NUMBERS = st.one_of(st.integers(-2, 102), st.floats(0, 80), st.sampled_from([True, None, "1", 10**400, []]))
ORDERED_BOXES = st.tuples(st.integers(0, 49), st.integers(0, 39), st.integers(50, 100), st.floats(40, 80)).map(list)
BOXES = st.one_of(ORDERED_BOXES, ORDERED_BOXES, st.lists(NUMBERS, max_size=5))
EXTRAS = st.recursive(st.one_of(st.none(), st.integers(), LABELS), lambda inner: st.lists(inner, max_size=2), max_leaves=3)
ITEMS = st.one_of(
    st.fixed_dictionaries({"bbox_2d": ORDERED_BOXES, "label": LABELS}),
    st.fixed_dictionaries({"label": LABELS, "bbox_2d": BOXES}, optional={"extra": EXTRAS}),
    st.dictionaries(st.sampled_from(["bbox_2d", "bbox", "label", "x"]), st.one_of(BOXES, LABELS, EXTRAS), max_size=4),
    EXTRAS,
)
ANSWERS = st.tuples(st.lists(ITEMS, max_size=4), st.sampled_from([None, 1]), st.booleans()).map(
    lambda made: json.dumps(made[0], indent=made[1], ensure_ascii=made[2])
)


@settings(max_examples=150, deadline=None)
@given(ANSWERS, st.booleans())
def test_json_answers_agree_with_the_reference(answer, fenced):
    text = f"```json\n{answer}\n```" if fenced else answer
    parsed = parse_completion(text, SIZE)
    assert parsed.dual_format == strictly_well_formed(text)
    check_spans(text, parsed)


@settings(max_examples=150, deadline=None)
@given(ANSWERS)
def test_fast_path_and_scan_agree_on_json(answer):
    fast = parse_completion(answer, SIZE)
    scan = completions.Scan(answer, SIZE, completions.read_json_string).run()
    assert (fast.boxes_xyxy.tolist(), fast.labels, fast.reasons) == (
        scan.boxes_xyxy.tolist(),
        scan.labels,
        scan.reasons,
    )


TOKENS = ["[", "]", "{", "}", ",", ":", '"', "'", "\\", " ", "\n", "```json", "```", "1", "2.5", "-3", "1e5", "90", "NaN",
          "true", "null", '"label"', '"bbox_2d"', '"a"', "'a'", "bbox", "it's", A, B, "[1, 2, 3, 4]", '"label": "a"', "é"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(TOKENS), max_size=14).map("".join))
def test_no_text_raises_or_passes_by_mistake(text):
    parsed = parse_completion(text, SIZE)
    assert parsed.dual_format == strictly_well_formed(text)
    assert set(parsed.reasons) <= set(REASONS)
    check_spans(text, parsed)


@settings(max_examples=250, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_small_damage(seed):
    """Well-formed answers with one to three characters deleted, doubled or replaced."""
    rng = random.Random(seed)
    text = f"```json\n[{A}, {B}, {A}]\n```"
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", text[at] * 2, rng.choice('[]{},:"0 \n'), text[at]]) + text[at + 1 :]
    parsed = parse_completion(text, SIZE)
    assert parsed.dual_format == strictly_well_formed(text)
    check_spans(text, parsed)


def test_an_answer_cut_anywhere_keeps_exactly_its_complete_items():
    items = [f'{{"bbox_2d": [{n}, {n}, {n + 10}, {n + 20}], "label": "l{n}"}}' for n in range(5)]
    text = f"```json\n[\n{', '.join(items)}\n]\n```"
    for cut in range(len(text)):
        # Complete without its "}": the closing quote of the label is the item's last character but one.
        complete = sum(text.index(item) + len(item) - 1 <= cut for item in items)
        parsed = parse_completion(text[:cut], SIZE)
        assert parsed.labels == tuple(f"l{n}" for n in range(complete))
        assert parsed.dual_format == 0.0
        check_spans(text[:cut], parsed)


# --- Beyond Python's limits for JSON ---


@pytest.mark.parametrize("extra", ["[" * 50_000 + "]" * 50_000, '{"a":' * 5_000 + "{}" + "}" * 5_000, "9" * 5_000])
def test_depth_and_digits_of_extra_values_are_not_limited(extra):
    text = f'```json\n[{{"bbox_2d": [1, 2, 3, 4], "label": "a }} b", "extra": {extra}}}, {B}]\n```'
    assert summary(text) == (BOTH, ("a } b", "b"), ())
    check_spans(text, parse_completion(text, SIZE))


@pytest.mark.parametrize("digits", ["9" * 400, "9" * 5_000, "-" + "9" * 5_000, "9" * 1_000_000, "1e" + "9" * 1_000])
def test_huge_numbers_are_not_finite(digits):
    assert summary(f'[{{"bbox_2d": [1, 2, 3, {digits}], "label": "a"}}, {B}]') == ([BOX_B], ("b",), ("not_finite",))


PATHOLOGICAL = {
    "open lists": lambda n: "[" * n,
    "open objects": lambda n: "{" * n,
    "open lists and objects": lambda n: "[{" * (n // 2),
    "nested objects": lambda n: '{"a":' * (n // 5),
    "wrapped detections": lambda n: '{"a":[' * (n // 12) + A + "]}" * (n // 12),
    "closers": lambda n: "[" + "]}" * (n // 2),
    "crossed closers": lambda n: "[{" * (n // 4) + "}]" * (n // 4),
    "double quotes": lambda n: "[" + '"' * n,
    "single quotes": lambda n: "[" + "'" * n,
    "escaped quotes": lambda n: "[" + '"\\' * (n // 2),
    "backslashes": lambda n: '["' + "\\" * n,
    "apostrophes and spaces": lambda n: "['" + "' " * (n // 4) + " " * (n // 4) + "'" * (n // 4),
    "commas and colons": lambda n: "[" + ",:" * (n // 2),
    "digits": lambda n: "[" + "7" * n,
    "numbers": lambda n: "[" + "7," * (n // 2),
    "spaces": lambda n: "[" + " " * n + "x" + " " * n,
    "junk": lambda n: "".join(random.Random(n).choices('[]{}:,"' + "'\\ab1 \n`", k=n)),
    "prose": lambda n: "the [cat] and {dog} " * (n // 20),
    "items": lambda n: f"[{A}," * (n // 40),
    "fences": lambda n: "```json\n" * (n // 8),
    "deep json": lambda n: "[" * (n // 2) + "]" * (n // 2),
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_time_is_linear(name):
    """Eight times the text may take 8 times as long, with room for noise; quadratic would be 64."""
    make = PATHOLOGICAL[name]

    def seconds(length: int) -> float:
        text, best = make(length), math.inf
        for _ in range(2):
            started = time.perf_counter()
            parse_completion(text, SIZE)
            best = min(best, time.perf_counter() - started)
        return best

    assert seconds(64_000) < 30 * max(seconds(8_000), 5e-4)


def test_a_hundred_thousand_open_lists():
    parsed = parse_completion("[" * 100_000, SIZE)
    assert parsed.reasons == ("nested", "unclosed")
    assert isinstance(parsed.boxes_xyxy, np.ndarray)
