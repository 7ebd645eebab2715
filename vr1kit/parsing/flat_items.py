"""Flat items: read many objects at once out of text that is not JSON as a whole (see `completions`).

A run is flat objects in a row, whatever words and commas stand between them; flat is what holds no object, or only such that hold
none. They are decoded as JSON, if need be after small repairs: no comma before "}", double quotes for single ones, quotes around
keys. What the decoder then accepts means the same as reading it token by token (`scan`) would: no string here holds a brace, and a
repair within a string leaves no JSON behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from vr1kit.parsing.detections import STRICT, Detection, Span

_INNER = r"""[^{}"]*+(?:"(?:[^"\\{}\n]|\\.)*+"[^{}"]*+)*+"""
_FLAT = rf"""\{{{_INNER}(?:(?:(?<=:)|(?<=: ))\{{{_INNER}\}}{_INNER})*+\}}"""
FLAT = re.compile(_FLAT)
RUN = re.compile(rf"""{_FLAT}(?:[^{{}}\[\]"':]*+{_FLAT})*+""")
_BETWEEN = re.compile(r"""\}([^{}\[\]"':]*)\{""")
_WORD = re.compile(r"[^, \t\n\r]+")
_VALUE = re.compile(r"(?:-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null)\Z")  # an item, if a bad one
_LONG = 2_000  # ours: characters from which a run is worth trying as a whole
_CHUNK = 8  # ours: items decoded at once; where one is bad, each by itself

_DECODER = msgspec.json.Decoder()  # takes less than Python's: no 1e999, no lone surrogate
_TRAILING = re.compile(r",(?=[ \t\n\r]*\})")
_BARE_KEY = re.compile(r"([{,][ \t\n\r]*)(?!(?:true|false|null)\b)([^\W\d]\w*)(?=[ \t\n\r]*:)")

_WS = r"[ \t\n\r]*+"
_NUMBER = rf"{_WS}-?(?:0|[1-9][0-9]{{0,8}})(?:\.[0-9]{{1,18}})?{_WS}"
_BOX = rf'"(?:bbox_2d|bbox|box)"{_WS}:{_WS}\[{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\]'
_LABEL = rf'"label"{_WS}:{_WS}"[^"\\{{}}\x00-\x1f\ud800-\udfff]*+"'
#: An item exactly as in the template, perhaps without its "}".
TEMPLATE = re.compile(rf"\{{{_WS}{_BOX}{_WS},{_WS}{_LABEL}{_WS}\}}?")


def find_template(text: str, start: int) -> list[Span]:
    """Where items exactly as in the template stand, from `start` on."""
    return [item.span() for item in TEMPLATE.finditer(text, start)]


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


def decode_run(run: str, even: bool) -> list[Detection] | None:
    """All items of a run at once, if each is of the strict grammar. `even`: they are parted as in JSON."""
    if len(run) < _LONG:
        return None
    return _try_decoder(STRICT, run if even else _BETWEEN.sub("},{", run))


def decode_items(items: Sequence[str]) -> Iterator[tuple[dict | Detection | None, set[str], bool]]:
    """Of each flat object: itself decoded, or None where only its tokens can say what it is; the answer reasons for the repairs;
    whether it was bad enough to be tried by itself."""
    for start in range(0, len(items), _CHUNK):
        chunk = items[start : start + _CHUNK]
        decoded, flaws = _decode(",".join(chunk), (STRICT, _DECODER))
        if decoded:
            yield from ((item, flaws, False) for item in decoded)
            continue
        for item in chunk:
            decoded, flaws = _decode(item, (_DECODER,))
            yield (decoded[0] if decoded else None), flaws, True


def _decode(text: str, decoders: Sequence[msgspec.json.Decoder]) -> tuple[list[dict | Detection] | None, set[str]]:
    for decoder in decoders:
        if (found := _try_decoder(decoder, text)) is not None:
            return found, set()
    mended, flaws = _TRAILING.sub("", text), set()
    if mended != text:
        flaws.add("punctuation")
    if "'" in mended and '"' not in mended and "\\" not in mended:
        mended = mended.replace("'", '"')
        flaws.add("quotes")
    parts = _BARE_KEY.split(mended)  # text, what stands before a key, the key, text, ...; substituting takes four times as long
    if len(parts) > 1:
        parts[2::3] = [f'"{key}"' for key in parts[2::3]]
        mended = "".join(parts)
        flaws.add("quotes")
    found = _try_decoder(_DECODER, mended) if flaws else None
    return (None, set()) if found is None else (found, flaws)


def _try_decoder(decoder: msgspec.json.Decoder, items: str) -> list[Any] | None:
    """None where the text is not what the decoder takes: then another way to read it is tried."""
    try:
        return decoder.decode(f"[{items}]")
    except (ValueError, RecursionError):
        return None
