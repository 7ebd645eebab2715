"""Plain-text coordinates, in Griffon's style: boxes as decimals between 0 and 1 behind their label, joined by "&".

    person-[0.645, 0.37, 0.728, 0.694] & chair-[0.561, 0.512, 0.648, 0.753]

Source: Griffon v2 (arXiv 2403.09333), Figure 1, and its public `coor_utils`: three decimals, each a share of the picture's side.

Strict grammar (blanks around "&", "-" and "," are allowed):

    answer = "None" | item { "&" item }
    item   = label "-" "[" number "," number "," number "," number "]"
    number = digits with an optional fraction, 0 <= x1 < x2 <= 1 and 0 <= y1 < y2 <= 1

Three decimals are thousandths, so a box here is a box of the 0-1000 space: `parse_plain_text` returns it there, and rewards,
credit and evaluation treat it like any other. A text is read once, from left to right; reasons are those of `completions`.

Ours: "None" for nothing found (Griffon never says in public how it is written), and recovery of items out of prose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vr1kit.boxes import Boxes
from vr1kit.parsing.detections import WHITESPACE, ItemSpans, ParsedCompletion, Span, content_fault, stack_boxes

SCALE = 1000  # three decimals
NOTHING = "None"

_BOX = re.compile(r"-[ \t]*\[([^\[\]]*)\]")
_DECIMAL = re.compile(r"\d{1,9}(?:\.\d{1,18})?")


def parse_plain_text(text: str, size: tuple[float, float] = (SCALE, SCALE)) -> ParsedCompletion:
    """Read an answer; boxes come back in `size`, which is (1000, 1000) for this format."""
    if tuple(size) != (SCALE, SCALE):
        raise ValueError(f"plain-text coordinates are shares of the picture: size must be ({SCALE}, {SCALE}), got {size!r}")
    if text.strip(WHITESPACE) == NOTHING:
        return ParsedCompletion(text, size, stack_boxes([]), (), ())
    boxes, labels, spans, reasons, reached = [], [], [], [], 0
    for match in _BOX.finditer(text):
        gap = text[reached : match.start()]
        cut = max(gap.rfind("&"), gap.rfind("\n")) + 1  # what follows is the label
        reasons += _separator_fault(gap[:cut], "&" if reached else "")
        label, numbers = gap[cut:].strip(WHITESPACE), _split_numbers(match)
        start, reached = reached + cut + gap[cut:].find(label), match.end()
        if fault := _item_fault(label, [text[a:b] for a, b in numbers], size):
            reasons.append(fault)
            continue
        boxes.append([float(text[a:b]) * SCALE for a, b in numbers])
        labels.append(label)
        spans.append(ItemSpans((start, reached), (start, start + len(label)), tuple(numbers)))
    rest = text[reached:].strip(WHITESPACE)
    if not reached:
        reasons.append("no_list")
    elif rest:
        reasons.append("incomplete" if "[" in rest else "punctuation" if set(rest) <= set("&" + WHITESPACE) else "text_around")
    return ParsedCompletion(text, size, stack_boxes(boxes), tuple(labels), tuple(reasons), tuple(spans))


def _separator_fault(found: str, wanted: str) -> list[str]:
    found = found.strip(WHITESPACE)
    return [] if found == wanted else ["text_around" if set(found) - set("&" + WHITESPACE) else "punctuation"]


def _split_numbers(match: re.Match) -> list[Span]:
    """Where the parts between commas stand, blanks left out."""
    spans, start = [], match.start(1)
    for part in match[1].split(","):
        left = start + len(part) - len(part.lstrip(WHITESPACE))
        spans.append((left, left + len(part.strip(WHITESPACE))))
        start += len(part) + 1
    return spans


def _item_fault(label: str, numbers: Sequence[str], size: tuple[float, float]) -> str | None:
    if not label:
        return "no_label"
    if len(numbers) != 4:
        return "box_length"
    if not all(_DECIMAL.fullmatch(number) for number in numbers):
        return "box_type"
    return content_fault([float(number) * SCALE for number in numbers], size)


def write_plain_text(boxes_xyxy: Boxes, labels: Sequence[str]) -> str:
    """Boxes (N, 4) of the 0-1000 space as an answer."""
    items = (
        f"{label}-[{', '.join(f'{value / SCALE:g}' for value in box)}]" for box, label in zip(boxes_xyxy, labels, strict=True)
    )
    return " & ".join(items) or NOTHING
