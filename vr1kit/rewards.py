"""Rewards: how good an answer is, by what it says about the picture. Pure, numpy only, and they show their parts.

    total     = dual_format + recall + precision, each in [0, 1]                    paper Sec. 3.2, weights 1
    recall    = f(V / G)          V: matched predictions with IoU >= xi0, G: ground-truth boxes     Eq. 5, 8
    precision = (1 / P) sum over all P predictions of f(IoU if valid else 0)                        Eq. 6, 8
    f(x)      = 1 if x >= xi2;  0 if x < xi1;  else x                                               Eq. 8

Predictions are the detections that `completions` could recover; each is matched with at most one ground-truth box
so that the summed IoU is largest (`matching`); an unmatched one scores 0. `dual_format` is 1 for a strictly
well-formed answer, else 0 (`completions`). The answer's numbers, the ground truth and `size` are all in one space
(`coordinates.space_size` names its size).

What the paper leaves open, and what is done here under the variant `paper`:
1. Eq. 6 divides by "the number of predicted instances", its text by that of the valid ones. Here: all predicted.
2. Nothing to find: an answer without detections earns recall and precision 1, one with any earns 0 for both.
   Something to find but nothing predicted: both 0.
3. A prediction that is not valid scores 0 as such; it is not passed through f, which matters for xi2 = 0 alone.
4. An object that is not a well-formed detection is no predicted instance. It lowers no precision, but it costs the
   format, and where there is something to find that is always more: leaving a prediction out of the mean gains less
   than 1. Where there is nothing to find, a malformed box (total 2) beats a well-formed one (1), and `[]` both (3).
5. The label neither enters the matching nor the score. The paper's Table 3 tried it in the matching; that is the
   switch `Variant.label_weight`.

Where the released code differs is a variant of its own, not a correction of this one: other readings are other
`Variant`s, and a score says which one made it only if the caller keeps its name beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vr1kit.boxes import Boxes, as_boxes, iou_matrix
from vr1kit.completions import MAX_SIDE, ParsedCompletion, parse_completion
from vr1kit.matching import Indices, match_boxes


@dataclass(frozen=True)
class Criteria:
    """What counts: an IoU of xi0 makes a prediction valid, f is 0 below xi1 and 1 from xi2 on."""

    xi0: float = 0.5  # defaults: paper Sec. 3.3, beginner stage
    xi1: float = 0.5
    xi2: float = 0.75

    def __post_init__(self) -> None:
        for name, value in (("xi0", self.xi0), ("xi1", self.xi1), ("xi2", self.xi2)):
            if not (isinstance(value, Real) and 0 <= value <= 1):
                raise ValueError(f"{name} must be a number in [0, 1], got {value!r}")
        if self.xi1 > self.xi2:
            raise ValueError(f"xi1 must be at most xi2 {self.xi2!r}, got {self.xi1!r}")


BEGINNER = Criteria(xi0=0.5, xi1=0.5, xi2=0.75)  # paper Sec. 3.3
ADVANCED = Criteria(xi0=0.75, xi1=0.75, xi2=0.9)  # paper Sec. 3.3


@dataclass(frozen=True)
class Stage:
    """Criteria that hold while the progress of training, from 0 to 1, is below `until`."""

    name: str
    until: float
    criteria: Criteria


@dataclass(frozen=True)
class Schedule:
    """Stages in order. The last ends at 1.0 and holds there too."""

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        ends = [stage.until for stage in self.stages]
        if not ends or ends[-1] != 1.0:
            raise ValueError(f"stages must end at until = 1.0, got {ends}")
        if not all(before < after for before, after in zip([0.0, *ends], ends, strict=False)):
            raise ValueError(f"stages must have increasing until above 0, got {ends}")

    def stage_at(self, progress: float) -> Stage:
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must be in [0, 1], got {progress!r}")
        return next((stage for stage in self.stages if progress < stage.until), self.stages[-1])

    def criteria_at(self, progress: float) -> Criteria:
        return self.stage_at(progress).criteria


def two_stage(step: float = 0.5) -> Schedule:
    """The paper's progressive schedule, switching at the share `step` of training: its STEP.

    Best for Griffon-G: 1/2 (Table 5); for Qwen2.5-VL: 1, which never switches (Table 10). 0 is advanced only.
    """
    if not 0 <= step <= 1:
        raise ValueError(f"step must be in [0, 1], got {step!r}")
    stages = (Stage("beginner", float(step), BEGINNER), Stage("advanced", 1.0, ADVANCED))
    if step == 0:
        return Schedule(stages[1:])
    return Schedule(stages[: 1 if step == 1 else 2])


@dataclass(frozen=True)
class Variant:
    """A reading of the method, as named switches. The defaults are the paper's."""

    name: str
    label_weight: float = 0.0  # worth of an equal label in the matching: 0 paper Sec. 3.2, 1 "box and label", Table 3
    surplus_counts: bool = True  # precision is the mean over all predictions, Eq. 6; else over the matched ones


PAPER = Variant("paper")
VARIANTS = {variant.name: variant for variant in (PAPER,)}


@dataclass(frozen=True, eq=False)
class Score:
    """The three rewards of one answer, and everything they were made from."""

    dual_format: float
    recall: float
    precision: float
    parsed: ParsedCompletion
    p_idx: Indices  # (K,) matched predictions, K = min(P, G), ascending
    g_idx: Indices  # (K,) and the ground-truth box of each
    ious: NDArray[np.float64]  # (K,)
    valid: NDArray[np.bool_]  # (K,) IoU >= xi0
    instance_scores: NDArray[np.float64]  # (P,) what each prediction adds to the precision's sum

    @property
    def total(self) -> float:
        return self.dual_format + self.recall + self.precision


