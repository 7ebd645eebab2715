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

from vr1kit.files import open_atomic
from vr1kit.precision import find_precision_curve

RESAMPLES = 500
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


def find_matches(evaluation, annotations: Path) -> Matches:
    """Take the matches out of an evaluated COCOeval (or count the truths alone if there is none)."""
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
    first_area = [e for e in evaluation.evalImgs if e is not None and e["aRng"] == p.areaRng[0]]
    place = {image: i for i, image in enumerate(images)}
    for e in first_area:
        i, c = place[e["image_id"]], cats.index(e["category_id"])
        truths[i, c] = int((np.asarray(e["gtIgnore"]) == 0).sum())
        kept = ~np.asarray(e["dtIgnore"], bool).all(axis=0) if len(e["dtIds"]) else np.zeros(0, bool)
        n = int(kept.sum())
        ignored = np.asarray(e["dtIgnore"], bool).reshape(len(p.iouThrs), -1)[:, kept].T
        hit = np.asarray(e["dtMatches"], bool).reshape(len(p.iouThrs), -1)[:, kept].T & ~ignored
        parts.append((np.full(n, i), np.full(n, c), np.asarray(e["dtScores"], float)[kept], hit, ignored))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return Matches(*columns[:4], truths, columns[4] if columns[4].any() else None)


def accumulate(matches: Matches, weights: np.ndarray) -> dict[str, np.ndarray]:
    """AP, AP50, AP75, AR100 in percent, (B,) each, for B weightings (B, I) of the pictures.

    A picture of weight k stands k times in a row, with all its detections, as if its copies were pictures of their own.
    """
    (_, n_cats), n_thr = matches.truths.shape, matches.hit.shape[1]
    ap, ar = np.full((len(weights), n_cats, n_thr), np.nan), np.full((len(weights), n_cats, n_thr), np.nan)
    positives = weights @ matches.truths  # (B, C)
    for c in range(n_cats):
        mine = np.flatnonzero(matches.category == c)
        mine = mine[np.argsort(matches.picture[mine], kind="stable")]
        count = np.bincount(matches.picture[mine], minlength=len(matches.truths))  # detections per picture
        start = np.cumsum(count) - count
        one_score = len(np.unique(matches.score[mine])) <= 1
        for k in np.flatnonzero(positives[:, c]):
            drawn = np.repeat(np.arange(len(count)), weights[k])
            lengths = count[drawn]
            index = mine[np.repeat(start[drawn] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())]
            if not one_score:
                index = index[np.argsort(-matches.score[index], kind="stable")]
            curve, ar[k, c] = find_precision_curve(
                matches.hit[index], positives[k, c], None if matches.ignored is None else matches.ignored[index]
            )
            ap[k, c] = curve.mean(axis=0)
    with np.errstate(invalid="ignore"):
        return {
            "AP": 100 * np.nanmean(ap, axis=(1, 2)), "AP50": 100 * np.nanmean(ap[..., 0], axis=1),
            "AP75": 100 * np.nanmean(ap[..., 5], axis=1), "AR100": 100 * np.nanmean(ar, axis=(1, 2)),
        }  # fmt: skip


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
