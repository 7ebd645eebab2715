"""Outcomes: what became of every detection and of every object of a set, by COCO's matching, in numpy.

COCOeval keeps its matches inside; here they are arrays, so that errors can be sorted (`vr1kit.measures.errors`) and scores be compared
with hits (`vr1kit.measures.confidence`). Same rules, same arithmetic: matches, AP and AR are those of pycocotools 2.0.11 to the last
bit (tests/test_outcomes.py, 200 random sets). The rules, of one picture and category, at one IoU threshold:

1. Detections are served by falling score, equal scores in the order in which they were given; after 100 the rest is left out.
2. Each takes the free object with the highest IoU, if that reaches the threshold; of equal IoUs the last object's.
3. One that finds none may fall into a crowd region (IoU there: intersection over the *detection's* area). It is ignored:
   neither hit nor false alarm. A crowd takes any number, and is nothing that could be missed.

Deviation: an annotation with id 0 is matched like any other. COCOeval stores the id of the match and takes 0 for "no match", so
it counts a hit on that object as a false alarm (`vr1kit.measures.scorecard` says so where it happens).

Input is taken as it is; `scorecard.check_detections` refuses what is not a detection. Area "all" only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vr1kit.precision import RECALLS, find_precision_curve

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCOeval, Params.iouThrs
MOST = 100  # COCOeval, Params.maxDets: detections of one category in one picture


@dataclass(frozen=True, eq=False)
class Objects:
    """N boxes of a set, in picture pixels. Of detections `score` counts, of the truth `crowd`."""

    picture: np.ndarray  # (N,) index into Outcomes.image_ids
    category: np.ndarray  # (N,) index into Outcomes.category_ids
    boxes_xywh: np.ndarray  # (N, 4)
    crowd: np.ndarray  # (N,) bool
    score: np.ndarray  # (N,) nan for the truth
    place: np.ndarray  # (N,) in the list that was given

    def __len__(self) -> int:
        return len(self.picture)

    @property
    def area(self) -> np.ndarray:
        """Width times height, square pixels, (N,)."""
        return self.boxes_xywh[:, 2] * self.boxes_xywh[:, 3]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One evaluated set: I pictures, C categories, G objects, D detections, T thresholds. Ids ascend, as in COCOeval."""

    image_ids: np.ndarray  # (I,)
    category_ids: np.ndarray  # (C,)
    category_names: tuple[str, ...]  # C
    picture_areas: np.ndarray  # (I,) square pixels; nan where the file gives no size
    truths: Objects  # G, crowds included, in the file's order
    detections: Objects  # D, by picture, category, falling score
    thresholds: np.ndarray  # (T,)
    match: np.ndarray  # (D, T) index of the object, or crowd, that the detection took; -1: none

    @property
    def ignored(self) -> np.ndarray:
        """Detections that fell into a crowd, (D, T) bool."""
        return (self.match >= 0) & np.append(self.truths.crowd, False)[self.match]

    @property
    def hit(self) -> np.ndarray:
        """Detections that found an object, (D, T) bool."""
        return (self.match >= 0) & ~self.ignored

    @property
    def positives(self) -> np.ndarray:
        """Objects to be found, (C,)."""
        return np.bincount(self.truths.category[~self.truths.crowd], minlength=len(self.category_ids))

    def metrics(self) -> dict[str, float]:
        """AP, AP50, AP75, AR100 in percent, those of them whose thresholds were matched; nan where there is nothing to find."""
        precision, recall = precision_recall(self.detections, self.hit, self.ignored, self.positives)
        out = {"AP": _mean(precision), "AR100": _mean(recall)} if len(self.thresholds) == len(THRESHOLDS) else {}
        for name, level in (("AP50", 0.5), ("AP75", 0.75)):
            at = np.flatnonzero(np.isclose(self.thresholds, level))
            if len(at):
                out[name] = _mean(precision[at])
        return out

    def ap_by_category(self) -> np.ndarray:
        """AP in percent, mean over the thresholds, (C,); nan for a category without objects."""
        precision, _ = precision_recall(self.detections, self.hit, self.ignored, self.positives)
        return np.array([_mean(precision[:, :, c]) for c in range(len(self.category_ids))])