def differentiate(values: NDArray[np.float64], criteria: Criteria) -> NDArray[np.float64]:
    """f of equation 8, elementwise."""
    return np.where(values >= criteria.xi2, 1.0, np.where(values < criteria.xi1, 0.0, values))


def score_completion(
    text: str,
    boxes_xyxy: ArrayLike,
    labels: Sequence[str],
    size: tuple[float, float],
    criteria: Criteria = BEGINNER,
    variant: str | Variant = "paper",
    *,
    differentiation: bool = True,
) -> Score:
    """Score one answer against ground truth `boxes_xyxy` (G, 4) and its G `labels`, in a space of `size`."""
    return score_group([text], boxes_xyxy, labels, size, criteria, variant, differentiation=differentiation)[0]


def score_group(
    texts: Sequence[str],
    boxes_xyxy: ArrayLike,
    labels: Sequence[str],
    size: tuple[float, float],
    criteria: Criteria = BEGINNER,
    variant: str | Variant = "paper",
    *,
    differentiation: bool = True,
) -> list[Score]:
    """Score several answers about one picture, as `score_completion` would each, but faster."""
    parsed = [parse_completion(text, size) for text in texts]
    return score_parsed(parsed, boxes_xyxy, labels, criteria, variant, differentiation=differentiation)


def score_parsed(
    parsed: Sequence[ParsedCompletion],
    boxes_xyxy: ArrayLike,
    labels: Sequence[str],
    criteria: Criteria = BEGINNER,
    variant: str | Variant = "paper",
    *,
    differentiation: bool = True,
) -> list[Score]:
    """Score answers about one picture that are parsed already, for instance once more under other criteria.

    `differentiation=False` leaves out f: recall is V / G and a valid prediction scores its IoU.
    """
    variant = _find_variant(variant)
    truth = _check_truth(boxes_xyxy, labels)  # (G, 4)
    if not parsed:
        return []
    if not differentiation:
        criteria = Criteria(criteria.xi0, 0.0, 1.0)  # f with these is the identity on [0, 1]

    # One IoU matrix for all answers: at 20 boxes each, numpy's calls cost more than its arithmetic.
    counts = [len(answer.boxes_xyxy) for answer in parsed]
    iou = iou_matrix(np.concatenate([answer.boxes_xyxy for answer in parsed]), truth)  # (all P, G)
    first_p = list(accumulate(counts, initial=0))
    pairs = []
    for answer, start, stop in zip(parsed, first_p, first_p[1:], strict=False):
        same_label = _same_label(answer.labels, labels) if variant.label_weight else None  # (P, G)
        pairs.append(match_boxes(iou[start:stop], same_label, variant.label_weight))

    first_k = list(accumulate((len(p_idx) for p_idx, _ in pairs), initial=0))
    rows = np.concatenate([p_idx + start for (p_idx, _), start in zip(pairs, first_p, strict=False)])  # (all K,)
    matched = iou[rows, np.concatenate([g_idx for _, g_idx in pairs])]  # (all K,)
    valid = matched >= criteria.xi0  # (all K,)
    scores = np.zeros(first_p[-1])  # (all P,)
    scores[rows] = np.where(valid, differentiate(matched, criteria), 0.0)

    results = []
    for index, (answer, (p_idx, g_idx)) in enumerate(zip(parsed, pairs, strict=True)):
        of_k = slice(first_k[index], first_k[index + 1])
        of_p = slice(first_p[index], first_p[index + 1])
        recall, precision = _recall_and_precision(valid[of_k], scores[of_p], len(truth), criteria, variant)
        results.append(
            Score(answer.dual_format, recall, precision, answer, p_idx, g_idx, matched[of_k], valid[of_k], scores[of_p])
        )
    return results


def _recall_and_precision(
    valid: NDArray[np.bool_], scores: NDArray[np.float64], count_g: int, criteria: Criteria, variant: Variant
) -> tuple[float, float]:
    if len(scores) == 0 or count_g == 0:
        both_empty = float(len(scores) == count_g)
        return both_empty, both_empty
    recall = float(np.count_nonzero(valid)) / count_g
    recall = 1.0 if recall >= criteria.xi2 else 0.0 if recall < criteria.xi1 else recall
    return recall, float(scores.sum()) / (len(scores) if variant.surplus_counts else len(valid))


def _same_label(p_labels: Sequence[str], g_labels: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([[p == g for g in g_labels] for p in p_labels], dtype=bool).reshape(len(p_labels), len(g_labels))


def _find_variant(variant: str | Variant) -> Variant:
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    return VARIANTS[variant]


def _check_truth(boxes_xyxy: ArrayLike, labels: Sequence[str]) -> Boxes:
    truth = as_boxes(boxes_xyxy, "boxes_xyxy")  # (G, 4)
    if len(labels) != len(truth):
        raise ValueError(f"labels must be as many as boxes_xyxy, {len(truth)}, got {len(labels)}: {labels!r}")
    if not (np.abs(truth) <= MAX_SIDE).all():
        raise ValueError(f"boxes_xyxy must be finite and at most {MAX_SIDE:g}, got {truth!r}")
    if (truth[:, 2:] < truth[:, :2]).any():
        raise ValueError(f"boxes_xyxy must have x1 <= x2 and y1 <= y2 (are they xywh?), got {truth!r}")
    return truth
