"""Flat items: read many objects at once out of text that is not JSON as a whole (see `completions`).

A run is flat objects in a row, whatever words and commas stand between them; flat is what holds no object, or only such that hold
none. Small repairs are made to the whole run: no comma before "}", one after "]", the "]" of a box, double quotes for single ones,
quotes around keys. Objects that are then JSON by the grammar below are decoded all at once, and mean what reading them token by
token (`scan`) would find: no string here holds a brace, and a repair within a string leaves no JSON behind. The grammar takes less
than JSON has (no long numbers, no lists in lists in lists), so that decoding what it took cannot fail; what it leaves is read by
token.
"""

from __future__ import annotations

import re

import msgspec

from vr1kit.parsing.budget import DECODE, MEND, TRY
from vr1kit.parsing.detections import NUMBER, STRICT, WS, Detection

_INNER = r"""[^{}"]*+(?:"[^"\\{}\n]*+(?:\\[^{}\n][^"\\{}\n]*+)*+"[^{}"]*+)*+"""
_FLAT = rf"""\{{{_INNER}(?:(?:(?<=:)|(?<=: ))\{{{_INNER}\}}{_INNER})*+\}}"""
_BRACED = r"\{[^{}]*+(?:\{[^{}]*+\}[^{}]*+)*+\}"  # finds the end of what is known to be flat, whatever quotes are in it
_OBJECT = re.compile(_BRACED)
FLAT = re.compile(_FLAT)
RUN = re.compile(rf"""{_FLAT}(?:[^{{}}\[\]"':]*+{_FLAT})*+""")
_BETWEEN = re.compile(r"""\}([^{}\[\]"':]*)\{""")
_WORD = re.compile(r"[^, \t\n\r]+")
_VALUE = re.compile(rf"(?:{NUMBER}|true|false|null)\Z")  # an item, if a bad one
_LONG = 2_000  # ours: characters from which a run is worth trying as a whole

_TRAILING = re.compile(rf",(?={WS}\}})")
_KEY_NEXT = rf"""{WS}"[^"\\{{}}\n]*+"{WS}:"""
_NO_COMMA = re.compile(rf"\](?={_KEY_NEXT})")
_HEAD = 800  # ours: characters that show whether a run is JSON
_ASCRIBED = 32  # ours: objects whose own repairs are looked at, where there are several kinds
_BARE_KEY = re.compile(rf"([{{,]{WS})(?!(?:true|false|null)\b)([A-Za-z_][A-Za-z0-9_]*+)(?={WS}:)")

# JSON that any decoder takes.
_STRING = (
    r'"[^"\\{}\x00-\x1f\ud800-\udfff]*+(?:\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4})[^"\\{}\x00-\x1f\ud800-\udfff]*+)*+"'
)
_NUMBER = r"-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]{1,2})?+"
_NO_BRACKET = re.compile(  # begins with letters to look for, which makes it five times as fast
    rf"""(box(?:(?<=\Wbbox)(?:_2d)?|(?<=\Wbox))"?{WS}:{WS}\[{WS}{_NUMBER}(?:{WS},{WS}{_NUMBER}){{3}})(?={WS}(?:,{_KEY_NEXT}|\}}))"""
)
_SIMPLE = rf"(?:{_NUMBER}|{_STRING}|true|false|null)"


def _list_of(value: str) -> str:
    return rf"\[{WS}(?:{value}{WS}(?:,{WS}{value}{WS})*+)?+\]"


def _object_of(value: str) -> str:
    member = rf"{_STRING}{WS}:{WS}{value}{WS}"
    return rf"\{{{WS}(?:{member}(?:,{WS}{member})*+)?+\}}"


_LISTS = _list_of(rf"(?:{_SIMPLE}|{_list_of(_SIMPLE)})")
_JSON = _object_of(rf"(?:{_SIMPLE}|{_LISTS}|{_object_of(rf'(?:{_SIMPLE}|{_list_of(_SIMPLE)})')})")
_BOX = rf'"bbox_2d"{WS}:{WS}\[{WS}{_NUMBER}{WS}(?:,{WS}{_NUMBER}{WS}){{3}}\]{WS}'
_LABEL = rf'"label"{WS}:{WS}{_STRING}{WS}'
_KINDS = re.compile(
    rf"(\{{{WS}(?:{_BOX},{WS}{_LABEL}|{_LABEL},{WS}{_BOX})\}})|({_JSON})|({_BRACED})"
)  # strict, other JSON, neither
_DECODER = msgspec.json.Decoder()

Items = tuple[list[str], list[Detection | dict | None], dict[int, set[str]], float]
"""Flat objects in a row: their texts; themselves decoded, or None where only tokens can say what it is; by index, the answer
reasons for repairs; the work it was, in tokens."""


