"""Picks: what is taken of a text once too many of its tokens were read (see `scan`): items that are whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from vr1kit.parsing.detections import BOX_KEYS, WS, Detection, Span

_NUMBER = rf"{WS}-?(?:0|[1-9][0-9]{{0,8}}+)(?:\.[0-9]{{1,18}}+)?+(?:[eE][+-]?[0-9]{{1,2}}+)?+{WS}"  # of what any decoder takes


def _box(quote: int) -> str:
    return rf"""(["']?)(bbox_2d|bbox|box)\{quote}{WS}:{WS}\[({",".join([_NUMBER] * 4)})\]{WS}"""


def _label(quote: int) -> str:
    text = r"""(?:"([^"\\{}\x00-\x1f]*+)"|'([^'"\\{}\x00-\x1f]*+)')"""
    return rf"""(["']?)label\{quote}{WS}:{WS}{text}{WS}"""


_PICK = re.compile(  # perhaps without its "}"
    rf"""\{{{WS}(?=["'bl])(?:{_box(quote=1)},{WS}{_label(quote=4)}|{_label(quote=7)},{WS}{_box(quote=10)}),?+{WS}\}}?+"""
)
_BOXES = msgspec.json.Decoder(list[tuple[float, float, float, float]])


@dataclass(frozen=True)
class Rest:
    """Of a text: what of a run of flat objects was decoded already when reading stopped, and all that follows."""

    stop: int  # end of the last token that was read
    depth: int  # how many lists and objects the run stands in
    start: int  # of the run's rest
    end: int
    texts: Sequence[str] = ()  # its objects
    items: Sequence[Detection | dict | None] = ()  # decoded; None: torn

    def find_places(self, text: str) -> list[Span]:
        """Where its items stand, and those that are picked after it."""
        at, places = self.start, []
        for item_text, item in zip(self.texts, self.items, strict=True):
            at = text.index(item_text, at)
            places += [(at, at + len(item_text))] * (item is not None)
            at += len(item_text)
        return places + [item.span() for item in _PICK.finditer(text, self.end)]


def decode_picks(text: str, start: int) -> list[Detection | dict]:
    """Items as in the template, from `start` on."""
    parts = [
        (key or late_key, numbers or late_numbers, double or single or late_double or late_single)
        for _, key, numbers, _, late_double, late_single, _, double, single, _, late_key, late_numbers in _PICK.findall(
            text, start
        )
    ]
    boxes = _BOXES.decode(f"[{','.join([f'[{numbers}]' for _, numbers, _ in parts])}]")
    return [
        Detection(box, label) if key == BOX_KEYS[0] else {key: list(box), "label": label}
        for (key, _, label), box in zip(parts, boxes, strict=True)
    ]


def count_begun(text: str, start: int) -> int:
    """How many items may begin from `start` on, picked or not; an object that is a value is none."""
    return text.count("{", start) - text.count(":{", start) - text.count(": {", start)
