"""Flat items: read many objects at once out of text that is not JSON as a whole (see `completions`).

A run is flat objects in a row, whatever words and commas stand between them; flat is what holds no object, or only such that hold
none. They are decoded as JSON, if need be after small repairs: no comma before "}", double quotes for single ones, quotes around
keys. What the decoder then accepts means the same as reading it token by token (`scan`) would: no string here holds a brace, and a
repair within a string leaves no JSON behind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from vr1kit.detections import STRICT, Detection, Span

_INNER = r"""[^{}"]*+(?:"(?:[^"\\{}\n]|\\.)*+"[^{}"]*+)*+"""
_FLAT = rf"""\{{{_INNER}(?:(?:(?<=:)|(?<=: ))\{{{_INNER}\}}{_INNER})*+\}}"""
FLAT = re.compile(_FLAT)
RUN = re.compile(rf"""{_FLAT}(?:[^{{}}\[\]"':]*+{_FLAT})*+""")
_BETWEEN = re.compile(r"""\}([^{}\[\]"':]*)\{""")
_WORD = re.compile(r"[^, \t\n\r]+")
_VALUE = re.compile(r"[-+.\d]|(?:true|false|null)\Z")  # a word that could be an item, if a bad one
_CHUNK = 16  # ours: items decoded at once; where one is bad, each by itself

_DECODER = msgspec.json.Decoder()  # takes less than Python's: no 1e999, no lone surrogate
_TRAILING = re.compile(r",(?=[ \t\n\r]*\})")
_BARE_KEY = re.compile(r"([{,][ \t\n\r]*)(?!(?:true|false|null)\b)([^\W\d]\w*)(?=[ \t\n\r]*:)")

_NUMBER = r"[ \t\n\r]*(-?[0-9]{1,9}(?:\.[0-9]{1,18})?)[ \t\n\r]*"
_BOX = rf'"(bbox_2d|bbox|box)"[ \t\n\r]*:[ \t\n\r]*\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]'
_LABEL = r'"label"[ \t\n\r]*:[ \t\n\r]*("[^"\\{}\x00-\x1f]*")'
#: An item exactly as in the template, perhaps without its "}". Groups: key, x1, y1, x2, y2, label with its quotes.
TEMPLATE = re.compile(rf"\{{[ \t\n\r]*{_BOX}[ \t\n\r]*,[ \t\n\r]*{_LABEL}[ \t\n\r]*\}}?")


@lru_cache(maxsize=1)
def find_items(text: str, pattern: re.Pattern, within: Span) -> list[Span]:
    return [item.span() for item in pattern.finditer(text, *within)]


def judge_separators(run: str) -> set[str] | None:
    """The answer reasons for what stands between the objects of a run; None where that could be an item, too."""
    flaws = set()
    for separator in set(_BETWEEN.findall(run)):
        words = _WORD.findall(separator)
        if any(_VALUE.match(word) for word in words):
            return None
        if words:
            flaws.add("junk")
        if separator.count(",") != 1:
            flaws.add("punctuation")
    return flaws


def decode_items(items: Sequence[str]) -> tuple[list[dict | Detection | None], set[str]]:
    """Each flat object decoded, or None where only its tokens can say what it is; and the answer reasons for the repairs."""
    decoded, flaws = [], set()
    for start in range(0, len(items), _CHUNK):
        chunk = items[start : start + _CHUNK]
        decoded += _decode(",".join(chunk), flaws) or [one[0] if (one := _decode(item, flaws)) else None for item in chunk]
    return decoded, flaws


def _decode(text: str, flaws: set[str]) -> list[dict | Detection] | None:
    for decoder in (STRICT, _DECODER):
        try:
            return decoder.decode(f"[{text}]")
        except ValueError:
            pass
    mended, found = _TRAILING.sub("", text), set()
    if mended != text:
        found.add("punctuation")
    if "'" in mended and '"' not in mended and "\\" not in mended:
        mended = mended.replace("'", '"')
        found.add("quotes")
    mended, keys = _BARE_KEY.subn(r'\1"\2"', mended)
    if keys:
        found.add("quotes")
    if not found:
        return None
    try:
        decoded = _DECODER.decode(f"[{mended}]")
    except ValueError:
        return None
    flaws |= found
    return decoded
