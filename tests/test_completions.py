"""Completions by hand: what is strict, what is recovered and why not the rest, and where it stands in the text."""

import math

import pytest

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
        (f'[{B} {{"bbox_2d": [1, 2, 3, 4], "label": "\\{{b"}}]', [BOX_B, BOX_A], ["punctuation", "quotes"]),  # a brace in a string
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


def test_a_text_torn_everywhere_is_read_up_to_a_limit_and_its_whole_items_to_the_end():
    torn = '{"bbox_2d": [1, 2, 3x, 4], "label": "a"}'
    parsed = parse_completion("[" + ", ".join([torn] * 150 + [A, torn, B]) + "]" + f"[{torn} {A}]", SIZE)
    assert parsed.boxes_xyxy.tolist() == [BOX_A, BOX_B, BOX_A] and parsed.labels == ("a", "b", "a")
    unread = parsed.reasons.count("unread")
    read = parsed.reasons.count("box_type")
    assert parsed.reasons == ("junk",) + ("box_type",) * read + ("incomplete",) + ("unread",) * unread
    assert read > 10 and 1 < unread < 152 - read, "one for each that was come upon, and one for all that follows"
    check_spans(parsed.text, parsed)
    wrapped = parse_completion('{"objects": [' + ", ".join([torn] * 150 + [A]), SIZE)
    assert wrapped.labels == ("a",) and "no_box" not in wrapped.reasons, "the wrapper is no item"
    assert 40 < sum(wrapped.reasons.count(r) for r in ITEM_REASONS) <= 150
    few = parse_completion("[" + ", ".join([torn] * 30 + [A]) + "]", SIZE)
    assert few.reasons == ("junk",) + ("box_type",) * 30 and few.labels == ("a",)


def test_every_reason_is_tested_and_in_one_class():
    tested = {reason for mark in test_recovery.pytestmark for case in mark.args[1] for reason in _codes(case[2])}
    assert tested == set(REASONS) - {"unread"}  # which is below
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
