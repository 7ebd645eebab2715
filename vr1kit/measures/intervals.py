"""Intervals: AP over resampled pictures and seeds, without running COCOeval a thousand times.

COCOeval's matching of a picture does not depend on other pictures, so it is done once (`Matches`) and only the accumulation is
repeated: a picture drawn k times counts k times. With all weights 1 the numbers are COCOeval's own (tests/test_intervals.py).

The bootstrap is paired: every policy and seed of a suite sees the same resampled pictures, so that differences and ratios have
tight intervals; where there are several seeds they are resampled too. Numpy and pycocotools only.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vr1kit.precision import RECALLS
from vr1kit.safekeeping.files import open_atomic

RESAMPLES = 500
AT_ONCE = 100_000  # detections that are followed in one go; ours: what a processor's cache holds
LEVEL = 0.95


@dataclass(frozen=True)
class Matches:
    """What COCOeval found on one set (area "all", at most 100 detections): D detections, I pictures, C categories, T thresholds."""

    picture: np.ndarray  # (D,) index of the picture
    category: np.ndarray  # (D,) index of the category
    score: np.ndarray  # (D,)
    hit: np.ndarray  # (D, T) bool
    truths: np.ndarray  # (I, C) ground-truth boxes
    ignored: np.ndarray | None = None  # (D, T) bool, detections that fell into a crowd; None: there are no crowds

    def save(self, path: Path) -> None:
        crowds = {} if self.ignored is None or not self.ignored.any() else {"ignored": np.packbits(self.ignored, axis=1)}
        with open_atomic(path, "wb") as file:
            np.savez_compressed(
                file, **crowds, picture=self.picture.astype(np.int32), category=self.category.astype(np.int16),
                score=self.score.astype(np.float64), hit=np.packbits(self.hit, axis=1), truths=self.truths.astype(np.int16),
            )  # fmt: skip

    @staticmethod
    def load(path: Path) -> Matches:
        with np.load(path, allow_pickle=False) as z:
            ignored = np.unpackbits(z["ignored"], axis=1)[:, :10].astype(bool) if "ignored" in z else None
            hit = np.unpackbits(z["hit"], axis=1)[:, :10].astype(bool)
            return Matches(z["picture"], z["category"], z["score"], hit, z["truths"], ignored)


def run_cocoeval(annotations: Path, detections: Sequence[dict]):
    """pycocotools' COCOeval, evaluated, accumulated and summarised in silence; None without detections."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not detections:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(list(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def find_matches(evaluation, annotations: Path, area: int = 0, most: int = 100) -> Matches:
    """Take the matches out of an evaluated COCOeval (or count the truths alone if there is none).

    area: which of its ranges (all, small, medium, large); most: only so many detections of a category in a picture, the first.
    """
    if evaluation is None:
        import json

        coco = json.loads(Path(annotations).read_text())
        images, cats = sorted(i["id"] for i in coco["images"]), sorted(c["id"] for c in coco["categories"])
        truths = np.zeros((len(images), len(cats)), int)
        for a in coco["annotations"]:
            if not a.get("iscrowd"):
                truths[images.index(a["image_id"]), cats.index(a["category_id"])] += 1
        return Matches(np.zeros(0, int), np.zeros(0, int), np.zeros(0), np.zeros((0, 10), bool), truths)
    p = evaluation.params
    images, cats = list(p.imgIds), list(p.catIds)
    truths = np.zeros((len(images), len(cats)), int)
    parts: list[tuple[np.ndarray, ...]] = []
    of_area = [e for e in evaluation.evalImgs if e is not None and e["aRng"] == p.areaRng[area]]
    place = {image: i for i, image in enumerate(images)}
    for e in of_area:
        i, c = place[e["image_id"]], cats.index(e["category_id"])
        truths[i, c] = int((np.asarray(e["gtIgnore"]) == 0).sum())
        ignored = np.asarray(e["dtIgnore"], bool).reshape(len(p.iouThrs), -1)[:, :most].T  # (d, T)
        kept = ~ignored.all(axis=1)
        n, ignored = int(kept.sum()), ignored[kept]
        hit = np.asarray(e["dtMatches"], bool).reshape(len(p.iouThrs), -1)[:, :most].T[kept] & ~ignored
        parts.append((np.full(n, i), np.full(n, c), np.asarray(e["dtScores"], float)[:most][kept], hit, ignored))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Matches(*columns[:4], truths, columns[4] if columns[4].any() else None)