def judge_separators(run: str, in_list: bool) -> set[str] | None:
    """The answer reasons for what stands between the objects of a run; None where that could be an item of the list, too."""
    separators = _BETWEEN.findall(run)
    if not in_list:  # each is an answer of its own
        around = {"text_around"} if any(map(str.strip, separators)) else set()
        return around | {"several_lists"} if separators else around
    flaws = set()
    for separator in set(separators):
        words = _WORD.findall(separator)
        if any(_VALUE.match(word) for word in words):
            return None
        if words:
            flaws.add("junk")
        if separator.count(",") != 1:
            flaws.add("punctuation")
    return flaws


def decode_run(run: str, even: bool, likely: bool) -> list[Detection] | None:
    """All items of a run at once, if each is of the strict grammar. `even`: they are parted as in JSON. `likely`: those before were."""
    return _try_strict(run if even else _BETWEEN.sub("},{", run)) if likely or len(run) >= _LONG else None


def expect_work(run: str, mend_first: bool) -> float:
    """What `decode_items` takes in tokens if the run is like the one before."""
    return TRY + (DECODE + MEND * mend_first) * len(run)


def decode_items(run: str, mend_first: bool) -> Items:
    """Each flat object of a run. `mend_first`: those before it were torn."""
    head = run[:_HEAD]  # hardly one of the objects is JSON if most keys lack quotes, or most lists their end
    as_it_is = not mend_first and 2 * head.count('":') > head.count(":") and 2 * head.count("]") >= head.count("[")
    texts, items = _decode(run) if as_it_is else (_OBJECT.findall(run), [])
    items = items or [None] * len(texts)
    work = TRY + DECODE * as_it_is * len(run)
    repaired: dict[int, set[str]] = {}
    torn = [index for index, item in enumerate(items) if item is None]
    if not torn:
        return texts, items, repaired, work
    mended, flaws = _mend([texts[index] for index in torn])
    unseen = set(flaws) if len(flaws) > 1 and len(torn) > 1 else set()
    for index, item in zip(torn, _decode(mended)[1], strict=True) if flaws or not as_it_is else ():
        if item is not None:
            items[index], repaired[index] = item, flaws
            if unseen and len(repaired) < _ASCRIBED:  # which of them is this one's?
                repaired[index] = _mend([texts[index]])[1]
                unseen -= repaired[index]
    return texts, items, repaired, work + (MEND + DECODE) * len(mended)


def _decode(run: str) -> tuple[list[str], list[Detection | dict | None]]:
    """The texts of flat objects, and those decoded that are JSON."""
    kinds = _KINDS.findall(run)
    strict = iter(_decode_all(STRICT, [strict for strict, _, _ in kinds if strict]))
    others = iter(_decode_all(_DECODER, [other for _, other, _ in kinds if other]))
    items = [next(strict) if first else next(others) if second else None for first, second, _ in kinds]
    return [first or second or third for first, second, third in kinds], items


def _decode_all(decoder: msgspec.json.Decoder, items: list[str]) -> list[Detection | dict]:
    return decoder.decode(f"[{','.join(items)}]") if items else []


def _mend(items: list[str]) -> tuple[str, set[str]]:
    """Flat objects in a row with what can be repaired, and the answer reasons for it."""
    flaws = set()
    if "'" in (whole := (mended := "".join(items))):
        if '"' in whole or "\\" in whole:
            mended = "".join([item.replace("'", '"') if '"' not in item and "\\" not in item else item for item in items])
        else:
            mended = whole.replace("'", '"')
        if mended != whole:
            flaws.add("quotes")
    for fault, repair in ((_TRAILING, ""), (_NO_COMMA, "],")):
        parts = fault.split(mended)
        if len(parts) > 1:
            flaws.add("punctuation")
            mended = repair.join(parts)
    if mended.count("[") - mended.count("]") > len(items) // 8:  # a few are read by token sooner
        parts = _NO_BRACKET.split(mended)  # text, a box without its "]", text, ...
        if len(parts) > 1:
            flaws.add("unclosed")
            mended = "".join([part + "]" * (index % 2) for index, part in enumerate(parts)])
    parts = _BARE_KEY.split(mended)  # text, what stands before a key, the key, text, ...; substituting takes four times as long
    if len(parts) > 1:
        flaws.add("quotes")
        parts[2::3] = [f'"{key}"' for key in parts[2::3]]
        mended = "".join(parts)
    return mended, flaws


def _try_strict(items: str) -> list[Detection] | None:
    """None where one is not of the strict grammar: then another way to read them is tried."""
    try:
        return STRICT.decode(f"[{items}]")
    except (ValueError, RecursionError):
        return None
