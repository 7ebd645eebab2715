"""Baselines: the detection rewards of four related systems, and plain AP, written anew from their published formulas.

Every reward takes (texts, boxes_xyxy, labels, size) as `rewards.score_group` does: answers about one picture, its truth
(G, 4) with G labels, and the (width, height) of the space that all numbers are in. It returns one float per answer. The
P predictions are the detections that `completions` recovers; an item that is no detection does not exist here.

    name                 source                                        range    label  nothing to find, and `[]`
    vlm_r1_weighted_sum  VLM-R1 (arXiv 2504.07615), "weighted_sum"     0 to 1   yes    1
    vlm_r1_od_length     VLM-R1, "odLength"                            0 to 1   yes    1
    visual_rft_iou       Visual-RFT (2503.01785), IoU and confidence   0 to 2   no     0
    vision_reasoner      VisionReasoner (2505.12081), accuracy         0 to 3   no     0
    v_triune             V-Triune (2505.18129), Dynamic IoU            0 to 1   yes    0
    image_ap             COCO's AP of this one picture                 0 to 1   yes    1

What holds for all of them:
1. Only what is said about boxes is scored. The systems' rewards for <think> and <answer> tags, length and repetition are
   left out, and a badly written answer costs no more than the detections that are lost by it.
2. "label: no" is the formula: these two systems name one thing to find per question, so a label tells them nothing.
   Under a question about many categories, which is ours, a wrong label then costs nothing.
3. The last column is the published behaviour and is kept, though 0 leaves silence no better than any box.
4. Not reproduced, as slips of the code: overlaps that count pixels inclusively (VLM-R1 in part, VisionReasoner; here
   `boxes.iou_matrix`); Visual-RFT's 1 for an empty answer, which is part of any text; the shadowed loop variables of
   V-Triune's other matching strategy ("IoU first"), which has weight 0 in its own data.
5. Not reproduced as no part of a formula: Visual-RFT and V-Triune drop exact repetitions of a box while they read an
   answer. Here a repeated box is a second prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vr1kit.boxes import Boxes, iou_matrix
from vr1kit.completions import parse_completion
from vr1kit.matching import Indices, match_boxes
from vr1kit.parsing.detections import ParsedCompletion
from vr1kit.precision import find_precision_curve
from vr1kit.rewards import check_truth

Size = tuple[float, float]  # (width, height)

AP_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO
AP_MOST = 100  # COCO: detections per picture and class
MARKS_MOST = 120  # VisionReasoner: boxes a side, the rest is cut off


def vlm_r1_weighted_sum(texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: Size) -> list[float]:
    """VLM-R1: 0.7 * position + 0.3 * completeness, in [0, 1]. One float per text.

    Pairs are taken greedily, the largest IoU first, down to 0.5. Position is the sum of their IoU / G, where a pair with two
    labels adds 0; completeness is 1 - (miss rate + false-alarm rate) / 2, where it is neither. Nothing to find: 1 for no box,
    else 0; nothing predicted though there is something: 0. (Read in the code: the mean of IoU is over objects, not pairs.)
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


def vlm_r1_od_length(texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: Size) -> list[float]:
    """VLM-R1: the picture's AP (see `image_ap`) * min(1, G / P), in [0, 1]. One float per text.

    Nothing to find: 1 for no box, else 0.
    """

    def score(answer: ParsedCompletion, truth: Boxes) -> float:
        surplus = max(1.0, len(answer.labels) / max(1, len(truth)))
        return _average_precision(answer, truth, labels) / surplus

    return _score_each(score, texts, boxes_xyxy, labels, size)


def visual_rft_iou(texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: Size) -> list[float]:
    """Visual-RFT: IoU reward + confidence reward, each in [0, 1]. One float per text.

    Predictions in order of confidence each take the free object of largest IoU, if that is above 0.5: a hit. IoU reward: the
    sum over hits / max(P, G). Confidence reward: the mean over predictions of confidence if hit, else 1 - confidence. Our
    answers have no confidences, so all are 1: the order is the answer's and the second part hits / P. No prediction: 0.
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
    texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: Size, *, pixel: float = 1.0
) -> list[float]:
    """VisionReasoner: marks of the best assignment / max(P, G), in [0, 3]. One float per text.

    A pair has up to three marks: IoU > 0.5; mean distance of the four coordinates < 10 px; distance of the points < 30 px.
    Our answers have no points, so a box's centre stands for its point. At most 120 boxes a side. Nothing on a side: 0.

    `pixel` is one of the formula's pixels in units of `size`. There a picture is 840 x 840; on a small one, 10 and 30 are a
    wide gate. `pixel=96 / 840` makes them the same share of a picture 96 wide.
    """
    if not pixel > 0:
        raise ValueError(f"pixel must be above 0, got {pixel!r}")

    def score(answer: ParsedCompletion, truth: Boxes) -> float:
        p, g = answer.boxes_xyxy[:MARKS_MOST], truth[:MARKS_MOST]
        if len(p) == 0 or len(g) == 0:
            return 0.0
        apart = p[:, None] - g[None]  # (P, G, 4)
        near = np.abs(apart).mean(axis=2) < 10 * pixel  # (P, G)
        points = np.linalg.norm(apart[..., :2] + apart[..., 2:], axis=2) / 2 < 30 * pixel  # (P, G)
        marks = np.sum([iou_matrix(p, g) > 0.5, near, points], axis=0, dtype=np.float64)  # (P, G)
        return float(marks[match_boxes(marks)].sum() / max(len(p), len(g)))

    return _score_each(score, texts, boxes_xyxy, labels, size)


def v_triune(
    texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: Size, *, progress: float = 0.0
) -> list[float]:
    """V-Triune: 0.6 ** |P - G| * (0.7 * position + 0.3 * completeness), in [0, 1]. One float per text.

    Objects in order each take the free prediction of their own label with the largest IoU, if that reaches the threshold: 0.85
    in the first tenth of training, 0.95 to a quarter, then 0.99; `progress` is the share of training done. Position is the sum
    of these IoU / G, completeness 1 - (miss rate + false-alarm rate) / 2. Nothing on a side: 0. The weights, and this matching
    ("label first") alone, are those of its published data.
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


