"""Baselines: the detection rewards of five related systems, and plain AP, written anew from their published formulas.

Every reward takes (texts, boxes_xyxy, labels, size) as `rewards.score_group` does: answers about one picture, its ground truth
(G, 4) with G labels, and the (width, height) of the space all numbers are in. It returns one float per answer. P predictions are
the detections that `completions` recovers, so all rewards read the same answers; an item that is no detection does not exist.

    name                 source                                     range    label  nothing to find and `[]`
    vlm_r1_weighted_sum  VLM-R1, reward method "weighted_sum"       0 to 1   yes    1
    vlm_r1_od_length     VLM-R1, reward method "odLength"           0 to 1   yes    1
    visual_rft_iou       Visual-RFT, detection (arXiv 2503.01785)   0 to 2   no     0
    vision_reasoner      VisionReasoner, accuracy (2505.12081)      0 to 3   no     0
    v_triune             V-Triune, detection (2505.18129)           0 to 1   yes    0
    image_ap             COCO's AP of this one picture; ours        0 to 1   yes    1

What holds for all of them:
1. Only what is said about the boxes is scored. The systems' rewards for <think> and <answer> tags, lengths and repetition are left
   out. None of these rewards sees a badly written answer but through the detections that are lost by it.
2. "label: no" is how the formula stands: these systems name one thing to find per question, so that a label tells nothing. Under a
   question about many categories, as ours, a wrong label then costs nothing.
3. The last column is the published behaviour, kept though 0 teaches a model to name something wherever nothing is.
4. Not reproduced, since they are slips of the code, not the formula: overlaps that count pixels inclusively (VLM-R1 in part,
   VisionReasoner throughout; here `boxes.iou_matrix`); Visual-RFT's reward of 1 for an empty answer that is part of the solution's
   text; the shadowed loop variables of V-Triune's other matching strategy, whose weight is 0 in its own data.
5. Not reproduced either: Visual-RFT and V-Triune drop exact repetitions of a box while reading an answer. Here they are predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vr1kit.boxes import Boxes, iou_matrix
from vr1kit.completions import parse_completion
from vr1kit.detections import ParsedCompletion
from vr1kit.matching import Indices, match_boxes
from vr1kit.rewards import _check_truth

AP_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO
AP_RECALLS = np.linspace(0.0, 1.0, 101)  # COCO
AP_MOST = 100  # COCO: detections per picture and class
VISION_REASONER_MOST = 120  # published: objects at most, the rest is cut off


def vlm_r1_weighted_sum(
    texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: tuple[float, float]
) -> list[float]:
    """VLM-R1: 0.7 sum of IoU / G + 0.3 (1 - (miss rate + false-alarm rate) / 2), in [0, 1].

    Pairs are taken greedily, the largest IoU first, down to 0.5. A pair with two labels has IoU 0 in the sum, but is neither a miss
    nor a false alarm. (The IoU's mean is over all objects, not over the pairs.) Nothing to find: 1 for no box, else 0.
    """

    def score(answer: ParsedCompletion, truth: Boxes) -> float:
        count_p, count_g = len(answer.labels), len(truth)
        if count_p == 0 or count_g == 0:
            return float(count_p == count_g)
        iou = iou_matrix(answer.boxes_xyxy, truth)  # (P, G)
        p_idx, g_idx = match_greedily(iou, iou >= 0.5, first="best")
        position = (iou * _same_label(answer.labels, labels))[p_idx, g_idx].sum() / count_g
        return float(0.7 * position + 0.3 * _completeness(len(p_idx), count_p, count_g))

    return _score_each(score, texts, boxes_xyxy, labels, size)


def vlm_r1_od_length(texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: tuple[float, float]) -> list[float]:
    """VLM-R1: AP of the picture, times G / P where more is predicted than there is. In [0, 1]; see `image_ap`."""

    def score(answer: ParsedCompletion, truth: Boxes) -> float:
        return _average_precision(answer, truth, labels) * len(truth) / max(len(truth), len(answer.labels), 1)

    # Both empty: AP is 1, and so is the reward; the formula's 0 / 0 never arises.
    values = _score_each(score, texts, boxes_xyxy, labels, size)
    return values if len(labels) else image_ap(texts, boxes_xyxy, labels, size)


def visual_rft_iou(texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: tuple[float, float]) -> list[float]:
    """Visual-RFT: IoU reward + confidence reward, each in [0, 1].

    Predictions in order of confidence each take the free object of largest IoU, if above 0.5: a hit. IoU reward: the hits' sum /
    max(P, G). Confidence reward: mean over predictions of the confidence if hit, else of 1 - confidence. Our answers have no
    confidences: all are 1, so the order is the answer's and the second part is hits / P. Nothing predicted: 0, also where right.
    """

    def score(answer: ParsedCompletion, truth: Boxes) -> float:
        count_p, count_g = len(answer.labels), len(truth)
        if count_p == 0:
            return 0.0
        iou = iou_matrix(answer.boxes_xyxy, truth)  # (P, G)
        p_idx, g_idx = match_greedily(iou, iou > 0.5, first="prediction")
        return float(iou[p_idx, g_idx].sum() / max(count_p, count_g) + len(p_idx) / count_p)

    return _score_each(score, texts, boxes_xyxy, labels, size)


def vision_reasoner(
    texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: tuple[float, float], *, pixel: float = 1.0
) -> list[float]:
    """VisionReasoner: marks of the best assignment / max(P, G), in [0, 3].

    A pair has up to three marks: IoU > 0.5; mean distance of the four coordinates < 10 px; distance of the points < 30 px. Our
    answers have no points: a box's centre stands for it. At most 120 boxes a side. Nothing on either side: 0.
    `pixel`: one of the formula's pixels in units of `size`. They are pixels of a picture of 840 x 840 there, so on a small input
    the plain 10 and 30 are a wide gate; 96 / 840 is the same share of a picture that is 96 wide.
    """
    if not pixel > 0:
        raise ValueError(f"pixel must be above 0, got {pixel!r}")

    def score(answer: ParsedCompletion, truth: Boxes) -> float:
        p, g = answer.boxes_xyxy[:VISION_REASONER_MOST], truth[:VISION_REASONER_MOST]
        if len(p) == 0 or len(g) == 0:
            return 0.0
        apart = p[:, None] - g[None]  # (P, G, 4)
        points = np.linalg.norm(apart[..., :2] + apart[..., 2:], axis=2) / 2  # (P, G)
        near = np.abs(apart).mean(axis=2) < 10 * pixel  # (P, G)
        marks = (iou_matrix(p, g) > 0.5) + near.astype(float) + (points < 30 * pixel)  # (P, G)
        return float(marks[match_boxes(marks)].sum() / max(len(p), len(g)))

    return _score_each(score, texts, boxes_xyxy, labels, size)


def v_triune(
    texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: tuple[float, float], *, progress: float = 0.0
) -> list[float]:
    """V-Triune: 0.6 ^ |P - G| (0.7 sum of IoU / G + 0.3 (1 - (miss rate + false-alarm rate) / 2)), in [0, 1].

    Objects in order each take the free prediction of their own label with the largest IoU, if that reaches the threshold: 0.85 in
    the first tenth of training, 0.95 to a quarter, then 0.99. `progress` is the share of training done. 0.3 and this matching
    ("label first") are the weights of its training data. Nothing on either side: 0.
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must be in [0, 1], got {progress!r}")
    threshold = 0.85 if progress <= 0.1 else 0.95 if progress <= 0.25 else 0.99

    def score(answer: ParsedCompletion, truth: Boxes) -> float:
        count_p, count_g = len(answer.labels), len(truth)
        if count_p == 0 or count_g == 0:
            return 0.0
        iou = iou_matrix(answer.boxes_xyxy, truth)  # (P, G)
        p_idx, g_idx = match_greedily(iou, (iou >= threshold) & _same_label(answer.labels, labels), first="truth")
        inner = 0.7 * iou[p_idx, g_idx].sum() / count_g + 0.3 * _completeness(len(p_idx), count_p, count_g)
        return float(0.6 ** abs(count_p - count_g) * inner)

    return _score_each(score, texts, boxes_xyxy, labels, size)


def image_ap(texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: tuple[float, float]) -> list[float]:
    """COCO's AP of one picture, in [0, 1]: mean over IoU 0.5:0.05:0.95 and over the classes that the ground truth has.

    The order of the answer stands for confidence, as pycocotools ranks equal scores. As in COCO, predictions of a class that the
    picture does not have are never seen. Nothing to find, where COCO has no AP: 1 for no box, else 0, as in VLM-R1's "od_ap".
    """
    return _score_each(lambda answer, truth: _average_precision(answer, truth, labels), texts, boxes_xyxy, labels, size)


def match_greedily(iou: NDArray[np.float64], usable: NDArray[np.bool_], first: str) -> tuple[Indices, Indices]:
    """Indices (K,), (K,) of pairs taken one after the other from the `usable` ones of (P, G), each box once at most.

    `first` says whose turn it is: "best" the pair of largest IoU, "prediction" or "truth" one box after the other, each with the
    free partner of largest IoU. Of equal ones the earlier goes first.
    """
    p, g = np.nonzero(usable)
    turn = {"best": np.zeros_like(p), "prediction": p, "truth": g}[first]
    p_taken: dict[int, int] = {}
    g_taken: set[int] = set()
    for k in np.lexsort((-iou[p, g], turn)).tolist():
        if int(p[k]) not in p_taken and int(g[k]) not in g_taken:
            p_taken[int(p[k])] = int(g[k])
            g_taken.add(int(g[k]))
    return np.array(list(p_taken), dtype=np.intp), np.array(list(p_taken.values()), dtype=np.intp)


def _average_precision(answer: ParsedCompletion, truth: Boxes, labels: Sequence[str]) -> float:
    if len(truth) == 0:
        return float(len(answer.labels) == 0)
    p_labels, g_labels = np.array(answer.labels, dtype=object), np.array(labels, dtype=object)
    by_class = []
    for label in dict.fromkeys(labels):
        found = answer.boxes_xyxy[p_labels == label][:AP_MOST]
        wanted = truth[g_labels == label][::-1]  # of objects with equal IoU, COCO's matching takes the last
        iou = iou_matrix(found, wanted)  # (p, g)
        by_class.append(np.mean([_area_under_curve(iou, threshold) for threshold in AP_THRESHOLDS]))
    return float(np.mean(by_class))


def _area_under_curve(iou: NDArray[np.float64], threshold: float) -> float:
    """Precision at 101 recalls, averaged; at each, the best precision that this or a higher recall has. `iou` is (p, g)."""
    p_idx, _ = match_greedily(iou, iou >= threshold, first="prediction")
    precision = np.arange(1, len(p_idx) + 1) / (p_idx + 1)  # (hits,) after each hit
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)  # (hits + 1,)
    recall = np.arange(1, len(p_idx) + 1) / iou.shape[1]  # (hits,)
    return float(best[np.searchsorted(recall, AP_RECALLS, side="left")].mean())


def _completeness(pairs: int, count_p: int, count_g: int) -> float:
    return 1 - ((count_g - pairs) / count_g + (count_p - pairs) / count_p) / 2


def _same_label(p_labels: Sequence[str], g_labels: Sequence[str]) -> NDArray[np.bool_]:
    """(P, G). Case is left aside, as VLM-R1 and V-Triune do."""
    p, g = (np.array([label.lower() for label in names], dtype=object) for names in (p_labels, g_labels))
    return p[:, None] == g[None]


def _score_each(
    score: Callable[[ParsedCompletion, Boxes], float],
    texts: Sequence[str],
    boxes_xyxy: ArrayLike,
    labels: Sequence[str],
    size: tuple[float, float],
) -> list[float]:
    truth = _check_truth(boxes_xyxy, labels)  # (G, 4)
    return [score(parse_completion(text, size), truth) for text in texts]


BASELINES: dict[str, Callable[..., list[float]]] = {
    "vlm_r1_weighted_sum": vlm_r1_weighted_sum,
    "vlm_r1_od_length": vlm_r1_od_length,
    "visual_rft_iou": visual_rft_iou,
    "vision_reasoner": vision_reasoner,
    "v_triune": v_triune,
    "image_ap": image_ap,
}
