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
takes more than linear time: neither depth, nor length, nor the digits of a number are limited by Python's own
limits for JSON, and the outcome does not depend on them.

Deviations from the released code (it gives format 1.0 to anything that is JSON, see its row in brackets):
1. `{}`, `5`, `[1, 2]`, items without a box, and strings as coordinates are template errors (7).
2. Boxes out of order or out of the picture are content errors (7); it does not look.
3. Prose before the fence costs the format in both, but there the same boxes may be found by a regular expression
   that also takes them out of prose; here they must be in an object with a label (8).
4. An empty list earns the format; there the branch is inverted (10).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter

import msgspec
import numpy as np

from vr1kit.detections import (
    ANSWER_REASONS,
    BOX_KEYS,
    CONTENT_REASONS,
    FENCE_CLOSE,
    FENCE_OPEN,
    ITEM_REASONS,
    MAX_SIDE,
    REASONS,
    WHITESPACE,
    ItemSpans,
    ParsedCompletion,
    Span,
    content_fault,
    stack_boxes,
)  # fmt: skip
from vr1kit.scan import Scan, read_json_string, read_torn_string, scan_beyond_limits

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
        items = _STRICT.decode(payload)
    except ValueError:  # msgspec's own, and UnicodeEncodeError
        pass
    else:
        return _judge_content(text, size, [item.bbox_2d for item in items], tuple([item.label for item in items]))
    try:
        value = _DECODER.decode(payload)
    except json.JSONDecodeError:
        return Scan(text, size, read_torn_string).run()
    except (RecursionError, ValueError):  # deeper, or with more digits, than Python decodes: it may yet be JSON
        return scan_beyond_limits(text, size)
    parsed = _read_detections(text, size, value) if type(value) is list else None
    if parsed is not None:
        return parsed
    return Scan(text, size, read_json_string if type(value) in (list, dict) else read_torn_string).run()


# --- The fast paths: JSON that follows the template -----------------------------------------------------------


class _Detection(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    bbox_2d: tuple[float, float, float, float]
    label: str


_STRICT = msgspec.json.Decoder(list[_Detection])  # takes less than Python's: no other keys, no 1e999, no lone surrogate
_BOX_AND_LABEL = itemgetter("bbox_2d", "label")
_NUMBERS = {int, float}  # and not bool, which is an int to isinstance


def _refuse_constant(name: str) -> None:
    raise json.JSONDecodeError("not JSON", name, 0)  # NaN and Infinity, which Python's decoder would let through


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _read_detections(text: str, size: tuple[float, float], items: list) -> ParsedCompletion | None:
    """The outcome for a decoded list, or None if an item breaks the template: the scan then says which, and why."""
    try:
        boxes, labels = zip(*map(_BOX_AND_LABEL, items), strict=True)
        lengths, numbers = set(map(len, boxes)), chain.from_iterable(boxes)
        types = set(map(type, numbers))
    except (KeyError, TypeError):  # an item that is no object, or lacks one of the two, or whose box holds nothing
        return None
    if set(map(type, labels)) != {str} or lengths != {4} or not types <= _NUMBERS:
        return None  # a box that is no list, but a string or an object, holds strings: no numbers
    return _judge_content(text, size, boxes, labels)


def _judge_content(
    text: str, size: tuple[float, float], boxes: Sequence[Sequence[float]], labels: tuple[str, ...]
) -> ParsedCompletion:
    width, height = size
    for x1, y1, x2, y2 in boxes:
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            break
    else:
        return ParsedCompletion(text, size, stack_boxes(boxes), labels, (), find_spans)
    faults = [content_fault(box, size) for box in boxes]
    good = [index for index, fault in enumerate(faults) if fault is None]
    boxes_xyxy = stack_boxes([boxes[index] for index in good])  # (P, 4)
    reasons = tuple(fault for fault in faults if fault is not None)
    return ParsedCompletion(text, size, boxes_xyxy, tuple(labels[index] for index in good), reasons, find_spans)


def find_spans(text: str, size: tuple[float, float]) -> tuple[ItemSpans, ...]:
    """Where the detections of a well-formed answer stand."""
    return Scan(text, size, read_json_string).run().spans
