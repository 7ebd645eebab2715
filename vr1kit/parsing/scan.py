"""Recovery: read any text as an answer, token by token, with offsets; in linear time, without exceptions (see `completions`).

Three speeds. Whole flat objects where an item may stand are read by the decoder, many at once (`flat_items`); what is torn is
read token by token, whole labels and boxes for one (`fields`); and of a text that needs more tokens than `most_tokens` allows only
what was decoded already is kept, and items as in the template are picked out of the rest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from vr1kit.parsing.budget import STRICT, STRING, TRY, most_tokens
from vr1kit.parsing.detections import BOX_KEYS, FENCE_CLOSE, FENCE_OPEN, WHITESPACE, ItemSpans, ParsedCompletion, Span
from vr1kit.parsing.fields import JSON_NUMBER, Field, read_field
from vr1kit.parsing.findings import Findings, find_box_key
from vr1kit.parsing.flat_items import FLAT, RUN, decode_items, decode_run, expect_work, judge_separators
from vr1kit.parsing.frames import Label, Numbers, Object
from vr1kit.parsing.picks import Rest, count_begun, decode_picks
from vr1kit.parsing.strings import String, read_json_string, read_torn_string

_CHUNK = 3_000  # characters of a run that are read at once

_OPENER = re.compile(r"[\[{]")
_TOKEN = re.compile(r"""[ \t\n\r]*(\[+|[\]{},:"']|[^\[\]{},:"' \t\n\r]+)""")
_LITERALS = {"true", "false", "null"}
_NOT_FINITE = {"nan", "inf", "infinity"}  # as Python, JavaScript and printf write them, in any case

# What stood last in the innermost list or object.
_OPEN, _COMMA, _KEY, _COLON, _VALUE = range(5)

_LIST = "list"  # an open list; one shared mark, since nothing needs to be known about it


class Scan:
    """One pass over the text with an explicit stack: every token is read once, every frame popped once.

    Without `shortcuts` the text, or what of it is before `until`, is read token by token, which finds the same items and where
    they stand. `spent`: of its budget, by whoever tried before.
    """

    def __init__(
        self, text: str, size: tuple[float, float], read_string: Callable[[str, int], String], shortcuts: bool = False,
        until: int | None = None, spent: float = 0.0,
    ) -> None:  # fmt: skip
        self.text, self.size, self.read_string, self.shortcuts = text, size, read_string, shortcuts
        self.until = len(text) if until is None else until
        self.left = most_tokens(text) - spent if shortcuts else math.inf
        self.torn_until = self.singly_until = 0  # no object that begins before is tried as flat, or as a run
        self.mend_first = self.whole = False  # whether the run before this one was torn, or all of it whole
        self.stack: list[Object | Numbers | str] = []
        self.others: list[int] = []  # where in it what is no list stands
        self.last = _VALUE
        self.open_objects = self.open_lists = self.end = 0  # the last: where the last token ends
        self.rest: Rest | None = None  # where reading stopped before the end
        self.string = ""  # the last token's value if it was a string, should it turn out to be a key
        self.findings = Findings(size)
        self.flaws = self.findings.flaws

    def run(self) -> ParsedCompletion:
        text, before, roots = self.text, None, 0
        while True:
            opener = _OPENER.search(text, self.end, self.until)
            gap = text[self.end : opener.start() if opener else self.until].strip(WHITESPACE)
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
                self._pick_items() if self.left < 0 else self._close_at_end()
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
        return self.findings.to_outcome(text, partial(_find_spans, self.rest) if self.shortcuts else tuple(self.findings.spans))

    def _scan(self, depth: int) -> None:
        """Read from the opener at `end` to where no more than `depth` openers are open again, or no more may be read."""
        text = self.text
        while token := _TOKEN.match(text, self.end, self.until):
            (start, end), string = token.span(1), ""
            self.left -= 1
            if self.left < 0:
                return
            match text[start]:
                case ",":
                    self._comma()
                case "{" if self.shortcuts and start >= self.torn_until and self._read_run(start):
                    end = self.end
                case "{":
                    self.left -= 1  # it has to be closed, too
                    self._open_object(start)
                case "}":
                    self._close_object(end)
                case "[":
                    self._open_lists(end - start)
                case "]":
                    self._close_list()
                case ":":
                    self._colon()
                case _ if self.shortcuts and self._key_due() and (field := read_field(text, start, self.last == _VALUE)):
                    self.left -= 1  # it does the work of several
                    string, end = self._field(field)
                case '"' | "'":
                    self.left -= STRING
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
        self.left, flaws, match = self.left - TRY, None, None
        if start >= self.singly_until and (match := RUN.match(self.text, start, start + _CHUNK)):
            flaws = judge_separators(match[0], in_list=bool(self.stack))
            self.singly_until = match.end()
        if flaws is None:
            match, flaws = FLAT.match(self.text, start), set()
        if match is None:
            return False
        run = match[0]
        if self.left < expect_work(run, self.mend_first):
            self.left, self.end = -1, start
            return True
        if not self.stack or self.last == _VALUE:
            flaws.add("punctuation" if self.stack else "not_a_list")
        self.flaws |= flaws
        whole = decode_run(run, even=not flaws, likely=self.whole)
        self.whole = whole is not None and self.findings.keep_all(whole)
        if self.whole:
            self.left, self.end, self.last = self.left - STRICT * len(run), match.end(), _VALUE
            return True
        texts, items, repaired, work = decode_items(run, self.mend_first)
        self.left -= work
        self.mend_first = 2 * len(repaired) > len(items) and any(repaired.values())
        depth, at, torn_end = len(self.stack), 0, start
        while (at := self.findings.add_items(items, at)) < len(items):
            self.end = self.text.index(texts[at], torn_end)  # one like it before would be torn, too
            if self.left < 1:  # no token of it would be read
                self.left, torn_end, items[at] = -1, self.end, None
                break
            self.torn_until = torn_end = self.end + len(texts[at])
            self.last = _COMMA
            self._scan(depth)
            at += 1
            if self.left < 0 or self.end != torn_end:
                break
        else:
            self.end, self.last = match.end(), _VALUE
        self.flaws.update(*(flaws for index, flaws in repaired.items() if index < at))
        if self.left < 0 and self.rest is None and self.end <= torn_end:
            self.rest = Rest(self.end, depth, torn_end, match.end(), texts[at:], items[at:])
        return True

    def _pick_items(self) -> None:
        """Once too many tokens were read: of the rest, what was decoded already and items as in the template."""
        unclosed, self.rest = "unclosed" in self.flaws, self.rest or Rest(self.end, 0, self.end, self.end)
        self._close_at_end(self.rest.depth)
        picks = decode_picks(self.text, self.rest.end)
        unread = self.rest.items.count(None) + (count_begun(self.text, self.rest.end) > len(picks))
        self.findings.found += ["unread"] * unread
        self.findings.add_whole(self.rest.items)
        dropped = self.findings.dropped
        self._close_at_end()
        if self.findings.dropped > dropped:  # they were within a detection
            self.rest = replace(self.rest, texts=(), items=())
        self.flaws.difference_update(() if unclosed else ("unclosed",))  # what would close it was not read
        self.findings.found += [] if unread or self.flaws else ["unread"]
        self.findings.add_whole(picks)

    def _open_object(self, start: int) -> None:
        in_numbers = self.read_string is read_json_string and self.stack and isinstance(self.stack[-1], Numbers)
        while self.stack and self.stack[-1] is not _LIST and not self._value_due() and not in_numbers:
            self._pop_unclosed()  # an object where a key or number should be: the one before lacks its closer
        if in_numbers:  # of JSON, which lacks no closer: a value that is no number
            self.stack[-1].values.append(None)
            self.stack[-1].spans.append((start, start))
        if not self.stack:
            self.flaws.add("not_a_list")
        elif self.last in (_VALUE, _KEY):
            self.flaws.add("punctuation")
        elif isinstance(self.stack[-1], Object):
            self._set_field(None)
        self.others.append(len(self.stack))
        self.stack.append(Object(start, self.findings.mark()))
        self.open_objects += 1
        self.last = _OPEN

    def _open_lists(self, count: int) -> None:
        for _ in range(min(count, 2)):
            self._open_list()
        self.stack += [_LIST] * (count - 2)  # one more in a list within a list changes nothing else
        self.open_lists += max(0, count - 2)

    def _open_list(self) -> None:
        top = self.stack[-1] if self.stack else None
        frame: Numbers | str = _LIST
        if isinstance(top, Numbers):
            top.values.append(None)
            top.spans.append((self.end, self.end))
        elif isinstance(top, Object):
            if self.last != _COLON:
                self.flaws.add("punctuation")
            if self._value_due():
                frame = Numbers() if top.key in BOX_KEYS else _LIST
                self._set_field(frame if isinstance(frame, Numbers) else None)
                self.others += [len(self.stack)] * (frame is not _LIST)
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
        while not isinstance(self.stack[-1], Object):
            self._pop_lists() if self.stack[-1] is _LIST else self._pop_unclosed()
        if self.last not in (_OPEN, _VALUE):
            self.flaws.add("punctuation")
        self._pop_object(end)

    def _close_list(self) -> None:
        while self.open_lists and isinstance(self.stack[-1], Object) and self.stack[-1].find_fault() is None:
            self._pop_unclosed()  # the object is all there but for its closer
        top = self.stack[-1]
        if isinstance(top, Object):
            self.flaws.add("junk")
            return
        if self.last == _COMMA:
            self.flaws.add("punctuation")
        self._pop_list(closed=True)

    def _close_at_end(self, depth: int = 0) -> None:
        if self.stack and not self.open_objects and not depth:
            self.flaws.add("unclosed")
            self.stack.clear()
        while len(self.stack) > depth:
            self.flaws.add("unclosed")
            if isinstance(self.stack[-1], Object):
                self._pop_object(self.end, cut=True)
            elif self.stack[-1] is _LIST:
                self._pop_lists()
            else:
                self._pop_list(closed=False)  # its last number may have lost digits

    def _pop_unclosed(self) -> None:
        self.flaws.add("unclosed")
        if isinstance(self.stack[-1], Object):
            self._pop_object(self.end)
        else:
            self._pop_list(closed=True)

    def _pop_lists(self) -> None:
        """Pop the lists that stand open one in the other, perhaps thousands, of which nothing comes."""
        inner = self.others[-1] + 1 if self.others else 0
        self.open_lists -= len(self.stack) - inner
        del self.stack[inner:]
        self.flaws.add("unclosed")
        self.last = _VALUE

    def _pop_list(self, closed: bool) -> None:
        top = self.stack.pop()
        if isinstance(top, Numbers):
            top.closed = closed
            self.others.pop()
        self.open_lists -= 1
        self.last = _VALUE

    def _pop_object(self, end: int, cut: bool = False) -> None:
        item = self.stack.pop()
        self.others.pop()
        self.open_objects -= 1
        self.last = _VALUE
        fault = item.find_fault(cut)
        self.findings.end_object(item.mark, fault, bool(item.fields))
        if fault is None:
            key = find_box_key(item.fields)
            numbers, label = item.fields[key], item.fields["label"]
            spans = None if self.shortcuts else ItemSpans((item.start, end), label.span, tuple(numbers.spans))
            self.findings.keep(key, numbers.values, label.value, spans)

    def _value_due(self) -> bool:
        return isinstance(self.stack[-1], Object) and self.last in (_KEY, _COLON)

    def _key_due(self) -> bool:
        return isinstance(self.stack[-1], Object) and self.last not in (_KEY, _COLON)

    def _field(self, field: Field) -> tuple[str, int]:
        """Take a whole label or box. Returns its last string, which a colon would make a key, and its end."""
        key, value, end, flaws = field
        self.flaws |= flaws
        top = self.stack[-1]
        top.key = key
        top.fields[key] = value
        self.last = _VALUE
        return value.value if key == "label" else "", end

    def _set_field(self, value: Label | Numbers | None) -> None:
        top = self.stack[-1]
        if top.key == "label" or top.key in BOX_KEYS:
            top.fields[top.key] = value

    def _comma(self) -> None:
        if self.last != _VALUE:
            self.flaws.add("punctuation")
        self.last = _COMMA

    def _colon(self) -> None:
        top = self.stack[-1]
        if isinstance(top, Numbers) and top.values and top.values[-1] is None and self.string:
            del top.values[-1], top.spans[-1]  # that was no coordinate but the next key: the box lacks its closer
            self._pop_unclosed()
            self.stack[-1].key = self.string
        elif isinstance(top, Object) and self.last == _VALUE and self.string:
            self.flaws.add("punctuation")  # that was no value but a key
            top.fields.pop(top.key, None)
            top.key = self.string
        elif not isinstance(top, Object) or self.last != _KEY:
            self.flaws.add("punctuation")
            return
        self.last = _COLON

    def _string(self, value: str, span: Span, closed: bool, proper: bool) -> None:
        if not proper:
            self.flaws.add("quotes")
        if isinstance(self.stack[-1], Object) and not self._value_due():
            if self.last == _VALUE:
                self.flaws.add("punctuation")
            self.stack[-1].key = value
            self.last = _KEY
        else:
            label = isinstance(self.stack[-1], Object) and self.stack[-1].key == "label"
            self._value(Label(value, span, closed) if label else None, span)

    def _word(self, word: str, span: Span) -> None:
        number = float(word) if JSON_NUMBER.fullmatch(word) else None
        if number is None and word not in _LITERALS:
            if isinstance(self.stack[-1], Object) and self.last in (_OPEN, _COMMA):
                self.flaws.add("quotes")
                self.stack[-1].key = word
                self.last = _KEY
                return
            self.flaws.add("junk")
            if isinstance(self.stack[-1], Numbers) and word.lstrip("+-").lower() in _NOT_FINITE:
                number = math.nan
            elif not isinstance(self.stack[-1], Numbers) and not self._value_due():
                return
        self._value(number, span)

    def _value(self, value: Label | float | None, span: Span) -> None:
        """A string (None but for a label), number or literal (None) where a value may stand."""
        top = self.stack[-1]
        if self.last in (_VALUE, _KEY):
            self.flaws.add("punctuation")
        if isinstance(top, Numbers):
            top.values.append(value)
            top.spans.append(span)
        elif top is _LIST:
            if self.open_objects == 0:
                self.findings.found.append("not_object")
        elif self._value_due():
            self._set_field(value if isinstance(value, Label) else None)
        else:
            self.flaws.add("punctuation")
            return
        self.last = _VALUE


def _find_spans(rest: Rest | None, text: str, size: tuple[float, float]) -> tuple[ItemSpans, ...]:
    """The places of what `shortcuts` found, by reading it once more, token by token, and each item of `rest` by itself."""
    spans = list(Scan(text, size, read_torn_string, until=rest and rest.stop).run().spans)
    for start, end in rest.find_places(text) if rest else ():
        spans += [item.shift(start) for item in Scan(text[start:end], size, read_torn_string).run().spans]
    return tuple(spans)
