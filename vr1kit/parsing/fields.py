"""Fields: a whole label or box of an object that is not JSON, at once, where reading by token (`scan`) takes four to twelve steps.

What is read here means the same as its tokens would: a label in quotes of either kind, or a box of digits, commas and whitespace,
under a key with or without quotes. Anything else is left to them.
"""

from __future__ import annotations

import re

from vr1kit.parsing.detections import NUMBER, WS
from vr1kit.parsing.frames import Label, Numbers

_TEXT = (
    r"""(?:"([^"\\{}\x00-\x1f]*+)"|'([^'\\{}\x00-\x1f]*+)'(?=[ \t\r\n]*+(?:[,:\]}]|\Z)))"""  # the ' of "man's" does not end it
)
_BOX = r"\[([-+.0-9eE, \t\n\r]*+)\]"


def _field(quote: str) -> re.Pattern:
    return re.compile(rf"""{quote}(?:label\1{WS}:{WS}{_TEXT}|(bbox_2d|bbox|box)\1{WS}:{WS}{_BOX})""")


_QUOTED, _BARE = _field("""(["'])"""), _field("()")
JSON_NUMBER = re.compile(NUMBER)
_FOUR = re.compile(rf"{WS}{NUMBER}{WS}(?:,{WS}{NUMBER}{WS}){{3}}")

Field = tuple[str, Label | Numbers, int, set[str]]
"""Key, value, end (exclusive) and the answer reasons that reading it by token would give."""


def read_field(text: str, start: int, after_value: bool) -> Field | None:
    """The label or box whose key is at `start`, if one is; after a value only a key in quotes is one."""
    if text[start] in "\"'":
        match = _QUOTED.match(text, start)
    else:
        match = None if after_value else _BARE.match(text, start)
    if match is None:
        return None
    quote, double, single, key, numbers = match.groups()
    end = match.end()
    flaws = {"punctuation"} if after_value else set()
    if quote != '"' or single is not None:
        flaws.add("quotes")
    if key is not None:
        return key, Numbers(_read_numbers(numbers, flaws), [], True), end, flaws
    value = single if double is None else double
    return "label", Label(value, (end - len(value) - 2, end), True), end, flaws


def _read_numbers(numbers: str, flaws: set[str]) -> list[float | None]:
    if _FOUR.fullmatch(numbers):
        return [float(number) for number in numbers.split(",")]
    parts = [part.split() for part in numbers.split(",")]
    if parts != [[]] and any(len(part) != 1 for part in parts):
        flaws.add("punctuation")
    values = [float(word) if JSON_NUMBER.fullmatch(word) else None for part in parts for word in part]
    if None in values:
        flaws.add("junk")
    return values
