"""Frames: what stands open while an answer is read by token, and when it is a detection of the template (see `scan`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from vr1kit.parsing.detections import Span
from vr1kit.parsing.findings import Mark, find_box_key

_MISSING = "missing"


@dataclass(slots=True)
class Numbers:
    """An open list that is the value of a box key."""

    values: list[float | None] = field(default_factory=list)  # None: not a number
    spans: list[Span] = field(default_factory=list)
    closed: bool = False


@dataclass(slots=True)
class Label:
    value: str
    span: Span
    closed: bool


@dataclass(slots=True)
class Object:
    """An open object: its start, what had been found before it, its label and box so far."""

    start: int
    mark: Mark
    key: str = ""
    fields: dict[str, Label | Numbers | None] = field(default_factory=dict)  # of label and BOX_KEYS; None: other type

    def find_fault(self, cut: bool = False) -> str | None:
        """Why it is not a detection of the template, or None."""
        box, label = self.fields.get(find_box_key(self.fields), _MISSING), self.fields.get("label", _MISSING)
        if box is _MISSING and label is _MISSING:
            return "incomplete" if cut else "no_box"
        torn = (isinstance(box, Numbers) and not box.closed) or (isinstance(label, Label) and not label.closed)
        if torn or (cut and (box is _MISSING or label is _MISSING)):
            return "incomplete"
        if box is _MISSING:
            return "no_box"
        if label is _MISSING:
            return "no_label"
        if label is None:
            return "label_not_string"
        if box is None or len(box.values) != 4:
            return "box_length"
        return "box_type" if None in box.values else None