def image_ap(texts: Sequence[str], boxes_xyxy: ArrayLike, labels: Sequence[str], size: Size) -> list[float]:
    """COCO's AP of one picture, in [0, 1]: the mean over IoU 0.5:0.05:0.95 and over the classes in the truth. One per text.

    The order of the answer stands for confidence: so pycocotools ranks equal scores. As in COCO, predictions of a class that
    the picture does not have are never seen. Nothing to find, where COCO has no AP: 1 for no box, else 0, as VLM-R1's "od_ap".
    """
    return _score_each(lambda answer, truth: _average_precision(answer, truth, labels), texts, boxes_xyxy, labels, size)


def match_greedily(iou: NDArray[np.float64], usable: NDArray[np.bool_], first: str) -> tuple[Indices, Indices]:
    """Indices (K,) and (K,) of pairs, taken one by one from the `usable` of (P, G), each box once at most.

    `first` says whose turn it is: "best" the pair of largest IoU; "prediction" or "truth" one box after the other, each with
    its free partner of largest IoU. Of equals the earlier goes first.
    """
    p, g = np.nonzero(usable)
    turn = {"best": np.zeros_like(p), "prediction": p, "truth": g}[first]
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for k in np.lexsort((-iou[p, g], turn)):
        p_k, g_k = int(p[k]), int(g[k])
        if p_k not in partner and g_k not in taken:
            partner[p_k] = g_k
            taken.add(g_k)
    return np.array(list(partner), dtype=np.intp), np.array(list(partner.values()), dtype=np.intp)


def _average_precision(answer: ParsedCompletion, truth: Boxes, labels: Sequence[str]) -> float:
    if len(truth) == 0:
        return float(len(answer.labels) == 0)
    p_labels, g_labels = np.array(answer.labels, dtype=object), np.array(labels, dtype=object)
    values = []
    for label in dict.fromkeys(labels):
        found = answer.boxes_xyxy[p_labels == label][:AP_MOST]
        wanted = truth[g_labels == label][::-1]  # of objects with equal IoU, COCO's matching takes the last
        iou = iou_matrix(found, wanted)  # (P, G) of one class
        hit = np.zeros((len(found), len(AP_THRESHOLDS)), dtype=bool)  # (P, T)
        for t, threshold in enumerate(AP_THRESHOLDS):
            hit[match_greedily(iou, iou >= threshold, first="prediction")[0], t] = True
        values.append(find_precision_curve(hit, len(wanted))[0].mean())
    return float(np.mean(values))


def _completeness(pairs: int, count_p: int, count_g: int) -> float:
    return 1 - ((count_g - pairs) / count_g + (count_p - pairs) / count_p) / 2


def _same_label(p_labels: Sequence[str], g_labels: Sequence[str]) -> NDArray[np.bool_]:
    """Whether labels are equal but for case, (P, G): as VLM-R1 and V-Triune compare them."""
    p, g = (np.array([label.lower() for label in names], dtype=object) for names in (p_labels, g_labels))
    return p[:, None] == g[None]


def _score_each(
    score: Callable[[ParsedCompletion, Boxes], float],
    texts: Sequence[str],
    boxes_xyxy: ArrayLike,
    labels: Sequence[str],
    size: Size,
) -> list[float]:
    truth = check_truth(boxes_xyxy, labels)  # (G, 4)
    return [score(parse_completion(text, size), truth) for text in texts]


BASELINES: dict[str, Callable[..., list[float]]] = {
    "vlm_r1_weighted_sum": vlm_r1_weighted_sum,
    "vlm_r1_od_length": vlm_r1_od_length,
    "visual_rft_iou": visual_rft_iou,
    "vision_reasoner": vision_reasoner,
    "v_triune": v_triune,
    "image_ap": image_ap,
}
