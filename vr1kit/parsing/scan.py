"""Recovery: read any text as an answer, token by token, with offsets; in linear time, without exceptions (see `completions`).

Three speeds. Whole flat objects where an item may stand are read by the decoder, many at once (`flat_items`); what is torn is
read token by token; and a text that needs more tokens than `MOST_TOKENS` allows is junk from there on, out of which only items
written exactly as the template has them are picked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from vr1kit.parsing.detections import BOX_KEYS, FENCE_CLOSE, FENCE_OPEN, WHITESPACE, ItemSpans, ParsedCompletion, Span
from vr1kit.parsing.findings import Findings, Mark
from vr1kit.parsing.flat_items import FLAT, RUN, TEMPLATE, decode_items, find_items, judge_separators
from vr1kit.parsing.strings import String, read_json_string, read_torn_string

MOST_TOKENS = 800  # ours: forty torn items; and one more for every 80 characters
_ATTEMPT = 3  # tokens that trying a flat object counts for

_OPENER = re.compile(r"[\[{]")
_TOKEN = re.compile(r"""[ \t\n\r]*(\[+|[\]{},:"']|[^\[\]{},:"' \t\n\r]+)""")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_LITERALS = {"true", "false", "null"}
_NOT_FINITE = {"nan", "inf", "infinity"}  # as Python, JavaScript and printf write them, in any case

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
    """An open object: its start, what had been found before it, its label and box so far."""

    start: int
    mark: Mark
    key: str = ""
    fields: dict[str, _Label | _Numbers | None] = field(default_factory=dict)  # of label and BOX_KEYS; None: other type


class Scan:
    """One pass over the text with an explicit stack: every token is read once, every frame popped once.

    Without `shortcuts` all of the text is read token by token, which finds the same items and where they stand.
    """

    def __init__(
        self, text: str, size: tuple[float, float], read_string: Callable[[str, int], String], shortcuts: bool = False
    ) -> None:
        self.text, self.size, self.read_string, self.shortcuts = text, size, read_string, shortcuts
        self.left = MOST_TOKENS + len(text) // 80 if shortcuts else math.inf
        self.torn_until = self.singly_until = 0  # no object that begins before is tried as flat, or as a run
        self.stack: list[_Object | _Numbers | str] = []
        self.open_objects = self.open_lists = 0
        self.last = _VALUE
        self.end = 0  # of the last token
        self.string = ""  # the last token's value if it was a string, should it turn out to be a key
        self.findings = Findings(size)
        self.flaws = self.findings.flaws

    def run(self) -> ParsedCompletion:
        text, before, roots = self.text, None, 0
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
            roots += 1
            self._scan(0)
            if self.stack or self.left < 0:
                self._close_at_end()
                if self.left < 0:
                    self._pick_items()
                after = FENCE_CLOSE if before == FENCE_OPEN else ""  # "unclosed" says already that the end is missing
                break
        if roots == 0:
            self.flaws.clear()
            self.flaws.add("no_list")
        else:
            if roots > 1:
                self.flaws.add("several_lists")
            if (before, after) not in (("", ""), (FENCE_OPEN, FENCE_CLOSE)):
                self.flaws.add("text_around")
        places = [item[2] for item in self.findings.found if type(item) is not str]
        return self.findings.to_outcome(text, partial(_find_places, places))

    def _scan(self, depth: int) -> None:
        """Read from the opener at `end` to where no more than `depth` openers are open again, or no more may be read."""
        text = self.text
        while token := _TOKEN.match(text, self.end):
            (start, end), string = token.span(1), ""
            self.left -= 1
            if self.left < 0:
                return
            match text[start]:
                case "{" if self.shortcuts and start >= self.torn_until and self._read_run(start):
                    end = self.end
                case "{":
                    self._open_object(start)
                case "[":
                    self._open_lists(end - start)
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
            if len(self.stack) <= depth:
                return

    def _read_run(self, start: int) -> bool:
        """Read the flat objects that begin here, if this is where an item may stand and some do."""
        if self.stack and self.stack[-1] is not _LIST:
            return False
        self.left -= _ATTEMPT
        flaws, match = None, None
        if self.stack and start >= self.singly_until and (match := RUN.match(self.text, start)):
            flaws = judge_separators(match[0])
            self.singly_until = match.end()
        if flaws is None:
            match, flaws = FLAT.match(self.text, start), set()
        if match is None:
            return False
        if not self.stack:
            flaws.add("not_a_list")
        elif self.last == _VALUE:
            flaws.add("punctuation")
        run = match.span()
        items, torn_end = FLAT.findall(match[0]), start
        self.flaws |= flaws
        for index, (item, repairs, alone) in enumerate(decode_items(items)):
            self.left -= alone
            self.flaws |= repairs
            if item is None or not self.findings.add_flat(item, (FLAT, run, index)):
                self.end = self.text.index(items[index], torn_end)  # one like it before would be torn, too
                self.torn_until = torn_end = self.end + len(items[index])
                self.last = _COMMA
                self._scan(len(self.stack))
                if self.left < 0 or self.end != torn_end:
                    self.left -= len(items) - index  # the rest will be read once more
                    return True
        self.end, self.last = run[1], _VALUE
        return True

    def _pick_items(self) -> None:
        """What is left once too many tokens were read: items exactly as in the template, out of junk."""
        self.flaws.add("junk")
        rest = self.end, len(self.text)
        for index, (key, *numbers, label) in enumerate(TEMPLATE.findall(self.text, *rest)):
            self.findings.keep(key, [float(number) for number in numbers], label[1:-1], (TEMPLATE, rest, index))

    def _open_object(self, start: int) -> None:
        in_numbers = self.read_string is read_json_string and self.stack and isinstance(self.stack[-1], _Numbers)
        while self.stack and self.stack[-1] is not _LIST and not self._value_due() and not in_numbers:
            self._pop_unclosed()  # an object where a key or number should be: the one before lacks its closer
        if in_numbers:  # of JSON, which lacks no closer: a value that is no number
            self.stack[-1].values.append(None)
            self.stack[-1].spans.append((start, start))
        if not self.stack:
            self.flaws.add("not_a_list")
        elif self.last in (_VALUE, _KEY):
            self.flaws.add("punctuation")
        elif isinstance(self.stack[-1], _Object):
            self._set_field(None)
        self.stack.append(_Object(start, self.findings.mark()))
        self.open_objects += 1
        self.last = _OPEN

    def _open_lists(self, count: int) -> None:
        for _ in range(min(count, 2)):
            self._open_list()
        self.stack += [_LIST] * (count - 2)  # one more in a list within a list changes nothing else
        self.open_lists += max(0, count - 2)

    def _open_list(self) -> None:
        top = self.stack[-1] if self.stack else None
        frame: _Numbers | str = _LIST
        if isinstance(top, _Numbers):
            top.values.append(None)
            top.spans.append((self.end, self.end))
        elif isinstance(top, _Object):
            if self.last != _COLON:
                self.flaws.add("punctuation")
            if self._value_due():
                frame = _Numbers() if top.key in BOX_KEYS else _LIST
                self._set_field(frame if isinstance(frame, _Numbers) else None)
        elif top is not None:
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
        if self.stack and not self.open_objects:
            self.flaws.add("unclosed")
            self.stack.clear()
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
        self.findings.end_object(item.mark, fault, bool(item.fields))
        if fault is None:
            key = next(key for key in BOX_KEYS if key in item.fields)
            numbers, label = item.fields[key], item.fields["label"]
            spans = ItemSpans((item.start, end), label.span, tuple(numbers.spans))
            self.findings.keep(key, numbers.values, label.value, spans)

    def _fault(self, item: _Object, cut: bool = False) -> str | None:
        """Why an object is not a detection of the template, or None."""
        if not item.fields:
            return "incomplete" if cut else "no_box"
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
                self.findings.found.append("not_object")
        elif self._value_due():
            self._set_field(value if isinstance(value, _Label) else None)
        else:
            self.flaws.add("punctuation")
            return
        self.last = _VALUE


Place = ItemSpans | tuple[re.Pattern, Span, int]  # or which of the items that a pattern finds within a span


def _find_places(places: Sequence[Place], text: str, size: tuple[float, float]) -> tuple[ItemSpans, ...]:
    """The places of kept items: of one that a pattern found by reading it once more, token by token."""
    found = []
    for place in places:
        if not isinstance(place, ItemSpans):
            pattern, within, index = place
            start, end = find_items(text, pattern, within)[index]
            place = Scan(text[start:end], size, read_torn_string).run().spans[0].shift(start)
        found.append(place)
    return tuple(found)
