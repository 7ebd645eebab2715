"""Credit assignment: which tokens of a completion deserve which advantage.

`completion` (the paper, GRPO): every token of completion i gets  A_i = (r_i - mean(r)) / (std(r) + 1e-4)  over its group, so a
good box is punished for its neighbours.

`object` (ours): completions of a group describe the same objects, so each token can be compared for what *it* decides:

    which objects, how many   brackets, commas, and the first number of a box, which chooses the object that comes next
        A_i = (n_i - mean(n)) / (std(n) + 0.1),  n = valid / objects + valid / predictions + dual format     counts, no IoUs
        and for the first number of a valid box, how seldom the group finds its object, with p the share of completions that do:
        + (1 - p) / (sqrt(p (1 - p)) + 0.1)
    where   the numbers of a box, each edge with the same edge of the same object in the other completions
        A = (mean over its object - miss) / (std over its object + 0.02),  miss = distance / side of the object
    what    the label
        A = ([label right] - mean over its object) / (std over its object + 0.1)
    surplus boxes: -1 for numbers and label, since they belong to no object

"Valid" is the paper's, at the criteria of the stage (IoU >= xi0). With `edges=False` the four coordinates of a box share one
advantage, that of its IoU; with `choices=False` all but numbers and labels keep the completion's advantage.

An object needs three matched boxes with IoU >= 0.1 for edges and labels to be compared. Numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vr1kit.completions import Span
from vr1kit.rewards import Score

MIN_BOXES = 3  # ours: fewer cannot be compared
MIN_IOU = 0.1  # ours: below, a match is an accident
IOU_FLOOR, LABEL_FLOOR = 0.02, 0.1  # ours: deviations smaller than these do not count as large differences


@dataclass(frozen=True)
class ObjectCredit:
    """Which parts of object credit are on (for ablations)."""

    choices: bool = True  # which objects are named, and when to stop: compared by counts, and by how seldom an object is found
    boxes: bool = True
    edges: bool = True  # compare each edge on its own; else the box by its IoU
    labels: bool = True
    surplus: float = -1.0  # advantage of surplus boxes; 0 leaves them the completion's


class _Found(NamedTuple):
    """A box that was matched to an object."""

    completion: int
    item: int  # place in the completion
    iou: float
    valid: bool
    same_label: bool


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
    choices = (
        _compare_choices(scores, len(truth_labels)) if credit.choices and len(truth_labels) else np.asarray(advantages, float)
    )
    out = [np.full(len(ends), a) for a, ends in zip(choices, token_ends, strict=True)]
    objects: list[list[_Found]] = [[] for _ in truth_labels]
    for i, score in enumerate(scores):
        matched = set()
        columns = (score.p_idx.tolist(), score.g_idx.tolist(), score.ious.tolist(), score.valid.tolist())
        for p, g, iou, valid in zip(*columns, strict=True):
            if iou >= MIN_IOU:
                matched.add(p)
                objects[g].append(_Found(i, p, iou, valid, score.parsed.labels[p] == truth_labels[g]))
        for p, item in enumerate(score.parsed.spans):
            if credit.surplus and p not in matched:
                for span in (*item.numbers, _word(item.label)):
                    out[i][_tokens(token_ends[i], span)] = credit.surplus
    for g, found in enumerate(objects):
        if len(found) >= MIN_BOXES:
            if credit.boxes:
                predicted = np.array([scores[f.completion].parsed.boxes_xyxy[f.item] for f in found])  # (boxes, 4)
                quality = (
                    _measure_edges(predicted, truth_boxes_xyxy[g]) if credit.edges else np.tile([[f.iou] for f in found], 4)
                )  # (boxes, 4)
                for f, edges in zip(found, _compare(quality, IOU_FLOOR), strict=True):
                    first_of_box = choices[f.completion] if credit.choices else 0.0
                    for span, a in zip(
                        scores[f.completion].parsed.spans[f.item].numbers, edges + [first_of_box, 0, 0, 0], strict=True
                    ):
                        out[f.completion][_tokens(token_ends[f.completion], span)] = a
            if credit.labels:
                for f, a in zip(found, _compare(np.array([float(f.same_label) for f in found]), LABEL_FLOOR), strict=True):
                    word = _word(scores[f.completion].parsed.spans[f.item].label)
                    out[f.completion][_tokens(token_ends[f.completion], word)] = a
        if credit.choices:
            p = sum(f.valid for f in found) / len(scores)
            seldom = (1 - p) / (np.sqrt(p * (1 - p)) + LABEL_FLOOR)
            for f in found:
                first = _tokens(token_ends[f.completion], scores[f.completion].parsed.spans[f.item].numbers[0])
                out[f.completion][first] += seldom * f.valid
    return out


def _compare_choices(scores: Sequence[Score], objects: int) -> np.ndarray:
    """How each completion chose, against its group, (G,)."""
    valid = np.array([score.valid.sum() for score in scores], float)
    predicted = np.array([len(score.parsed.spans) for score in scores])
    formats = np.array([score.dual_format for score in scores])
    return _compare(valid / objects + valid / np.maximum(predicted, 1) + formats, LABEL_FLOOR)


def _measure_edges(predicted_xyxy: np.ndarray, truth_xyxy: np.ndarray) -> np.ndarray:
    """Minus the distance of each edge, as a share of the object's side: (boxes, 4)."""
    side = np.tile(truth_xyxy[2:] - truth_xyxy[:2], 2)
    return -np.abs(predicted_xyxy - truth_xyxy) / np.maximum(side, 1e-9)


def _compare(values: np.ndarray, floor: float) -> np.ndarray:
    """(boxes, ...) -> how far above the mean of the others' and its own, in deviations."""
    return (values - values.mean(axis=0)) / (values.std(axis=0) + floor)


def _word(label: Span) -> Span:
    """A label without its quotes: the closing one may share a token with the decision to stop or go on."""
    return label[0] + 1, label[1] - 1


def _tokens(ends: np.ndarray, span: Span) -> slice:
    """Tokens that write any character of the span; structure merged into a token counts with it."""
    first = int(np.searchsorted(ends, span[0], side="right"))
    return slice(first, int(np.searchsorted(ends, span[1], side="left")) + 1)
