"""Annotators: labels as the world has them. What happens to a method if its teacher is sloppy?

    loose      every edge is off by a normal error of 10 % of its box's side: IoU with the truth about 0.74
    missing    three of ten objects are not annotated
    unsorted   the objects come in no order, as in COCO's files; the boxes are exact

Drawn pictures have perfect labels, which no dataset of photographs has, and supervised fine-tuning lives on them: it repeats what
the labels say, their order included, while a reward only asks how well boxes match. Ours; the sizes of the errors are in the
range of published audits of COCO's labels (boxes) and of federated sets (missing objects), not taken from one of them.
"""

from __future__ import annotations

import numpy as np

from vr1kit.prompts import sort_left_to_right

ANNOTATORS = ("loose", "missing", "unsorted")
EDGE_ERROR = 0.1  # standard deviation, of the box's side
MISSING = 0.3  # share of objects


def annotate(
    boxes_xyxy: np.ndarray, labels: list[str], size: tuple[float, float], annotator: str, rng: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    """The boxes (N, 4) and labels of a picture of this (width, height) as this annotator gives them; at least one is left of any.

    Left to right again, but for `unsorted`. Boxes are whole numbers, at least one wide and high, and inside the picture.
    Raises ValueError for an unknown annotator.
    """
    if annotator not in ANNOTATORS:
        raise ValueError(f"annotator '{annotator}' is not known; there are: {', '.join(ANNOTATORS)}")
    boxes, n = np.asarray(boxes_xyxy, float).reshape(-1, 4), len(labels)
    if annotator == "unsorted":
        order = rng.permutation(n)
        return boxes[order], [labels[i] for i in order]
    if annotator == "missing":
        kept = np.flatnonzero(rng.random(n) >= MISSING)
        kept = kept if len(kept) or not n else rng.integers(0, n, 1)
        return boxes[kept], [labels[i] for i in kept]
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    boxes = np.round(boxes + rng.normal(0, EDGE_ERROR, boxes.shape) * sides)
    limits = np.array(size, float)
    starts = np.clip(boxes[:, :2], 0, limits - 1)
    boxes = np.concatenate([starts, np.clip(np.maximum(boxes[:, 2:], starts + 1), 1, limits)], axis=1)
    order = sort_left_to_right(boxes)
    return boxes[order], [labels[i] for i in order]
