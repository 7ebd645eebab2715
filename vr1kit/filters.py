"""Which records are worth training on: pure functions over `records.Record`, every refusal with a named reason.

`find_reasons` says all that speaks against a record, in the order of REASONS; `curate` counts the first. By default only
the number of instances and tiny boxes are looked at; the others are for real sets, and each is switched on by giving it a
limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vr1kit.boxes import iou_matrix
from vr1kit.records import Record

HARD_ABOVE = 10  # paper: hard samples have more than 10 instances, and are half of the data
EDGE_PX = 1.0  # ours: a box that ends within a pixel of the picture's edge touches it

REASONS = {
    "too few": "fewer boxes than min_instances",
    "too many": "more boxes than max_instances",
    "tiny": "a box has a side below min_side_px",
    "crowd": "more regions than max_ignored are annotated as crowds, or as too difficult to score",
    "truncated": "a larger share than max_truncated of its objects is cut off by the picture's edge",
    "degenerate": "a box is longer than max_aspect times its width, or covers more than max_area of the picture",
    "duplicate boxes": "two boxes of one label overlap by at least duplicate_iou",
}


@dataclass(frozen=True)
class Limits:
    """What a record may be. None: not looked at."""

    min_instances: int = 1  # released code
    max_instances: int = 30  # released code
    min_side_px: float = 4.0  # ours
    max_ignored: int | None = None
    max_truncated: float | None = None  # share of the objects, 0 to 1
    max_aspect: float | None = None
    max_area: float | None = None  # share of the picture, 0 to 1
    duplicate_iou: float | None = None


def find_reasons(record: Record, limits: Limits = Limits(), phrases: bool = False) -> tuple[str, ...]:
    """Why a record should be left out: keys of REASONS, none if it should not. `phrases` is its set's (`DetectionSet.phrases`):

    of several phrases for one box only one counts.
    """
    boxes = np.unique(record.boxes_xyxy_px, axis=0) if phrases and len(record.labels) else record.boxes_xyxy_px  # (N, 4)
    sides = boxes[:, 2:] - boxes[:, :2]  # (N, 2)
    n = len(boxes)
    found = []
    if n < limits.min_instances:
        found.append("too few")
    if n > limits.max_instances:
        found.append("too many")
    if (sides < limits.min_side_px).any():
        found.append("tiny")
    if limits.max_ignored is not None and record.ignored > limits.max_ignored:
        found.append("crowd")
    if limits.max_truncated is not None and n and count_truncated(record) > limits.max_truncated * len(record.labels):
        found.append("truncated")
    if _is_degenerate(sides, record, limits):
        found.append("degenerate")
    if limits.duplicate_iou is not None and not phrases and has_duplicates(record, limits.duplicate_iou):
        found.append("duplicate boxes")
    return tuple(found)


def count_truncated(record: Record) -> int:
    """Objects cut off by the picture's edge: as marked where the format marks them, else those whose box touches the edge."""
    boxes, size = record.boxes_xyxy_px, (record.width, record.height)
    touching = (boxes[:, :2] <= EDGE_PX).any(axis=1) | (boxes[:, 2:] >= np.asarray(size) - EDGE_PX).any(axis=1)  # (N,)
    return record.truncated or int(touching.sum())


def _is_degenerate(sides: np.ndarray, record: Record, limits: Limits) -> bool:
    long, short = sides.max(axis=1, initial=0.0), sides.min(axis=1, initial=np.inf)  # (N,)
    lines = limits.max_aspect is not None and (long > limits.max_aspect * short).any()
    whole = limits.max_area is not None and (sides.prod(axis=1) > limits.max_area * record.width * record.height).any()
    return bool(lines or whole)


def has_duplicates(record: Record, iou: float) -> bool:
    """Whether two boxes with the same label overlap by `iou` or more."""
    labels = np.asarray(record.labels, dtype=object)
    same = np.triu(labels[:, None] == labels[None, :], k=1) if len(labels) else np.zeros((0, 0), bool)  # (N, N)
    return bool((iou_matrix(record.boxes_xyxy_px, record.boxes_xyxy_px)[same] >= iou).any())


def is_hard(record: Record) -> bool:
    """More than HARD_ABOVE different boxes."""
    return len(record.labels) > HARD_ABOVE and len(np.unique(record.boxes_xyxy_px, axis=0)) > HARD_ABOVE


def describe_shares(box_counts: Iterable[int]) -> dict[str, float]:
    """{"hard", "negatives"}: shares of examples with more than HARD_ABOVE boxes and with none, 0 to 1; 0 of no examples."""
    counts = np.asarray(list(box_counts))
    if not counts.size:
        return {"hard": 0.0, "negatives": 0.0}
    return {"hard": float((counts > HARD_ABOVE).mean()), "negatives": float((counts == 0).mean())}
