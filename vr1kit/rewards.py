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

Other readings are other `Variant`s: one implementation, named switches, never a correction of the paper's.

`released`: the public code (github.com/jefferyZhan/Griffon, Vision-R1, commit 9866875), item by item in `RELEASED`. Two things
    it cannot be held to: where it crashes (nothing to find), recall and precision are 0; what its regular expression recovers from
    a broken answer is what our parser recovers.
`strict` (ours): no loophole open. A prediction is valid only with the right label (case and outer blanks aside); an item that is no
    well-formed detection is a prediction that scores 0; and the matching maximises what is scored (first the number of valid
    pairs, then the sum of their scores), so the reward cannot depend on the order of boxes.

A score says which variant made it only if the caller keeps its name beside it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vr1kit.boxes import Boxes, as_boxes, giou_matrix, iou_matrix
from vr1kit.completions import MAX_SIDE, ParsedCompletion, parse_completion
from vr1kit.criteria import BEGINNER, Criteria
from vr1kit.matching import Indices, match_boxes
from vr1kit.parsing.detections import FENCE_CLOSE, FENCE_OPEN, ITEM_REASONS


@dataclass(frozen=True)
class Variant:
    """A reading of the method, as named switches. The defaults are the paper's."""

    name: str
    overlap: str = "iou"  # iou | giou: what is thresholded and averaged
    matching: str = "overlap"  # overlap: largest sum | released: least pixel L1 - [same label] - GIoU | score: largest reward
    label_weight: float = 0.0  # worth of an equal label in the matching: 0 paper Sec. 3.2, 1 "box and label", Table 3
    label_counts: bool = False  # a prediction with another label than its object's is not valid
    surplus_counts: bool = True  # precision is the mean over all predictions, Eq. 6; else over the matched ones
    malformed_counts: bool = False  # items that are no detections are predictions, too
    full_from_xi2: bool = True  # x >= xi2 earns 1, Eq. 8; else x > xi2 does
    recall_rises: bool = True  # recall's xi1, xi2 follow the stage, Sec. 3.3; else they stay the beginner's
    silence_pays: bool = True  # where there is nothing to find, `[]` earns recall and precision
    lenient_format: bool = False  # anything that is JSON and has no box of the wrong length earns the format reward


PAPER = Variant("paper")
BOX_AND_LABEL = Variant("box_and_label", label_weight=1.0)  # Table 3's other matcher
RELEASED = Variant(
    "released",
    overlap="giou",
    matching="released",
    surplus_counts=False,
    full_from_xi2=False,
    recall_rises=False,
    silence_pays=False,
    lenient_format=True,
)
STRICT = Variant("strict", matching="score", label_counts=True, malformed_counts=True)
VARIANTS = {variant.name: variant for variant in (PAPER, BOX_AND_LABEL, RELEASED, STRICT)}


@dataclass(eq=False)  # frozen, making one would take a twentieth of the time of scoring a short answer
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


def differentiate(values: ArrayLike, criteria: Criteria, full_from_xi2: bool = True) -> NDArray[np.float64]:
    """f of equation 8, elementwise. `full_from_xi2=False` is the released code's boundary: 1 only above xi2."""
    values = np.asarray(values, dtype=np.float64)
    full = values >= criteria.xi2 if full_from_xi2 else values > criteria.xi2
    return np.where(full, 1.0, np.where(values < criteria.xi1, 0.0, values))


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
    parse: Callable[[str, tuple[float, float]], ParsedCompletion] | None = None,
) -> list[Score]:
    """Score several answers about one picture, as `score_completion` would each, but faster. `parse` reads a text (JSON by default)."""
    parsed = [(parse or parse_completion)(text, size) for text in texts]
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
    truth = check_truth(boxes_xyxy, labels)  # (G, 4)
    if not parsed:
        return []
    if not differentiation:
        criteria = Criteria(criteria.xi0, 0.0, 1.0)  # f with these is the identity on [0, 1]
    recall_criteria = criteria if variant.recall_rises or not differentiation else BEGINNER

    # One matrix for all answers: at 20 boxes each, numpy's calls cost more than its arithmetic.
    counts = [len(answer.boxes_xyxy) for answer in parsed]
    predicted = np.concatenate([answer.boxes_xyxy for answer in parsed])  # (all P, 4)
    overlap = (giou_matrix if variant.overlap == "giou" else iou_matrix)(predicted, truth)  # (all P, G)
    same_label = _same_label([label for answer in parsed for label in answer.labels], labels, variant)  # (all P, G)
    benefit = overlap
    if variant.matching == "score":
        benefit = _score_benefit(overlap, same_label, criteria, variant)
    elif variant.matching == "released":
        benefit = _released_benefit(overlap, same_label, predicted, truth)
    first_p = list(accumulate(counts, initial=0))
    answers = [slice(start, stop) for start, stop in pairwise(first_p)]
    if variant.label_weight:
        pairs = [match_boxes(benefit[of_p], same_label[of_p], variant.label_weight) for of_p in answers]
    else:
        pairs = [match_boxes(benefit[of_p]) for of_p in answers]

    first_k = list(accumulate((len(p_idx) for p_idx, _ in pairs), initial=0))
    rows = np.concatenate([p_idx for p_idx, _ in pairs])  # (all K,), in each answer's own count
    answer_of_k = np.repeat(np.arange(len(parsed)), np.diff(first_k))
    rows += np.array(first_p)[answer_of_k]
    columns = np.concatenate([g_idx for _, g_idx in pairs])  # (all K,)
    matched = overlap[rows, columns]
    valid = matched >= criteria.xi0  # (all K,)
    if variant.label_counts:
        valid &= same_label[rows, columns]
    scores = np.zeros(first_p[-1])  # (all P,)
    gains = differentiate(matched, criteria, variant.full_from_xi2) * valid
    scores[rows] = gains
    hits = np.bincount(answer_of_k, valid, len(parsed)).tolist()
    sums = np.bincount(answer_of_k, gains, len(parsed)).tolist()  # an unmatched prediction adds nothing

    results = []
    for index, (answer, of_p, (p_idx, g_idx)) in enumerate(zip(parsed, answers, pairs, strict=True)):
        of_k = slice(first_k[index], first_k[index + 1])
        recall, precision = _recall_and_precision(
            answer, hits[index], sums[index], len(p_idx), len(truth), recall_criteria, variant
        )
        dual_format = _lenient_format(answer.text, len(truth)) if variant.lenient_format else answer.dual_format
        results.append(Score(dual_format, recall, precision, answer, p_idx, g_idx, matched[of_k], valid[of_k], scores[of_p]))
    return results


