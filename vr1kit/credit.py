"""Credit assignment: which tokens of a completion deserve which advantage.

`completion` (the paper, GRPO): every token of completion i gets  A_i = (r_i - mean(r)) / (std(r) + 1e-4)  over its group, so a
good box is punished for its neighbours.

`object` (ours): completions of a group describe the same objects. For each ground-truth object, collect the boxes matched to it
across the group and compare them *with each other*, edge by edge, and by their labels:

    A(edge e of box b)      = (mean over its object - miss_eb) / (std over its object + 0.02)
    A(label of box b)       = ([label right] - mean over its object) / (std over its object + 0.1)
    A(surplus box)          = -1 for its numbers and label: it belongs to no object

miss_eb is the distance of a coordinate from the object's, as a share of the object's side. With `edges=False` the four
coordinates of a box share one advantage, that of its IoU; a right edge is then blamed for a wrong one.

All other tokens (stop or go on, punctuation) keep the completion's advantage. An object needs three matched boxes with
IoU >= 0.1 to be compared; other matched boxes keep the completion's advantage. Numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vr1kit.completions import Span
from vr1kit.rewards import Score

MIN_BOXES = 3  # ours: fewer cannot be compared
MIN_IOU = 0.1  # ours: below, a match is an accident
IOU_FLOOR, LABEL_FLOOR = 0.02, 0.1  # ours: deviations smaller than these do not count as large differences


@dataclass(frozen=True)
class ObjectCredit:
    """Which parts of object credit are on (for ablations)."""

    boxes: bool = True
    edges: bool = True  # compare each edge on its own; else the box by its IoU
    labels: bool = True
    surplus: float = -1.0  # advantage of surplus boxes; 0 leaves them the completion's


def assign_object_credit(
    scores: Sequence[Score],
    truth_labels: Sequence[str],
    advantages: np.ndarray,
    token_ends: Sequence[np.ndarray],
    credit: ObjectCredit = ObjectCredit(),
    truth_boxes_xyxy: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Advantage of each token of each completion of one group.

    scores: G, of one picture; advantages (G,) per completion; token_ends: per completion the character offset at which each of
    its T_i tokens ends; truth_boxes_xyxy (objects, 4), for `edges`, in the answers' space. Returns G arrays (T_i,).
    """
    if credit.edges and truth_boxes_xyxy is None:
        raise ValueError("truth_boxes_xyxy must be given where credit.edges is on")
    out = [np.full(len(ends), float(a)) for a, ends in zip(advantages, token_ends, strict=True)]
    found: dict[int, list[tuple[int, int, float, bool]]] = {g: [] for g in range(len(truth_labels))}
    for i, score in enumerate(scores):
        spans = score.parsed.spans
        matched = {}
        for p, g, iou in zip(score.p_idx.tolist(), score.g_idx.tolist(), score.ious.tolist(), strict=True):
            if iou >= MIN_IOU:
                matched[p] = g
                found[g].append((i, p, iou, score.parsed.labels[p] == truth_labels[g]))
        if credit.surplus:
            for p, item in enumerate(spans):
                if p not in matched:
                    for span in (*item.numbers, _word(item.label)):
                        out[i][_tokens(token_ends[i], span)] = credit.surplus
    for g, boxes in found.items():
        if len(boxes) < MIN_BOXES:
            continue
        if credit.edges:
            predicted = np.array([scores[i].parsed.boxes_xyxy[p] for i, p, _, _ in boxes])  # (boxes, 4)
            side = np.tile(truth_boxes_xyxy[g, 2:] - truth_boxes_xyxy[g, :2], 2)
            quality = -np.abs(predicted - truth_boxes_xyxy[g]) / np.maximum(side, 1e-9)  # (boxes, 4)
        else:
            quality = np.repeat([[iou] for _, _, iou, _ in boxes], 4, axis=1)  # (boxes, 4)
        right = np.array([float(ok) for *_, ok in boxes])
        box_advantage = (quality - quality.mean(axis=0)) / (quality.std(axis=0) + IOU_FLOOR)  # (boxes, 4)
        label_advantage = (right - right.mean()) / (right.std() + LABEL_FLOOR)
        for (i, p, _, _), a_box, a_label in zip(boxes, box_advantage, label_advantage, strict=True):
            item = scores[i].parsed.spans[p]
            if credit.boxes:
                for span, a_edge in zip(item.numbers, a_box, strict=True):
                    out[i][_tokens(token_ends[i], span)] = a_edge
            if credit.labels:
                out[i][_tokens(token_ends[i], _word(item.label))] = a_label
    return out


def _word(label: Span) -> Span:
    """A label without its quotes: the closing one may share a token with the decision to stop or go on."""
    return label[0] + 1, label[1] - 1


def _tokens(ends: np.ndarray, span: Span) -> slice:
    """Tokens that write any character of the span; structure merged into a token counts with it."""
    first = int(np.searchsorted(ends, span[0], side="right"))
    return slice(first, int(np.searchsorted(ends, span[1], side="left")) + 1)