def accumulate(matches: Matches, weights: np.ndarray) -> dict[str, np.ndarray]:
    """AP, AP50, AP75, AR100 in percent, (B,) each, for B weightings (B, I) of the pictures.

    A picture of weight k stands k times in a row, with all its detections, as if its copies were pictures of their own.
    """
    return mean_over_categories(*accumulate_categories(matches, weights))


def mean_over_categories(ap: np.ndarray, ar: np.ndarray) -> dict[str, np.ndarray]:
    """AP, AP50, AP75, AR100 in percent, (B,) each, of `accumulate_categories`."""
    return {
        "AP": 100 * _mean(ap, (0, 2)), "AP50": 100 * _mean(ap[0], 1), "AP75": 100 * _mean(ap[5], 1), "AR100": 100 * _mean(ar, (0, 2)),
    }  # fmt: skip


def _mean(values: np.ndarray, axis: int | tuple[int, int]) -> np.ndarray:
    """numpy.nanmean, without its warning where a resample has nothing to be found: filters of warnings are one for all threads."""
    with np.errstate(invalid="ignore"):
        return np.nansum(values, axis) / (~np.isnan(values)).sum(axis)


def accumulate_categories(matches: Matches, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AP and last recall of each threshold, weighting and category, (T, B, C) each, 0 to 1; nan where nothing is to be found."""
    n_thr, n_cats = matches.hit.shape[1], matches.truths.shape[1]
    ap, ar = np.zeros((n_thr, len(weights), n_cats)), np.zeros((n_thr, len(weights), n_cats))
    order = np.lexsort((matches.picture, -matches.score, matches.category))  # stable: equal ones stay as given
    picture, category, score = (getattr(matches, name)[order] for name in ("picture", "category", "score"))
    # Blocks of equal category, score and picture: a copy of the picture repeats its block as a whole.
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(picture) != 0) | (np.diff(category) != 0) | (np.diff(score) != 0)
    start = np.flatnonzero(new)
    blocks = _Blocks(
        start, np.diff(np.append(start, len(order))), picture[start], category[start].astype(int), np.ascontiguousarray(matches.hit[order].T),
        None if matches.ignored is None else np.ascontiguousarray(matches.ignored[order].T),
    )  # fmt: skip
    at_once, truths = max(1, AT_ONCE // max(1, len(order))), matches.truths.astype(float)  # floats multiply faster, and whole
    for first in range(0, len(weights), at_once):
        some = slice(first, first + at_once)
        ap[:, some], ar[:, some] = _accumulate_some(blocks, weights[some], weights[some].astype(float) @ truths)
    return ap, ar


@dataclass(frozen=True)
class _Blocks:
    """K blocks of D detections in ranking order, category by category."""

    start: np.ndarray  # (K,) first detection
    length: np.ndarray  # (K,)
    picture: np.ndarray  # (K,)
    category: np.ndarray  # (K,)
    hit: np.ndarray  # (T, D)
    ignored: np.ndarray | None  # (T, D)


def _accumulate_some(blocks: _Blocks, weights: np.ndarray, positives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AP and last recall, (T, B, C) each, nan where positives (B, C) is 0; all resamples, categories and thresholds in one go.

    Precision is looked up at recall points, which only hits reach, and its envelope only rises at hits: so of the ranking's N
    drawn detections (those of all B resamples, one after the other) the hits alone are followed.
    """
    (n_weights, n_cats), n_thr = positives.shape, len(blocks.hit)
    times = weights[:, blocks.picture].ravel()  # (B * K,)
    drawn = np.repeat(np.arange(len(times)), times)
    which = drawn % len(blocks.start) if len(blocks.start) else drawn
    length = blocks.length[which]
    ends = np.cumsum(length)
    index = np.repeat(blocks.start[which] - (ends - length), length) + np.arange(ends[-1] if len(ends) else 0)  # (N,)
    n_lists = n_weights * n_cats  # one ranking per resample and category
    of = np.repeat(drawn // max(1, len(blocks.start)) * n_cats + blocks.category[which], length)  # (N,) which ranking; ascends
    size = np.bincount(of, minlength=n_lists)
    begin = np.cumsum(size) - size
    t, n = np.divmod(np.flatnonzero(blocks.hit[:, index]), max(1, len(index)))  # (H,) hits by threshold and ranking
    if blocks.ignored is None:
        counted = n - begin[of[n]] + 1
    else:
        so_far = np.concatenate([np.zeros((n_thr, 1), int), np.cumsum(~blocks.ignored[:, index], axis=1)], axis=1)  # (T, N + 1)
        counted = so_far[t, n + 1] - so_far[t, begin[of[n]]]
    curve = t * n_lists + of[n]  # (H,) ascends
    hits = np.bincount(curve, minlength=n_thr * n_lists)
    before = np.cumsum(hits) - hits
    precision = (np.arange(len(curve)) - before[curve] + 1) / (counted + np.spacing(1))
    steps = 2.0 * (curve[-1] - curve if len(curve) else curve)  # keeps the maxima of one curve out of the one before
    envelope = np.append(np.maximum.accumulate((precision + steps)[::-1])[::-1] - steps, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        needed = np.floor(RECALLS * positives[..., None]) - 1  # (B, C, 101) hits that reach each recall point: found by trying
        for _ in range(3):
            needed += needed / positives[..., None] < RECALLS
        needed = np.maximum(np.where(positives[..., None] > 0, needed, 1), 1).astype(int).reshape(n_lists, -1)
        hits, before = hits.reshape(n_thr, n_lists, 1), before.reshape(n_thr, n_lists, 1)
        ap = envelope[np.where(needed <= hits, before + needed - 1, -1)].mean(axis=2).reshape(n_thr, n_weights, n_cats)
        ar = hits.reshape(n_thr, n_weights, n_cats) / positives
    return np.where(positives > 0, ap, np.nan), np.where(positives > 0, ar, np.nan)


def accumulate_recall(matches: Matches, weights: np.ndarray) -> np.ndarray:
    """Average recall alone, in percent, (B,): a product of matrices, since no ranking is needed."""
    n_pictures, n_cats = matches.truths.shape
    place = matches.picture.astype(int) * n_cats + matches.category
    hits = np.bincount(place, matches.hit.mean(axis=1), n_pictures * n_cats).reshape(n_pictures, n_cats)
    times = weights.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 100 * _mean((times @ hits) / (times @ matches.truths.astype(float)), 1)


def draw_weights(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n pictures is drawn, (resamples, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples)


def bootstrap_suite(
    results: Mapping[str, Sequence[Mapping[str, Matches]]],
    metrics: Sequence[str] = ("AP",),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, np.ndarray]]:
    """results: policy -> seeds -> set name -> Matches. Returns policy -> metric -> (resamples,) means over sets and seeds."""
    rng = np.random.default_rng(seed)
    names = sorted(next(iter(results.values()))[0])
    n_seeds = {policy: len(runs) for policy, runs in results.items()}
    values = {p: {m: np.zeros((n, resamples)) for m in metrics} for p, n in n_seeds.items()}
    for name in names:  # the same pictures for every policy and seed
        pictures = len(next(iter(results.values()))[0][name].truths)
        weights = draw_weights(pictures, resamples, rng)
        for policy, runs in results.items():
            for s, run in enumerate(runs):
                scores = accumulate(run[name], weights)
                for metric in metrics:
                    values[policy][metric][s] += np.nan_to_num(scores[metric]) / len(names)
    most = max(n_seeds.values())
    drawn = rng.integers(0, most, (resamples, most))  # seeds are resampled together, as a seed's mix is shared by the policies
    out: dict[str, dict[str, np.ndarray]] = {}
    for policy, by_metric in values.items():
        pick = drawn % n_seeds[policy]
        out[policy] = {m: np.take_along_axis(v, pick.T, axis=0).mean(axis=0) for m, v in by_metric.items()}
    return out


def interval(samples: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