def _recall_and_precision(
    answer: ParsedCompletion, hits: float, gains: float, count_k: int, count_g: int, criteria: Criteria, variant: Variant
) -> tuple[float, float]:
    """From the number of valid ones among K matched predictions and the sum of their scores."""
    count_p = len(answer.labels)
    if variant.malformed_counts and answer.reasons:
        count_p += sum(reason in ITEM_REASONS for reason in answer.reasons)
    if count_p == 0 or count_g == 0:
        both_empty = float(count_p == count_g and variant.silence_pays)
        return both_empty, both_empty
    recall = hits / count_g
    full = recall > criteria.xi2 or (recall == criteria.xi2 and variant.full_from_xi2)
    recall = 1.0 if full else 0.0 if recall < criteria.xi1 else recall
    return recall, gains / (count_p if variant.surplus_counts else count_k)


def _score_benefit(
    overlap: NDArray[np.float64], same_label: NDArray[np.bool_], criteria: Criteria, variant: Variant
) -> NDArray[np.float64]:
    """What each pair would earn: with G pairs at most, a valid pair is worth G + 1 more than any score."""
    valid = overlap >= criteria.xi0  # (P, G)
    if variant.label_counts:
        valid &= same_label
    earned = differentiate(overlap, criteria, variant.full_from_xi2)  # (P, G)
    earned += overlap.shape[1] + 1
    earned *= valid
    return earned


def _released_benefit(
    giou: NDArray[np.float64], same_label: NDArray[np.bool_], predicted: Boxes, truth: Boxes
) -> NDArray[np.float64]:
    """Minus the released code's cost: L1 of the corners in pixels - [label equal] - GIoU. Not scale-free."""
    distance = sum(np.abs(np.subtract.outer(p, g)) for p, g in zip(predicted.T, truth.T, strict=True))  # (P, G)
    return giou + same_label - distance


def _lenient_format(text: str, count_g: int) -> float:
    """The released code's format reward: JSON, perhaps in one fence, without a box of the wrong length; where there is nothing
    to find, `[]` earns 0."""
    body = text.strip()
    if body.startswith(FENCE_OPEN) and body.endswith(FENCE_CLOSE):
        body = body[len(FENCE_OPEN) : -len(FENCE_CLOSE)]
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        return 0.0
    if answer == [] and count_g == 0:
        return 0.0
    boxes = [item.get("bbox_2d") for item in answer if isinstance(item, dict)] if isinstance(answer, list) else []
    return float(all(box is None or (isinstance(box, list) and len(box) == 4) for box in boxes))


def _same_label(p_labels: Sequence[str], g_labels: Sequence[str], variant: Variant) -> NDArray[np.bool_] | None:
    """[label p == label g], (P, G); None where the variant never asks. `strict` leaves case and outer blanks aside."""
    if not (variant.label_counts or variant.label_weight or variant.matching == "released"):
        return None
    if variant.label_counts:
        p_labels, g_labels = ([label.strip().casefold() for label in names] for names in (p_labels, g_labels))
    number = {label: i for i, label in enumerate(g_labels)}
    p_numbers = np.array([number.get(label, -1) for label in p_labels], dtype=np.intp)
    return p_numbers[:, None] == np.array([number[label] for label in g_labels], dtype=np.intp)  # (P, G)


def _find_variant(variant: str | Variant) -> Variant:
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    return VARIANTS[variant]


def check_truth(boxes_xyxy: ArrayLike, labels: Sequence[str]) -> Boxes:
    truth = as_boxes(boxes_xyxy, "boxes_xyxy")  # (G, 4)
    if len(labels) != len(truth):
        raise ValueError(f"labels must be as many as boxes_xyxy, {len(truth)}, got {len(labels)}: {labels!r}")
    if not (np.abs(truth) <= MAX_SIDE).all():
        raise ValueError(f"boxes_xyxy must be finite and at most {MAX_SIDE:g}, got {truth!r}")
    if (truth[:, 2:] < truth[:, :2]).any():
        raise ValueError(f"boxes_xyxy must have x1 <= x2 and y1 <= y2 (are they xywh?), got {truth!r}")
    return truth
