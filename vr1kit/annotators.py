"""Annotators: labels as the world has them. What happens to a method if its teacher is sloppy?

    loose      every edge is off by a normal error of 10 % of its box's side: IoU with the truth about 0.74
    missing    three of ten objects are not annotated
    unsorted   the objects come in no order, as in COCO's files; the boxes are exact
    careless   six of ten objects are not annotated, and every edge is off by 30 %: what makes the weak base of notebook 02

Drawn pictures have perfect labels, which no dataset of photographs has, and supervised fine-tuning lives on them: it repeats what
the labels say, their order included, while a reward only asks how well boxes match. Ours; the sizes of the first two errors are
in the range of published audits of COCO's labels (boxes) and of federated sets (missing objects), not taken from one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vr1kit.prompts import sort_left_to_right


@dataclass(frozen=True)
class Annotator:
    edge_error: float = 0.0  # standard deviation, of the box's side
    missing: float = 0.0  # share of objects
    ordered: bool = True  # from left to right


SLOPPY = {"loose": Annotator(edge_error=0.1), "missing": Annotator(missing=0.3), "unsorted": Annotator(ordered=False)}
CARELESS = "careless"
ANNOTATORS = {**SLOPPY, CARELESS: Annotator(edge_error=0.3, missing=0.6)}


def annotate(
    boxes_xyxy: np.ndarray, labels: list[str], size: tuple[float, float], annotator: str, rng: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    """The boxes (N, 4) and labels of a picture of this (width, height) as this annotator gives them; at least one is left of any.

    Left to right again, but for `unsorted`. Boxes are whole numbers, at least one wide and high, and inside the picture.
    Raises ValueError for an unknown annotator.
    """
    if annotator not in ANNOTATORS:
        raise ValueError(f"annotator '{annotator}' is not known; there are: {', '.join(ANNOTATORS)}")
    a, labels = ANNOTATORS[annotator], list(labels)
    boxes = np.asarray(boxes_xyxy, float).reshape(-1, 4)
    if a.missing and labels:
        kept = np.flatnonzero(rng.random(len(labels)) >= a.missing)
        kept = kept if len(kept) else rng.integers(0, len(labels), 1)
        boxes, labels = boxes[kept], [labels[i] for i in kept]
    if a.edge_error:
        boxes = _loosen(boxes, np.array(size, float), a.edge_error, rng)
    order = sort_left_to_right(boxes) if a.ordered else rng.permutation(len(labels))
    return boxes[order], [labels[i] for i in order]


def _loosen(boxes: np.ndarray, limits: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    """Every edge moved by a normal error of this share of its side; whole numbers, x1 < x2 and y1 < y2, inside the picture."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moved = np.round(boxes + rng.normal(0, error, boxes.shape) * sides)
    starts = np.clip(moved[:, :2], 0, limits - 1)
    return np.concatenate([starts, np.clip(np.maximum(moved[:, 2:], starts + 1), 1, limits)], axis=1)
