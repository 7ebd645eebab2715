"""Annotated pictures: the one schema that every reader fills, and what can be wrong with input.

Units, for all formats alike. Boxes are corners (x1, y1, x2, y2) in pixels of the picture as it is stored, continuous: the
picture spans 0 to width, right and bottom edges are exclusive. Each reader says what its format has and how it gets here.

Decisions (ours):
1. What is left out is a *record*, a picture with all its boxes, never one box of it: a picture with an object unmarked
   would punish right answers. Where labels are phrases (`DetectionSet.phrases`) a phrase is left out alone: nobody asks
   for the others.
2. A box may reach over the picture's edge by `SLACK`, as rounding makes it; it is clipped and counted. Further out is a fault:
   such boxes mostly belong to another size of the picture or another coordinate space.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ON_ERROR = ("fail", "skip")
SLACK_PX, SLACK_SHARE = 2.0, 0.01  # ours: two pixels, or 1 % of the side where that is more
MAX_SIDE = 10**6  # px, of a picture; ours
ROUNDING_PX = 0.01  # ours: six decimals of 10,000 pixels; cut without a word
SHOWN = 80  # characters of a faulty value that a message repeats

REASONS = {
    "malformed": "an entry lacks a field, or a field is of another type",
    "duplicate_id": "an id stands for several pictures or annotations",
    "unknown_picture": "an annotation names a picture that is not listed",
    "unknown_category": "an annotation names a category that is not listed",
    "not_finite": "a coordinate is NaN or infinite",
    "no_area": "a box has a side of zero or less",
    "outside": "a box lies outside its picture, or reaches far over its edge",
    "picture_size": "the picture's width or height is not a positive number, or not the file's",
    "leaves_folder": "the picture's name leads out of the folder of the set",
    "absent": "the picture is not there",
    "known_absent": "the picture is missing from the published set, too",
    "no_target": "a phrase that nothing in its picture answers to (gRefCOCO)",
    "unreadable": "the file is no picture, or of a format that is not read",
    "truncated": "the picture's file ends too early",
    "too_large": "the picture has more pixels than the limit",
    "cmyk": "the picture is CMYK, made for print",
    "deep_colour": "the picture has more than 8 bits a channel",
}


class DataError(ValueError):
    """Bad input data; the message names file, record and remedy in one line."""

    def __init__(self, message: str):
        super().__init__(" ".join(str(message).splitlines()))


class BadRecord(DataError):
    """One record that cannot be used. `reason` is a key of REASONS; the message is a predicate: "has ...; remedy"."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason

    def at(self, file: str | os.PathLike, which: str) -> BadRecord:
        """The whole sentence: file, record, what is wrong, remedy."""
        return BadRecord(self.reason, f"{file}: {which} {self}")


@dataclass(frozen=True)
class Record:
    """One annotated picture. Boxes in picture pixels, (N, 4) float, right and bottom edges exclusive."""

    image_path: Path
    image_id: int | str  # the set's own; a running number from 1 where the format has none
    width: int  # px
    height: int  # px
    boxes_xyxy_px: np.ndarray
    labels: tuple[str, ...]  # categories, or phrases: see DetectionSet
    source: str  # the set's name
    ignored: int = 0  # regions that are annotated and left out: COCO's crowds, VOC's difficult objects
    truncated: int = 0  # objects marked as cut off by the picture's edge (VOC)
    prompt: str | None = None  # the question as it was published; None: `data.ask` writes one


@dataclass(frozen=True)
class DetectionSet:
    """A set as read: records in file order, the category list in id order, and what was left out."""

    name: str
    annotations: Path  # the file, or the folder where there are many
    records: Sequence[Record]  # a tuple, or `columns.RecordTable`, which reads from disk
    categories: Mapping[str, int]  # label -> id; empty where labels are phrases
    phrases: bool = False  # labels are expressions of single objects, and not all objects have one: ask for one at a time
    skipped: Mapping[str, int] = field(default_factory=dict)  # reason -> records left out (phrases, where labels are phrases)
    clipped: int = 0  # boxes cut at the picture's edge, by no more than SLACK


class Faults:
    """The policy for bad records: "fail" raises the first, "skip" counts them by reason."""

    def __init__(self, file: Path, on_error: str = "fail"):
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be one of {', '.join(ON_ERROR)}, got {on_error!r}")
        self.file, self.on_error, self.skipped, self.clipped = file, on_error, Counter(), 0

    def check(self, error: BadRecord, which: str, file: str | os.PathLike | None = None) -> str:
        """Raise under "fail", with file and record; otherwise return the reason, for the caller to `count`."""
        if self.on_error == "fail":
            raise error.at(file or self.file, which) from None
        return error.reason

    def count(self, reason: str, n: int = 1) -> None:
        self.skipped[reason] += n

    def take(self, error: BadRecord, which: str, file: str | os.PathLike | None = None) -> None:
        """Raise, or count one record that is left out."""
        self.count(self.check(error, which, file))

    def to_set(
        self,
        name: str,
        records: Sequence[Record],
        categories: Mapping[str, int],
        phrases: bool = False,
        file: Path | None = None,
    ) -> DetectionSet:
        """The set of what is left. Raises DataError if that is nothing."""
        file = file or self.file
        if not records:
            why = f"all records were left out: {describe_counts(self.skipped)}" if self.skipped else "it has no pictures"
            raise DataError(f"{file}: the set is empty, {why}; give a set with pictures")
        records = tuple(records) if isinstance(records, list) else records
        return DetectionSet(name, file, records, categories, phrases, dict(sorted(self.skipped.items())), self.clipped)


