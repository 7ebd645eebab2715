"""Completions by the thousand: against an independent reading of the strict grammar, damaged, and beyond all limits."""

import json
import math
import random
import time
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_completions import BOTH, BOX_B, SIZE, A, B, check_spans, summary

from vr1kit import completions
from vr1kit.completions import REASONS, parse_completion
from vr1kit.parsing import budget

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


def test_digits_of_extra_values_are_not_limited():
    text = f'```json\n[{{"bbox_2d": [1, 2, 3, 4], "label": "a }} b", "extra": {"9" * 5_000}}}, {B}]\n```'
    assert summary(text) == (BOTH, ("a } b", "b"), ())
    check_spans(text, parse_completion(text, SIZE))


@pytest.mark.parametrize("extra", ["[" * 50_000 + "]" * 50_000, '{"a":' * 5_000 + "{}" + "}" * 5_000])
def test_json_deeper_than_decoders_follow_is_torn_text(extra):
    text = f'[{A}, {{"bbox_2d": [1, 2, 3, 4], "label": "a", "extra": {extra}}}, {B}]'
    parsed = parse_completion(text, SIZE)
    assert (parsed.labels[0], parsed.labels[-1]) == ("a", "b") and parsed.dual_format == 0.0
    check_spans(text, parsed)


@pytest.mark.parametrize("start", ["{" * 100_000, '"a' * 100_000, "[{" * 50_000])
def test_items_of_the_template_are_picked_out_of_any_junk(start):
    text = f"[{start} {A}, {B}]"
    parsed = parse_completion(text, SIZE)
    assert parsed.labels == ("a", "b") and parsed.reasons
    check_spans(text, parsed)


FAULTS = {
    "single quotes": lambda item: item.replace('"', "'"),
    "bare keys": lambda item: item.replace('"bbox_2d"', "bbox_2d").replace('"label"', "label"),
    "trailing comma": lambda item: item.replace("}", ",}"),
    "no ] of the box": lambda item: item.replace("]", ""),
    "no comma between fields": lambda item: item.replace("],", "]"),
    "quotes and ]": lambda item: item.replace('"', "'").replace("]", ""),
    "a list each": lambda item: f"[{item}]\n",
    "other keys, too": lambda item: item.replace("}", ', "score": 0.5, "point_2d": [1, [2]]}'),
    "box": lambda item: item.replace("bbox_2d", "box"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("wrap", ["[{}", "{}", "Here: [{}] Done."])
def test_one_fault_in_each_of_three_hundred_items_loses_none(fault, wrap):
    text = wrap.replace("{}", ", ".join(FAULTS[fault](f'{{"bbox_2d": [{k}, 2, {k + 1}, 4], "label": "a"}}') for k in range(300)))
    parsed = parse_completion(text, (400, 400))
    assert parsed.boxes_xyxy[:, 0].tolist() == list(range(300)) and parsed.dual_format == 0.0
    check_spans(text, parsed)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([*TOKENS, A, B, "1", "012", "1.50", '{"bbox": [', "2, ", '], "label": "a"', "} "]), max_size=14).map(
        "".join
    )
)
def test_what_is_picked_out_of_junk_stands_where_it_says(text):
    text = f'[{{{text} {{"bbox_2d": [1, 02, 3, 4], "label": "a"}} {A}'
    with patch.object(budget, "MOST_TOKENS", 0):
        parsed = parse_completion(text, SIZE)
    assert parsed.labels[-1] == "a"
    check_spans(text, parsed)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*TOKENS, A, B, f"{A},", "{'bbox_2d': [1, 2, 3, 4], 'label': 'a'}", "{bbox: [1, 2], label: 3,}",
                                 '{"bbox_2d": [1 2 3,, 4], "label": "a"}', "{'label': 'b' \"bbox\": [1, 2, 3, 4],", '{"box": [,1, .5, 07]',
                                 "'label': 'it's'", 'label: "c"', '"label": "d": ', '"bbox_2d": [ ]', '{"bbox_2d": [1, 2, 3, 4',
                                 '{"a": {}}', '{"label": {"box": 1}}', "} {", "}, None, {"]), max_size=12).map("".join))  # fmt: skip
def test_shortcuts_find_what_reading_by_token_finds(text):
    by_token = completions.Scan(text, SIZE, completions.read_torn_string).run()
    quick = completions.Scan(text, SIZE, completions.read_torn_string, shortcuts=True).run()
    assert (quick.boxes_xyxy.tolist(), quick.labels, quick.reasons) == (
        by_token.boxes_xyxy.tolist(),
        by_token.labels,
        by_token.reasons,
    )
    assert quick.spans == by_token.spans


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
            started = time.thread_time()  # other work on the machine does not count
            parse_completion(text, SIZE)
            best = min(best, time.thread_time() - started)
        return best

    assert seconds(64_000) < 30 * max(seconds(8_000), 5e-4)


def test_a_hundred_thousand_open_lists():
    parsed = parse_completion("[" * 100_000, SIZE)
    assert parsed.reasons == ("nested", "unclosed")
    assert isinstance(parsed.boxes_xyxy, np.ndarray)
