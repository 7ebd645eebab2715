"""Frames: what stands open while an answer is read by token, and when it is a detection of the template (see `scan`)."""

from __future__ import annotations

from dataclasses import dataclass, field

from vr1kit.parsing.detections import BOX_KEYS, Span
from vr1kit.parsing.findings import Mark

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
        if not self.fields:
            return "incomplete" if cut else "no_box"
        numbers = next((self.fields[key] for key in BOX_KEYS if key in self.fields), _MISSING)
        label = self.fields.get("label", _MISSING)
        torn = any(isinstance(part, (Numbers, Label)) and not part.closed for part in (numbers, label))
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
