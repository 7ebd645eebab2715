"""Confidence: scores for the boxes of a model that gives none, and how well a score keeps its word.

AP ranks boxes by score, and a language model writes boxes without one. Three ways to make one, for each box of an answer:

    constant     0.99 for every box (released code, for Qwen's answers): what is named decides, ranking does not
    token_prob   from the probabilities p_1 ... p_n of the tokens that write the box's four numbers and its label:
                     min      the smallest p              the weakest link
                     mean     (p_1 ... p_n)^(1/n)         the geometric mean: does not fall with the number of tokens
                     product  p_1 ... p_n                 the probability of writing just this box here; falls with n
    vote         share of k sampled answers to the same question that hold a box of the same label with IoU >= 0.5

Notes:
1. The released code does not treat its two models alike: it gives Qwen's boxes 0.99 and Griffon's products of token
   probabilities. Numbers made by two of these ways do not compare.
2. A token that writes structure and content at once (`], "label": "cat`) counts with its content, and once, as in
   `vr1kit.credit`. Quotes, brackets and the decision to go on are not part of a box.
3. In a vote one sampled box may speak for several boxes of the answer: doubles are not told apart.

Calibration (Guo et al. 2017, arXiv 1706.04599): sort boxes into B bins of equal width by score, (l, u], the first with 0;

    ECE = sum over bins of  n_bin / N * |share of hits - mean score|

where a hit is what COCO's matching at IoU 0.5 calls one (`vr1kit.measures.outcomes`): the second box of an object is none. Numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vr1kit.boxes import Boxes, iou_matrix
from vr1kit.completions import ItemSpans, ParsedCompletion, Span

SCORES = ("constant", "token_prob", "vote")
POOLS = ("min", "mean", "product")
CONSTANT = 0.99  # released code
VOTE_IOU = 0.5  # ours: the loosest IoU at which COCO calls a box found
BINS = 10  # ours; Guo et al. use 15 on thousands of samples


# --- scores --------------------------------------------------------------------------------------------------------------


def constant_scores(parsed: ParsedCompletion) -> np.ndarray:
    """The released code's score of every box, (P,)."""
    return np.full(len(parsed.labels), CONSTANT)


def token_scores(parsed: ParsedCompletion, spans: np.ndarray, logps: Sequence[float], pool: str = "mean") -> np.ndarray:
    """Scores in [0, 1] from token probabilities, (P,).

    spans: (T, 2), the characters that each token writes (`tokens.token_spans`); logps: (T,) natural logarithms, as
    `decoding.generate` returns them. Raises ValueError for an unknown pool, for spans and logps of different length, and for
    probabilities that are none.
    """
    if pool not in POOLS:
        raise ValueError(f"unknown pool {pool!r}; known are {', '.join(POOLS)}")
    logps = np.asarray(logps, float)
    if len(spans) != len(logps):
        raise ValueError(f"{len(spans)} tokens have characters and {len(logps)} have probabilities; both must be of one answer")
    if not (logps <= 1e-6).all():  # rounding aside; a NaN fails too
        raise ValueError("log-probabilities must be numbers and at most 0")
    of_boxes = [np.minimum(logps[tokens_of(item, parsed.text, spans)], 0.0) for item in parsed.spans]
    pooled = {"min": np.min, "mean": np.mean, "product": np.sum}[pool]
    return np.exp([pooled(values) for values in of_boxes]) if of_boxes else np.zeros(0)


def tokens_of(item: ItemSpans, text: str, spans: np.ndarray) -> np.ndarray:
    """Which tokens write any character of the four numbers or of the label, (T,) bool; quotes alone do not count."""
    mine = np.zeros(len(spans), bool)
    for start, end in (*item.numbers, _word(item.label, text)):
        mine |= (spans[:, 0] < end) & (spans[:, 1] > start)
    return mine


def _word(label: Span, text: str) -> Span:
    """A label without its quotes, unless there is nothing else."""
    start, end = label
    quoted = text[start:end]
    start += len(quoted) - len(quoted.lstrip("\"'"))
    end -= len(quoted) - len(quoted.rstrip("\"'"))
    return (start, end) if start < end else label


def vote_scores(
    boxes_xyxy: Boxes, labels: Sequence[str], samples: Sequence[tuple[Boxes, Sequence[str]]], iou: float = VOTE_IOU
) -> np.ndarray:
    """Share of the k samples, (boxes_xyxy, labels) each, that hold a box of the same label with at least this IoU, (P,).

    All boxes in one space. Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("a vote needs at least one sampled answer")
    votes = np.zeros(len(labels))
    for sampled_boxes, sampled_labels in samples:
        same = np.array([[a == b for b in sampled_labels] for a in labels], bool).reshape(len(labels), len(sampled_labels))
        votes += (same & (iou_matrix(boxes_xyxy, sampled_boxes) >= iou)).any(axis=1)
    return votes / len(samples)


# --- calibration ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Calibration:
    """Reliability of scores: B bins of equal width. Empty bins have nan for confidence and accuracy."""

    edges: np.ndarray  # (B + 1,) from 0 to 1
    count: np.ndarray  # (B,) boxes
    confidence: np.ndarray  # (B,) mean score
    accuracy: np.ndarray  # (B,) share of hits
    error: float  # expected calibration error, 0 to 1; nan without boxes

    def rows(self) -> list[dict]:
        """One row per bin {low, high, boxes, confidence, accuracy}; None in empty bins."""
        return [
            {"low": float(self.edges[b]), "high": float(self.edges[b + 1]), "boxes": int(n),
             "confidence": float(self.confidence[b]) if n else None, "accuracy": float(self.accuracy[b]) if n else None}
            for b, n in enumerate(self.count)
        ]  # fmt: skip


def calibrate(scores: Sequence[float], hits: Sequence[bool], bins: int = BINS) -> Calibration:
    """Reliability bins and expected calibration error of N scores in [0, 1] against N hits.

    Raises ValueError for lengths that differ and for scores that are NaN or outside 0 to 1.
    """
    scores, hits = np.asarray(scores, float), np.asarray(hits, bool)
    if scores.shape != hits.shape or scores.ndim != 1:
        raise ValueError(f"scores and hits must be of one length, got {scores.shape} and {hits.shape}")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("scores must be numbers from 0 to 1")
    edges = np.linspace(0.0, 1.0, bins + 1)
    place = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, bins - 1)  # (N,)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, scores, bins) / count
        accuracy = np.bincount(place, hits, bins) / count
    error = float(np.nansum(count * np.abs(accuracy - confidence)) / len(scores)) if len(scores) else float("nan")
    return Calibration(edges, count, confidence, accuracy, error)
