"""Recovery: read any text as an answer, token by token, with offsets; in linear time, without exceptions (see `completions`)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from vr1kit.detections import (
    ANSWER_REASONS,
    BOX_KEYS,
    FENCE_CLOSE,
    FENCE_OPEN,
    WHITESPACE,
    ItemSpans,
    ParsedCompletion,
    Span,
    content_fault,
    stack_boxes,
)  # fmt: skip

_OPENER = re.compile(r"[\[{]")
_TOKEN = re.compile(r"""[ \t\n\r]*([\[\]{},:"']|[^\[\]{},:"' \t\n\r]+)""")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS = {"true", "false", "null"}
_NOT_FINITE = {"nan", "inf", "infinity"}  # as Python, JavaScript and printf write them, in any case
_DOUBLE_END = re.compile(r'["\\{}\n]')
_SINGLE_END = re.compile(r"""'(?=[ \t\r\n]*(?:[,:\]}]|\Z))|[\\{}\n]""")  # the ' of "man's" does not end a string
_FORBIDDEN = re.compile(r"[\x00-\x1f]")

# What stood last in the innermost list or object.
_OPEN, _COMMA, _KEY, _COLON, _VALUE = range(5)

_LIST = "list"  # an open list; one shared mark, since nothing needs to be known about it
_MISSING = "missing"


@dataclass(slots=True)
class _Numbers:
    """An open list that is the value of a box key."""

    values: list[float | None] = field(default_factory=list)  # None: not a number
    spans: list[Span] = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class _Label:
    value: str
    span: Span
    closed: bool


@dataclass(slots=True)
class _Object:
    """An open object: its start, how much had been found before it, its label and box so far."""

    start: int
    found_before: int
    kept_before: int
    key: str = ""
    fields: dict[str, _Label | _Numbers | None] = field(default_factory=dict)  # of label and BOX_KEYS; None: other type


@dataclass(slots=True)
class _Kept:
    box: list[float]
    label: str
    spans: ItemSpans


String = tuple[str, int, bool, bool]  # value; end; closed by its quote; as JSON has it


def read_json_string(text: str, start: int) -> String:
    """The string whose quote is at `start` of JSON; JSONDecodeError if the text is not JSON here."""
    if text[start] != '"':
        raise json.JSONDecodeError("not a JSON string", text, start)
    value, end = json.decoder.scanstring(text, start + 1, True)
    return value, end, True, True


def read_torn_string(text: str, start: int) -> String:
    """The same for other text: a string also ends, unclosed, before a brace or newline and where the text ends."""
    quote = text[start]
    ends = _DOUBLE_END if quote == '"' else _SINGLE_END
    position, escaped = start + 1, False
    while (found := ends.search(text, position)) and text[found.start()] == "\\":
        position, escaped = min(found.start() + 2, len(text)), True
    end = found.start() if found else len(text)
    value, closed = text[start + 1 : end], end < len(text) and text[end] == quote
    proper = closed and quote == '"' and not _FORBIDDEN.search(value)
    if closed and escaped:
        if quote == "'":
            value = value.replace("\\'", "'").replace('"', '\\"')
        try:
            value = json.decoder.scanstring(value + '"', 0, False)[0]
        except json.JSONDecodeError:  # a backslash that escapes nothing: keep the text as it stands, and say so
            proper = False
    return value, end + closed, closed, proper


class Scan:
    """One pass over the text with an explicit stack: every token is read once, every frame popped once."""

    def __init__(self, text: str, size: tuple[float, float], read_string: Callable[[str, int], String]) -> None:
        self.text, self.size, self.read_string = text, size, read_string
        self.stack: list[_Object | _Numbers | str] = []
        self.open_objects = self.open_lists = self.roots = 0
        self.last = _VALUE
        self.end = 0  # of the last token
        self.string = ""  # the last token's value if it was a string, should it turn out to be a key
        self.flaws: set[str] = set()  # answer reasons
        self.found: list[_Kept | str] = []  # kept items, item reasons, and answer reasons that hold unless in an item
        self.kept = 0  # how many _Kept are in found

    def run(self) -> ParsedCompletion:
        text, before = self.text, None
        while True:
            opener = _OPENER.search(text, self.end)
            gap = text[self.end : opener.start() if opener else len(text)].strip(WHITESPACE)
            if before is None:
                before = gap
            elif opener and gap:
                self.flaws.add("text_around")  # between two lists
            if opener is None:
                after = gap
                break
            self.end = opener.start()
            self._scan_root()
            if self.stack:
                self._close_at_end()
                after = FENCE_CLOSE if before == FENCE_OPEN else ""  # "unclosed" says already that the end is missing
                break
        if self.roots == 0:
            self.flaws = {"no_list"}
        else:
            if self.roots > 1:
                self.flaws.add("several_lists")
            if (before, after) not in (("", ""), (FENCE_OPEN, FENCE_CLOSE)):
                self.flaws.add("text_around")
        return self._outcome()

    def _outcome(self) -> ParsedCompletion:
        kept = [entry for entry in self.found if isinstance(entry, _Kept)]
        codes = [entry for entry in self.found if isinstance(entry, str)]
        flaws = self.flaws.union(codes)
        return ParsedCompletion(
            self.text,
            self.size,
            stack_boxes([item.box for item in kept]),
            tuple(item.label for item in kept),
            (*(code for code in ANSWER_REASONS if code in flaws), *(c for c in codes if c not in ANSWER_REASONS)),
            tuple(item.spans for item in kept),
        )

    def _scan_root(self) -> None:
        """Read from the opener at `end` to where the stack is empty again, or the text ends."""
        text = self.text
        while token := _TOKEN.match(text, self.end):
            (start, end), string = token.span(1), ""
            match text[start]:
                case "{":
                    self._open_object(start)
                case "[":
                    self._open_list()
                case "}":
                    self._close_object(end)
                case "]":
                    self._close_list()
                case ",":
                    self._comma()
                case ":":
                    self._colon()
                case '"' | "'":
                    string, end, closed, proper = self.read_string(text, start)
                    self._string(string, (start, end), closed, proper)
                case _:
                    self._word(token[1], (start, end))
            self.end, self.string = end, string
            if not self.stack:
                return

    def _open_object(self, start: int) -> None:
        in_numbers = self.read_string is read_json_string and self.stack and isinstance(self.stack[-1], _Numbers)
        while self.stack and self.stack[-1] is not _LIST and not self._value_due() and not in_numbers:
            self._pop_unclosed()  # an object where a key or number should be: the one before lacks its closer
        if in_numbers:  # of JSON, which lacks no closer: a value that is no number
            self.stack[-1].values.append(None)
            self.stack[-1].spans.append((start, start))
        if not self.stack:
            self.roots += 1
            self.flaws.add("not_a_list")
        elif self.last in (_VALUE, _KEY):
            self.flaws.add("punctuation")
        elif isinstance(self.stack[-1], _Object):
            self._set_field(None)
        self.stack.append(_Object(start, len(self.found), self.kept))
        self.open_objects += 1
        self.last = _OPEN

    def _open_list(self) -> None:
        top = self.stack[-1] if self.stack else None
        frame: _Numbers | str = _LIST
        if top is None:
            self.roots += 1
        elif isinstance(top, _Numbers):
            top.values.append(None)
            top.spans.append((self.end, self.end))
        elif isinstance(top, _Object):
            if self.last != _COLON:
                self.flaws.add("punctuation")
            if self._value_due():
                frame = _Numbers() if top.key in BOX_KEYS else _LIST
                self._set_field(frame if isinstance(frame, _Numbers) else None)
        else:
            if self.open_objects == 0:
                self.flaws.add("nested")
            if self.last == _VALUE:
                self.flaws.add("punctuation")
        self.stack.append(frame)
        self.open_lists += 1
        self.last = _OPEN

    def _close_object(self, end: int) -> None:
        if not self.open_objects:
            self.flaws.add("junk")
            return
        while not isinstance(self.stack[-1], _Object):
            self._pop_unclosed()
        if self.last not in (_OPEN, _VALUE):
            self.flaws.add("punctuation")
        self._pop_object(end)

    def _close_list(self) -> None:
        while self.open_lists and isinstance(self.stack[-1], _Object) and self._fault(self.stack[-1]) is None:
            self._pop_unclosed()  # the object is all there but for its closer
        top = self.stack[-1]
        if isinstance(top, _Object):
            self.flaws.add("junk")
            return
        if self.last == _COMMA:
            self.flaws.add("punctuation")
        self._pop_list(closed=True)

    def _close_at_end(self) -> None:
        while self.stack:
            self.flaws.add("unclosed")
            if isinstance(self.stack[-1], _Object):
                self._pop_object(self.end, cut=True)
            else:
                self._pop_list(closed=False)  # its last number may have lost digits

    def _pop_unclosed(self) -> None:
        self.flaws.add("unclosed")
        if isinstance(self.stack[-1], _Object):
            self._pop_object(self.end)
        else:
            self._pop_list(closed=True)

    def _pop_list(self, closed: bool) -> None:
        top = self.stack.pop()
        if isinstance(top, _Numbers):
            top.closed = closed
        self.open_lists -= 1
        self.last = _VALUE

    def _pop_object(self, end: int, cut: bool = False) -> None:
        item = self.stack.pop()
        self.open_objects -= 1
        self.last = _VALUE
        fault = self._fault(item, cut)
        inside = len(self.found) > item.found_before if not item.fields else self.kept > item.kept_before
        if fault and inside:
            self.found.append("nested")  # not a detection, but there are some in it
            return
        del self.found[item.found_before :]  # within a detection, or within nothing: extra values
        self.kept = item.kept_before
        if fault:
            self.found.append(fault)
            return
        key = next(key for key in BOX_KEYS if key in item.fields)
        numbers, label = item.fields[key], item.fields["label"]
        if key != BOX_KEYS[0]:
            self.found.append("box_key")
        if fault := content_fault(numbers.values, self.size):
            self.found.append(fault)
            return
        spans = ItemSpans((item.start, end), label.span, tuple(numbers.spans))
        self.found.append(_Kept(numbers.values, label.value, spans))
        self.kept += 1

    def _fault(self, item: _Object, cut: bool = False) -> str | None:
        """Why an object is not a detection of the template, or None."""
        numbers = next((item.fields[key] for key in BOX_KEYS if key in item.fields), _MISSING)
        label = item.fields.get("label", _MISSING)
        torn = any(isinstance(part, (_Numbers, _Label)) and not part.closed for part in (numbers, label))
        if torn or (cut and _MISSING in (numbers, label)):
            return "incomplete"
        if numbers is _MISSING:
            return "no_box"
        if label is _MISSING:
            return "no_label"
        if label is None:
            return "label_not_string"
        if numbers is None or len(numbers.values) != 4:
            return "box_length"
        if None in numbers.values:
            return "box_type"
        return None

    def _value_due(self) -> bool:
        return isinstance(self.stack[-1], _Object) and self.last in (_KEY, _COLON)

    def _set_field(self, value: _Label | _Numbers | None) -> None:
        top = self.stack[-1]
        if top.key == "label" or top.key in BOX_KEYS:
            top.fields[top.key] = value

    def _comma(self) -> None:
        if self.last != _VALUE:
            self.flaws.add("punctuation")
        self.last = _COMMA

    def _colon(self) -> None:
        top = self.stack[-1]
        if isinstance(top, _Numbers) and top.values and top.values[-1] is None and self.string:
            del top.values[-1], top.spans[-1]  # that was no coordinate but the next key: the box lacks its closer
            self._pop_unclosed()
            self.stack[-1].key = self.string
        elif isinstance(top, _Object) and self.last == _VALUE and self.string:
            self.flaws.add("punctuation")  # that was no value but a key
            top.fields.pop(top.key, None)
            top.key = self.string
        elif not isinstance(top, _Object) or self.last != _KEY:
            self.flaws.add("punctuation")
            return
        self.last = _COLON

    def _string(self, value: str, span: Span, closed: bool, proper: bool) -> None:
        if not proper:
            self.flaws.add("quotes")
        if isinstance(self.stack[-1], _Object) and not self._value_due():
            if self.last == _VALUE:
                self.flaws.add("punctuation")
            self.stack[-1].key = value
            self.last = _KEY
        else:
            label = isinstance(self.stack[-1], _Object) and self.stack[-1].key == "label"
            self._value(_Label(value, span, closed) if label else None, span)

    def _word(self, word: str, span: Span) -> None:
        number = float(word) if _NUMBER.fullmatch(word) else None
        if number is None and word not in _LITERALS:
            if isinstance(self.stack[-1], _Object) and self.last in (_OPEN, _COMMA):
                self.flaws.add("quotes")
                self.stack[-1].key = word
                self.last = _KEY
                return
            self.flaws.add("junk")
            if isinstance(self.stack[-1], _Numbers) and word.lstrip("+-").lower() in _NOT_FINITE:
                number = math.nan
            elif not isinstance(self.stack[-1], _Numbers) and not self._value_due():
                return
        self._value(number, span)

    def _value(self, value: _Label | float | None, span: Span) -> None:
        """A string (None but for a label), number or literal (None) where a value may stand."""
        top = self.stack[-1]
        if self.last in (_VALUE, _KEY):
            self.flaws.add("punctuation")
        if isinstance(top, _Numbers):
            top.values.append(value)
            top.spans.append(span)
        elif top is _LIST:
            if self.open_objects == 0:
                self.found.append("not_object")
        elif self._value_due():
            self._set_field(value if isinstance(value, _Label) else None)
        else:
            self.flaws.add("punctuation")
            return
        self.last = _VALUE


_NOT_JSON = {"no_list", "several_lists", "text_around", "punctuation", "quotes", "junk", "unclosed"}


def scan_beyond_limits(text: str, size: tuple[float, float]) -> ParsedCompletion:
    """Read as JSON what Python's decoder gave up on for its depth or digits; if it is not JSON, read it as torn."""
    try:
        parsed = Scan(text, size, read_json_string).run()
    except json.JSONDecodeError:
        return Scan(text, size, read_torn_string).run()
    if _NOT_JSON.isdisjoint(parsed.reasons):
        return parsed
    return Scan(text, size, read_torn_string).run()
