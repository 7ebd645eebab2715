"""Completions: the text of an answer -> detections, with a reason for everything that was not one.

Two questions are kept apart. Strictness is what earns the format reward; recovery is what recall, precision and
evaluation can still use of an answer that did not earn it.

Strict grammar (whitespace is JSON's: space, tab, newline, carriage return):

    answer    = ws ( list | "```json" list "```" ) ws
    list      = ws "[" [ detection { "," detection } ] "]" ws          an empty list is a well-formed answer
    detection = JSON object with a string "label" and a "bbox_2d" of four JSON numbers, in any order; other keys
                are allowed and not looked into; of a repeated key the last counts
    numbers   = finite, 0 <= x1 < x2 <= width, 0 <= y1 < y2 <= height of the space the answer is written in

`template_ok` says that the text follows the first three rules, `content_ok` that no box breaks the fourth, and the
format reward, the paper's "dual format", needs both: it is 1 exactly if `reasons` is empty.

Recovery reads any text from left to right, once. It looks for "[" and "{", and inside them follows JSON with these
liberties: prose around and between; one list in another or in an object; a bare object; single quotes, unquoted
keys; missing, doubled and trailing commas; missing and surplus closers; an end in mid-answer; `bbox` or `box` for
`bbox_2d`. An object is kept as a detection if its label and its four numbers are complete and keep the rules
above; otherwise it is dropped for one reason. An object inside a detection is an extra value, not a second one.
A string of an answer that is not JSON ends at a brace or a newline at the latest, so that one lost quote costs one
item, not all that follow.

Reason codes, in `REASONS`: first those of the answer, each once, then one per dropped item, in order of the text.
An item with several faults gets the first that applies, in the order of the table. No text raises an exception or
takes more than linear time: none of a million damaged ones took longer than a millisecond or 50 ms for a megabyte, whichever is more
(`benchmarks/fuzz.py`). Neither length nor the digits of a number are limited. Two limits are ours: JSON nested deeper than the
decoders follow, about 1,000 levels, is read as torn; and of a text torn in more places than `budget.most_tokens` allows, some thirty
items in a usual answer, the rest is not read by token: items that are whole are still found, the others are "unread".

Deviations from the released code (it gives format 1.0 to anything that is JSON, see its row in brackets):
1. `{}`, `5`, `[1, 2]`, items without a box, and strings as coordinates are template errors (7).
2. Boxes out of order or out of the picture are content errors (7); it does not look.
3. Prose before the fence costs the format in both, but there the same boxes may be found by a regular expression
   that also takes them out of prose; here they must be in an object with a label (8).
4. An empty list earns the format; there the branch is inverted (10).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from vr1kit.parsing.budget import SLOWLY
from vr1kit.parsing.detections import (
    ANSWER_REASONS,
    BOX_KEYS,
    CONTENT_REASONS,
    FENCE_CLOSE,
    FENCE_OPEN,
    ITEM_REASONS,
    MAX_SIDE,
    REASONS,
    STRICT,
    WHITESPACE,
    ItemSpans,
    ParsedCompletion,
    Span,
    content_fault,
    content_holds,
    stack_boxes,
)  # fmt: skip
from vr1kit.parsing.findings import Findings
from vr1kit.parsing.scan import Scan
from vr1kit.parsing.strings import read_json_string, read_torn_string

__all__ = ["ANSWER_REASONS", "BOX_KEYS", "CONTENT_REASONS", "ITEM_REASONS", "MAX_SIDE", "REASONS", "ItemSpans", "ParsedCompletion",
           "Span", "parse_completion"]  # fmt: skip


def parse_completion(text: str, size: tuple[float, float]) -> ParsedCompletion:
    """Read an answer whose numbers are in a space of `size` (width, height)."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, got {type(text).__name__}: {text!r}")
    width, height = size
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"size must be (width, height), both above 0 and at most {MAX_SIDE:g}, got {size!r}")

    payload = text.strip(WHITESPACE)
    if payload.startswith(FENCE_OPEN) and payload.endswith(FENCE_CLOSE):
        payload = payload[len(FENCE_OPEN) : -len(FENCE_CLOSE)]
    try:
        items = STRICT.decode(payload)
    except ValueError:  # msgspec's own, and UnicodeEncodeError
        pass
    else:
        return _judge_content(text, size, [item.bbox_2d for item in items], tuple([item.label for item in items]))
    spent = 0.0
    try:
        value = _decode(payload)
        parsed = _read_value(text, size, value) if type(value) in (list, dict) else None
    except (ValueError, RecursionError) as error:  # no JSON, or nested deeper than the decoders follow
        parsed, spent = None, SLOWLY * len(payload) * isinstance(error, json.JSONDecodeError)
    return parsed or Scan(text, size, read_torn_string, shortcuts=True, spent=spent).run()


# --- JSON that follows the template -----------------------------------------------------------


def _refuse_constant(name: str) -> None:
    raise json.JSONDecodeError("not JSON", name, 0)  # NaN and Infinity, which Python's decoder would let through


_SURROGATES = re.compile(r"\\u[dD](?:[89abAB]..\\u[dD][c-fC-F]|([89a-fA-F]))")  # pairs; ones without a partner are group 1
_QUICK_DECODER = msgspec.json.Decoder()
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=float)  # float: digits without limit


def _decode(payload: str) -> Any:
    """Any JSON, by msgspec if it can: of what it refuses, only lone surrogates and numbers out of its range are JSON."""
    try:
        return _QUICK_DECODER.decode(payload)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return _DECODER.decode(payload)
    except msgspec.DecodeError:
        if not any(_SURROGATES.findall(payload)):
            raise
        return _DECODER.decode(payload)


def _judge_content(
    text: str, size: tuple[float, float], boxes: Sequence[Sequence[float]], labels: tuple[str, ...]
) -> ParsedCompletion:
    if content_holds(boxes, size):
        return ParsedCompletion(text, size, stack_boxes(boxes), labels, (), find_spans)
    faults = [content_fault(box, size) for box in boxes]
    good = [index for index, fault in enumerate(faults) if fault is None]
    boxes_xyxy = stack_boxes([boxes[index] for index in good])  # (P, 4)
    reasons = tuple(fault for fault in faults if fault is not None)
    return ParsedCompletion(text, size, boxes_xyxy, tuple(labels[index] for index in good), reasons, find_spans)


# --- Other JSON ----------------------------------------------------------------------------


def _read_value(text: str, size: tuple[float, float], value: list | dict) -> ParsedCompletion:
    """The outcome for JSON that is not of the template, or has other keys."""
    findings = Findings(size)
    if type(value) is dict:
        findings.flaws.add("not_a_list")
    findings.add_decoded(value)
    return findings.to_outcome(text, find_spans)


def find_spans(text: str, size: tuple[float, float]) -> tuple[ItemSpans, ...]:
    """Where the detections of an answer in JSON stand."""
    return Scan(text, size, read_json_string).run().spans