def find_outcomes(
    annotations: str | os.PathLike | Mapping, detections: Sequence[Mapping], thresholds: Sequence[float] = THRESHOLDS
) -> Outcomes:
    """Match detections, COCO's result dictionaries, with the objects of a COCO file (or its content).

    Detections of categories that the set does not have are left out, as by COCOeval. Raises KeyError for an unknown picture.
    """
    coco = annotations if isinstance(annotations, Mapping) else json.loads(Path(annotations).read_text(encoding="utf-8"))
    images = sorted(coco["images"], key=lambda image: image["id"])
    categories = sorted(coco["categories"], key=lambda category: category["id"])
    pictures, names = {x["id"]: i for i, x in enumerate(images)}, {x["id"]: i for i, x in enumerate(categories)}
    truths = _to_objects(coco["annotations"], pictures, names)
    found = _to_objects(detections, pictures, names)
    order = np.lexsort((found.place, -found.score, found.category, found.picture))
    group = found.picture[order] * len(names) + found.category[order]  # (D,) ascending
    first = np.searchsorted(group, group)
    order = order[np.arange(len(group)) - first < MOST]
    found = Objects(*(getattr(found, name)[order] for name in Objects.__dataclass_fields__))
    levels = np.asarray(thresholds, float)
    return Outcomes(
        np.array([x["id"] for x in images]), np.array([x["id"] for x in categories]), tuple(str(x["name"]) for x in categories),
        np.array([float(x.get("width") or np.nan) * float(x.get("height") or np.nan) for x in images]),
        truths, found, levels, _match(truths, found, len(names), levels),
    )  # fmt: skip


def _to_objects(rows: Sequence[Mapping], pictures: Mapping, names: Mapping) -> Objects:
    places = [k for k, row in enumerate(rows) if row["category_id"] in names]
    kept = [rows[k] for k in places]
    return Objects(
        np.array([pictures[row["image_id"]] for row in kept], int), np.array([names[row["category_id"]] for row in kept], int),
        np.array([row["bbox"] for row in kept], float).reshape(-1, 4),
        np.array([bool(row.get("iscrowd")) for row in kept], bool),
        np.array([row.get("score", np.nan) for row in kept], float), np.array(places, int),
    )  # fmt: skip


def iou_xywh(boxes_xywh: np.ndarray, truths_xywh: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """IoU (D, G) in pycocotools' own arithmetic; for a crowd intersection over the detection's area."""
    d, g = boxes_xywh[:, None], truths_xywh[None]
    sides = np.minimum(d[..., 2:] + d[..., :2], g[..., 2:] + g[..., :2]) - np.maximum(d[..., :2], g[..., :2])  # (D, G, 2)
    inter = np.where((sides > 0).all(axis=-1), sides[..., 0] * sides[..., 1], 0.0)
    area = d[..., 2] * d[..., 3]
    union = np.where(crowd, area, area + g[..., 2] * g[..., 3] - inter)
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def _match(truths: Objects, found: Objects, n_categories: int, thresholds: np.ndarray) -> np.ndarray:
    match = np.full((len(found), len(thresholds)), -1)
    places: dict[int, list[int]] = {}
    for g, key in enumerate((truths.picture * n_categories + truths.category).tolist()):
        places.setdefault(key, []).append(g)
    keys, starts = np.unique(found.picture * n_categories + found.category, return_index=True)
    for key, start, end in zip(keys.tolist(), starts.tolist(), [*starts.tolist(), len(found)][1:], strict=False):
        if key not in places:
            continue
        index = np.array(places[key])
        crowd = truths.crowd[index]
        iou = iou_xywh(found.boxes_xywh[start:end], truths.boxes_xywh[index], crowd)
        for t, level in enumerate(np.minimum(thresholds, 1 - 1e-10)):
            free = ~crowd
            for d in range(end - start):
                taken = _best(iou[d], free, level)
                if taken < 0:
                    taken = _best(iou[d], crowd, level)
                if taken >= 0:
                    free[taken] = False
                    match[start + d, t] = index[taken]
    return match


def _best(iou: np.ndarray, among: np.ndarray, level: float) -> int:
    """The last of the highest IoUs (G,) that reach the level, or -1."""
    able = np.where(among, iou, -1.0)
    best = len(able) - 1 - int(able[::-1].argmax())
    return best if able[best] >= level else -1


def precision_recall(
    detections: Objects, hit: np.ndarray, ignored: np.ndarray, positives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """COCOeval's accumulate. hit, ignored (D, T) bool; positives (C,) objects to be found.

    Returns precision (T, 101, C) at COCO's recall points and recall (T, C), -1 for a category without objects. Equal scores
    rank by picture, then as given.
    """
    n_thr = hit.shape[1]
    precision, recall = -np.ones((n_thr, len(RECALLS), len(positives))), -np.ones((n_thr, len(positives)))
    for c in np.flatnonzero(positives > 0):
        mine = np.flatnonzero(detections.category == c)
        mine = mine[np.lexsort((detections.place[mine], detections.picture[mine], -detections.score[mine]))]
        curve, recall[:, c] = find_precision_curve(hit[mine], positives[c], ignored[mine])
        precision[:, :, c] = curve.T
    return precision, recall


def _mean(values: np.ndarray) -> float:
    """Mean of what is defined, in percent; nan if nothing is."""
    values = values[values > -1]
    return 100 * float(np.mean(values)) if len(values) else float("nan")
