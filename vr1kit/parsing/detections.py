"""What reading an answer gives: detections, and reason codes for everything that was not one (see `completions`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain

import msgspec
import numpy as np

from vr1kit.boxes import Boxes

WHITESPACE = " \t\n\r"  # JSON's
WS = r"[ \t\n\r]*+"  # the same, any of it, in a regular expression
NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"  # JSON's
BOX_KEYS = ("bbox_2d", "bbox", "box")  # the first is Qwen's and the strict one; the others are ours, for recovery
FENCE_OPEN, FENCE_CLOSE = "```json", "```"  # Qwen2.5-VL's way to write an answer
MAX_SIDE = 1e9  # ours: no picture is wider; keeps every area far from overflow

ANSWER_REASONS = {
    "no_list": "no list and no object anywhere in the text",
    "not_a_list": "an object stands where the list should",
    "several_lists": "more than one list or object",
    "text_around": "something other than whitespace or one ```json fence before, between or after",
    "nested": "a list within the list, or detections within an object that is not one itself",
    "punctuation": "a comma or colon missing or too many",
    "quotes": "a string or key not in double quotes, not closed, or with characters that JSON forbids",
    "junk": "words or closers that belong to nothing",
    "unclosed": "a list or object not closed, in mid-answer or at its end",
    "box_key": "a box under another key than bbox_2d",
}
ITEM_REASONS = {
    "not_object": "a number, string or literal in place of a detection",
    "incomplete": "the text ended, or a quote was lost, before label and box were complete",
    "unread": "torn, in a text torn in too many places: of its rest only whole items are taken, and one of these stands for all else",
    "no_box": "no box",
    "no_label": "no label",
    "label_not_string": "a label that is not a string",
    "box_length": "a box that is not a list of four",
    "box_type": "a box with something other than numbers in it: strings, booleans, lists",
}
CONTENT_REASONS = {
    "not_finite": "a coordinate that is not a finite number",
    "not_ordered": "x1 >= x2 or y1 >= y2",
    "outside": "an edge outside the picture",
}
REASONS = ANSWER_REASONS | ITEM_REASONS | CONTENT_REASONS

Span = tuple[int, int]


class Detection(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """An item of the strict grammar; `STRICT` decodes lists of them."""

    bbox_2d: tuple[float, float, float, float]
    label: str


STRICT = msgspec.json.Decoder(list[Detection])  # takes less than Python's: no other keys, no 1e999, no lone surrogate


@dataclass(frozen=True)
class ItemSpans:
    """Where one kept detection stands in the text, as (start, end) offsets of characters, end exclusive."""

    item: Span
    label: Span  # with its quotes
    numbers: tuple[Span, Span, Span, Span]  # x1, y1, x2, y2

    def shift(self, by: int) -> ItemSpans:
        """The same in a text with `by` characters more in front."""
        item, label, *numbers = ((start + by, end + by) for start, end in (self.item, self.label, *self.numbers))
        return ItemSpans(item, label, tuple(numbers))


Spans = tuple[ItemSpans, ...] | Callable[[str, tuple[float, float]], tuple[ItemSpans, ...]]  # of a text of a size, on demand


@dataclass(eq=False)  # frozen, making one would take a twentieth of the time of scoring a short answer
class ParsedCompletion:
    text: str
    size: tuple[float, float]  # (width, height) of the space the numbers are in
    boxes_xyxy: Boxes  # (P, 4)
    labels: tuple[str, ...]  # P
    reasons: tuple[str, ...]  # empty exactly if the answer is strictly well-formed
    _spans: Spans = field(default=(), repr=False)

    @property
    def template_ok(self) -> bool:
        return CONTENT_REASONS.keys() >= set(self.reasons)

    @property
    def content_ok(self) -> bool:
        return CONTENT_REASONS.keys().isdisjoint(self.reasons)

    @property
    def dual_format(self) -> float:
        """The paper's format reward: 1.0 if template and content hold, else 0.0."""
        return 0.0 if self.reasons else 1.0

    @cached_property
    def spans(self) -> tuple[ItemSpans, ...]:
        """Offsets of every kept item, P of them. Found when asked for: scoring does not need them."""
        return self._spans(self.text, self.size) if callable(self._spans) else self._spans


def stack_boxes(boxes: Sequence[Sequence[float]]) -> Boxes:
    return np.fromiter(chain.from_iterable(boxes), np.float64, 4 * len(boxes)).reshape(-1, 4)  # (P, 4)


def content_holds(boxes: Sequence[Sequence[float]], size: tuple[float, float]) -> bool:
    """Whether none of many boxes has a `content_fault`."""
    width, height = size
    for x1, y1, x2, y2 in boxes:
        if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
            return False
    return True


def content_fault(box: list[float], size: tuple[float, float]) -> str | None:
    x1, y1, x2, y2 = box
    most = sys.float_info.max  # isfinite would not take integers of any length
    if not (-most <= x1 <= most and -most <= y1 <= most and -most <= x2 <= most and -most <= y2 <= most):
        return "not_finite"
    if not (x1 < x2 and y1 < y2):
        return "not_ordered"
    if not (0 <= x1 and 0 <= y1 and x2 <= size[0] and y2 <= size[1]):
        return "outside"
    return None
