"""Which records are worth training on: pure functions over `records.Record`, every refusal with a named reason.

`find_reasons` says all that speaks against a record, in the order of REASONS; `curate` counts the first. By default only
the number of instances and tiny boxes are looked at; the others are for real sets, and each is switched on by giving it a
limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pyarrow import RecordBatch

from vr1kit.boxes import iou_matrix
from vr1kit.formats.columns import to_batch, unpack_boxes, unpack_labels
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
    found = find_batch_reasons(to_batch([record]), limits, phrases)
    return tuple(reason for reason in REASONS if reason in found and found[reason][0])


def find_batch_reasons(batch: RecordBatch, limits: Limits = Limits(), phrases: bool = False) -> dict[str, np.ndarray]:
    """`find_reasons` for the N records of a batch (`columns.SCHEMA`): reason -> whether it holds of each (N,), in order of REASONS."""
    boxes, offsets = unpack_boxes(batch)
    total = np.diff(offsets)  # (N,)
    owner = np.repeat(np.arange(len(total)), total)  # (M,)
    n = total
    if phrases:
        unique = np.unique(np.column_stack([owner, boxes]), axis=0)
        owner, boxes = unique[:, 0].astype(int), unique[:, 1:]
        n = np.bincount(owner, minlength=len(total))
    sides, size = boxes[:, 2:] - boxes[:, :2], _sizes(batch)[owner]  # (M, 2)
    found = {"too few": n < limits.min_instances, "too many": n > limits.max_instances}
    found["tiny"] = _any_of(owner, (sides < limits.min_side_px).any(axis=1), len(n))
    if limits.max_ignored is not None:
        found["crowd"] = np.asarray(batch.column("ignored")) > limits.max_ignored
    if limits.max_truncated is not None:
        found["truncated"] = (total > 0) & (_count_truncated(batch) > limits.max_truncated * total)
    degenerate = np.zeros(len(boxes), bool)
    if limits.max_aspect is not None:
        degenerate |= sides.max(axis=1, initial=0.0) > limits.max_aspect * sides.min(axis=1, initial=np.inf)
    if limits.max_area is not None:
        degenerate |= sides.prod(axis=1) > limits.max_area * size.prod(axis=1)
    found["degenerate"] = _any_of(owner, degenerate, len(n))
    if limits.duplicate_iou is not None and not phrases:
        found["duplicate boxes"] = _find_duplicates(batch, limits.duplicate_iou)
    return found


def judge(batch: RecordBatch, limits: Limits = Limits(), phrases: bool = False, keep_empty: bool = False) -> list[str]:
    """The first reason against each record, "" where there is none. `keep_empty` lets pictures pass that have nothing in them, no crowd
    either: the negatives of detection.
    """
    found = find_batch_reasons(batch, limits, phrases)
    if keep_empty:
        empty = np.diff(unpack_boxes(batch)[1]) == 0
        found["too few"] = found["too few"] & ~(empty & (np.asarray(batch.column("ignored")) == 0))
    masks = np.vstack(list(found.values()))  # (reasons, N)
    names = np.asarray([*found, ""], dtype=object)
    return names[np.where(masks.any(axis=0), masks.argmax(axis=0), len(found))].tolist()


def _any_of(owner: np.ndarray, which: np.ndarray, n: int) -> np.ndarray:
    """Whether any box of each of n records is one `which` holds of."""
    return np.bincount(owner[which], minlength=n) > 0


def _sizes(batch: RecordBatch) -> np.ndarray:
    return np.column_stack([np.asarray(batch.column("width")), np.asarray(batch.column("height"))])  # (N, 2)


def _count_truncated(batch: RecordBatch) -> np.ndarray:
    """`count_truncated` of each record, (N,)."""
    boxes, offsets = unpack_boxes(batch)
    owner = np.repeat(np.arange(batch.num_rows), np.diff(offsets))
    touching = (boxes[:, :2] <= EDGE_PX).any(axis=1) | (boxes[:, 2:] >= _sizes(batch)[owner] - EDGE_PX).any(axis=1)  # (M,)
    marked = np.asarray(batch.column("truncated"))
    return np.where(marked > 0, marked, np.bincount(owner[touching], minlength=batch.num_rows))


def count_truncated(record: Record) -> int:
    """Objects cut off by the picture's edge: as marked where the format marks them, else those whose box touches the edge."""
    return int(_count_truncated(to_batch([record]))[0])


def has_duplicates(record: Record, iou: float) -> bool:
    """Whether two boxes with the same label overlap by `iou` or more."""
    return bool(_find_duplicates(to_batch([record]), iou)[0])


def _find_duplicates(batch: RecordBatch, iou: float) -> np.ndarray:
    boxes, offsets = unpack_boxes(batch)
    codes, _ = unpack_labels(batch)
    found = np.zeros(batch.num_rows, bool)
    for k in np.flatnonzero(np.diff(offsets) > 1):
        own = slice(offsets[k], offsets[k + 1])
        same = np.triu(codes[own, None] == codes[None, own], k=1)  # (n, n)
        found[k] = (iou_matrix(boxes[own], boxes[own])[same] >= iou).any()
    return found


def is_hard(record: Record) -> bool:
    """More than HARD_ABOVE different boxes."""
    return bool(find_hard(to_batch([record]))[0])


def find_hard(batch: RecordBatch) -> np.ndarray:
    """`is_hard` of each record, (N,)."""
    boxes, offsets = unpack_boxes(batch)
    counts = np.diff(offsets)
    many = np.flatnonzero(counts > HARD_ABOVE)
    hard = np.zeros(len(counts), bool)
    hard[many] = [len(np.unique(boxes[offsets[k] : offsets[k + 1]], axis=0)) > HARD_ABOVE for k in many]
    return hard


def describe_shares(box_counts: Iterable[int]) -> dict[str, float]:
    """{"hard", "negatives"}: shares of examples with more than HARD_ABOVE boxes and with none, 0 to 1; 0 of no examples."""
    counts = np.asarray(list(box_counts))
    if not counts.size:
        return {"hard": 0.0, "negatives": 0.0}
    return {"hard": float((counts > HARD_ABOVE).mean()), "negatives": float((counts == 0).mean())}