def describe_counts(counts: Mapping[str, int]) -> str:
    """Counts by reason as text: "3 absent, 1 no_area"."""
    return ", ".join(f"{n} {reason}" for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))) or "none"


def shorten(value: Any) -> str:
    """A value for a message: its repr, one line, at most SHOWN characters."""
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


# --- fields ---------------------------------------------------------------------------------------------------------------
def call(kind: str, entry: Any, number: int, *keys: str) -> str:
    """What to call an entry of a list in a message: by the first of its ids that it has ("id" by default), else its number."""
    for key in keys or ("id",):
        if isinstance(entry, dict) and isinstance(entry.get(key), int | str):
            return f"{kind} {entry[key] if isinstance(entry[key], int) else shorten(entry[key])}"
    return f"{kind} number {number}"


def get(entry: Any, key: str, kind: type | tuple[type, ...] = object) -> Any:
    """A field that must be there, of a kind. Raises BadRecord."""
    if not isinstance(entry, dict):
        raise BadRecord("malformed", f"is {shorten(entry)}, not an object with the field '{key}'; mend the entry")
    if key not in entry:
        raise BadRecord("malformed", f"has no '{key}'; mend the entry")
    value = entry[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not object):
        raise BadRecord("malformed", f"has {shorten(value)} as '{key}', which is of the wrong type; mend the entry")
    return value


def check_size(width: Any, height: Any) -> tuple[int, int]:
    """A picture's (width, height) in px. Raises BadRecord."""
    for side in (width, height):
        whole = isinstance(side, int | float | np.integer) and not isinstance(side, bool) and side > 0 and side % 1 == 0
        if not (whole and side <= MAX_SIDE):
            raise BadRecord("picture_size", f"has the size {shorten(width)} x {shorten(height)}; give both as whole pixels")
    return int(width), int(height)


def check_box_xyxy(x1: float, y1: float, x2: float, y2: float, size: tuple[int, int]) -> tuple[tuple[float, ...], bool]:
    """A box in a picture of `size` (width, height), px -> (the box inside the picture, whether it was clipped). BadRecord."""
    width, height = size
    if 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height:
        return (x1, y1, x2, y2), False
    shown = f"has the box {[round(v, 3) if math.isfinite(v) else v for v in (x1, y1, x2, y2)]} (left, top, right, bottom)"
    if not all(map(math.isfinite, (x1, y1, x2, y2))):
        raise BadRecord("not_finite", f"{shown}; its numbers must be finite")
    if not (x1 < x2 and y1 < y2):
        raise BadRecord("no_area", f"{shown}; width and height must be positive")
    slack_x, slack_y = (max(SLACK_PX, SLACK_SHARE * side) for side in size)
    inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))
    near = x1 >= -slack_x and y1 >= -slack_y and x2 <= width + slack_x and y2 <= height + slack_y
    if not (near and inside[0] < inside[2] and inside[1] < inside[3]):
        what = f"{shown}, outside its picture of {width} x {height}"
        raise BadRecord("outside", f"{what}; are these pixels of another size of it?")
    return inside, max(-x1, -y1, x2 - width, y2 - height) > ROUNDING_PX


def read_box_xywh(values: Any, size: tuple[int, int]) -> tuple[tuple[float, ...], bool]:
    """[left, top, width, height] in px of a picture of `size`, as `check_box_xyxy` gives it. Raises BadRecord."""
    x, y, w, h = _four_numbers(values)
    if math.isfinite(w) and math.isfinite(h) and not (w > 0 and h > 0):
        raise BadRecord("no_area", f"has the box {shorten(values)}; width and height must be positive")
    return check_box_xyxy(x, y, x + w, y + h, size)


def read_box_xyxy(values: Any, size: tuple[int, int]) -> tuple[tuple[float, ...], bool]:
    """[left, top, right, bottom] in px of a picture of `size`, as `check_box_xyxy` gives it. Raises BadRecord."""
    return check_box_xyxy(*_four_numbers(values), size)


def check_boxes_xywh(boxes_xywh: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`read_box_xywh` for many: boxes (M, 4) px in pictures of `sizes` (M, 2) -> (boxes_xyxy (M, 4) inside the pictures, whether each
    is good (M,), whether it was clipped (M,)). For why one is not good, ask `read_box_xywh`.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        low, high = boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]  # (M, 2)
        good = np.isfinite(low).all(1) & np.isfinite(high).all(1) & (boxes_xywh[:, 2:] > 0).all(1) & (low < high).all(1)
        slack = np.maximum(SLACK_PX, SLACK_SHARE * sizes)
        inside_low, inside_high = np.maximum(low, 0.0), np.minimum(high, sizes)
        good &= (low >= -slack).all(1) & (high <= sizes + slack).all(1) & (inside_low < inside_high).all(1)
        clipped = good & (np.maximum(-low, high - sizes).max(1, initial=-np.inf) > ROUNDING_PX)
    return np.hstack([inside_low, inside_high]), good, clipped


def _four_numbers(values: Any) -> tuple[float, float, float, float]:
    try:
        a, b, c, d = (float(v) for v in values)
    except (TypeError, ValueError, OverflowError):
        raise BadRecord("malformed", f"has the box {shorten(values)}; give four numbers") from None
    return a, b, c, d


def stack_boxes(boxes: Iterable[Sequence[float]]) -> np.ndarray:
    return np.asarray(list(boxes), dtype=np.float64).reshape(-1, 4)  # (N, 4)
