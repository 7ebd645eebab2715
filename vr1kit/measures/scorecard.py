"""Scorecard: COCO's twelve numbers for a list of detections, per category too, and what was wrong with the list.

    card = score_set("annotations.json", detections)
    card.metrics["AP"], card.by_category["cat"]["AP50"]     # percent; nan: nothing of that kind is there to be found
    card.notes                                              # sentences; each is also a warning

The numbers are pycocotools' own: COCOeval is run on the list as it was given. What its tools make of bad input, and what is
done here; nothing is mended, and nothing happens in silence:

    input                                  COCO's tools                                here
    unknown picture                        assertion that does not say which           refused
    score or box NaN, infinite, no number  ranks NaN last, or loses it                 refused
    key missing, box not of four           KeyError or IndexError                      refused
    annotations not COCO, none to be found KeyError; every number is -1                refused
    two annotations of one id              the later replaces the earlier              refused
    unknown category                       left out                                    left out, said
    the same detection twice               the second is a false alarm                 a false alarm, said
    width or height 0 or negative          never a hit: a false alarm                  a false alarm, said
    over 100 of a category in a picture    the lowest scored are left out              left out, said
    no detections at all                   IndexError                                  every number is 0, said
    an annotation with id 0                a hit on it is a false alarm                a false alarm, said
    a picture without objects              its detections are false alarms             the same; usual, not said
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

import numpy as np

from vr1kit.measures.intervals import Matches, run_cocoeval
from vr1kit.measures.outcomes import MOST
from vr1kit.measures.resampling import drop_detections, find_parts

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")  # order of COCOeval.stats
OF_CATEGORY = ("AP", "AP50", "AP75", "AR100")


class DetectionError(ValueError):
    """Detections, or annotations, that cannot be scored; the message is one line and names the first that is wrong."""


class DetectionWarning(UserWarning):
    """Detections that count otherwise than their author may expect."""


@dataclass(frozen=True, eq=False)
class Scorecard:
    """COCO's numbers in percent, nan where COCOeval has -1."""

    metrics: dict[str, float]  # by METRICS
    by_category: dict[str, dict[str, float]]  # category name -> by OF_CATEGORY
    counts: dict[str, int]  # detections, and how many of each kind of oddity
    notes: tuple[str, ...]  # the oddities in words
    parts: dict[str, Matches]  # COCOeval's matches, for intervals: `resampling.PARTS`


def check_detections(annotations: str | os.PathLike, detections: Sequence[Mapping]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Counts and notes on detections (COCO's result dictionaries) for a COCO file, as the table of the module says.

    Raises DetectionError for what is refused.
    """
    path, coco = Path(annotations), _read(Path(annotations))
    pictures, categories = {i["id"] for i in coco["images"]}, {c["id"] for c in coco["categories"]}
    if not isinstance(detections, list | tuple):
        raise DetectionError(f"detections must be a list of COCO results, got {type(detections).__name__}")
    seen: Counter = Counter()
    of_category: Counter = Counter()
    counts = dict.fromkeys(("detections", "unknown_categories", "repeated", "empty_boxes", "over_the_limit"), 0)
    for k, d in enumerate(detections):
        _check_one(k, d, pictures, path)
        counts["detections"] += 1
        if d["category_id"] not in categories:
            counts["unknown_categories"] += 1
            continue
        seen[d["image_id"], d["category_id"], tuple(map(float, d["bbox"]))] += 1
        of_category[d["image_id"], d["category_id"]] += 1
        counts["empty_boxes"] += min(d["bbox"][2:]) <= 0
    counts["repeated"] = sum(n - 1 for n in seen.values())
    counts["over_the_limit"] = sum(max(0, n - MOST) for n in of_category.values())
    counts["annotations_with_id_0"] = sum(a["id"] == 0 and not a.get("iscrowd") for a in coco["annotations"])
    sentences = {
        "unknown_categories": "{n} of a category that the set does not have: left out",
        "repeated": "{n} repeat another of the same picture, category and box: false alarms",
        "empty_boxes": "{n} without width or height: false alarms",
        "over_the_limit": f"{{n}} beyond the {MOST} highest scored of a category in a picture: left out",
    }
    head = f"{path.name}: of {len(detections)} detections "
    notes = [head + sentence.format(n=counts[what]) for what, sentence in sentences.items() if counts[what]]
    if not counts["detections"]:
        notes.append(f"{path.name}: no detections; every number is 0")
    if counts["annotations_with_id_0"]:
        notes.append(f"{path.name}: an annotation has id 0; COCOeval takes a hit on it for a false alarm: count ids from 1")
    return counts, tuple(notes)


def _read(path: Path) -> dict:
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DetectionError(f"{path}: no such file; give the path of a COCO instances JSON") from None
    except ValueError as error:
        raise DetectionError(f"{path}: not JSON ({error}); give the path of a COCO instances JSON") from None
    parts = ("images", "annotations", "categories")
    if not isinstance(coco, dict) or not all(isinstance(coco.get(key), list) for key in parts):
        raise DetectionError(f"{path}: not a COCO instances file; it needs the lists images, annotations and categories")
    needed = {
        "images": ("id",),
        "categories": ("id", "name"),
        "annotations": ("id", "image_id", "category_id", "bbox", "area", "iscrowd"),
    }
    for part, keys in needed.items():
        for k, row in enumerate(coco[part]):
            lacking = [key for key in keys if key not in row] if isinstance(row, dict) else keys
            if lacking:
                raise DetectionError(f"{path}: entry {k} of {part} has no {', '.join(lacking)}; COCO's tools need it")
    if not _objects(coco):
        raise DetectionError(f"{path}: nothing is annotated in it (crowds aside), so there is no AP; COCO's tools would say -1")
    wrong, times = Counter(a["id"] for a in coco["annotations"]).most_common(1)[0]
    if times > 1:
        raise DetectionError(
            f"{path}: the annotation id {wrong!r} stands {times} times; COCO's tools would keep the last one only"
        )
    return coco


def _objects(coco: Mapping) -> list[dict]:
    """Annotations that can be found: no crowds, of pictures and categories that the file has."""
    pictures, categories = {i["id"] for i in coco["images"]}, {c["id"] for c in coco["categories"]}
    found = [a for a in coco["annotations"] if not a.get("iscrowd")]
    return [a for a in found if a["image_id"] in pictures and a["category_id"] in categories]


def _check_one(k: int, d: Mapping, pictures: set, path: Path) -> None:
    where = f"detection {k}"
    for key in ("image_id", "category_id", "bbox", "score"):
        if not isinstance(d, Mapping) or key not in d:
            raise DetectionError(f"{where}: has no {key}; it must be like {{image_id, category_id, bbox: [x, y, w, h], score}}")
    if not all(isinstance(d[key], Hashable) for key in ("image_id", "category_id")) or d["image_id"] not in pictures:
        raise DetectionError(
            f"{where}: picture {d['image_id']!r} is not in {path.name}; were these made for another set or split?"
        )
    box = d["bbox"]
    if not isinstance(box, list | tuple | np.ndarray) or len(box) != 4 or not all(map(_is_finite, box)):
        raise DetectionError(f"{where}: bbox must be four finite numbers x, y, width, height, got {box!r}")
    if not _is_finite(d["score"]):
        raise DetectionError(f"{where}: score must be a finite number, got {d['score']!r}")


def _is_finite(value) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def score_set(annotations: str | os.PathLike, detections: Sequence[Mapping]) -> Scorecard:
    """Check detections and run COCOeval on them. Notes are given as `DetectionWarning`s too.

    Raises DetectionError for what is refused. The detections themselves are not changed, as COCO's loadRes would.
    """
    counts, notes = check_detections(annotations, detections)
    for note in notes:
        warnings.warn(note, DetectionWarning, stacklevel=2)
    evaluation = run_cocoeval(Path(annotations), [{**d, "bbox": [float(v) for v in d["bbox"]]} for d in detections])
    coco = json.loads(Path(annotations).read_text(encoding="utf-8"))
    found_nothing = evaluation is None
    if found_nothing:
        evaluation = _evaluate_nothing(Path(annotations), coco)
    parts = find_parts(evaluation, Path(annotations))
    parts = drop_detections(parts) if found_nothing else parts
    metrics = {name: _percent(value) for name, value in zip(METRICS, evaluation.stats, strict=True)}
    precision, recall = evaluation.eval["precision"][:, :, :, 0, -1], evaluation.eval["recall"][:, :, 0, -1]
    by_category: dict[str, dict[str, float]] = {}
    for k, category in enumerate(sorted(coco["categories"], key=lambda c: c["id"])):
        name = str(category["name"])
        name = f"{name} (id {category['id']})" if name in by_category else name  # some sets use a name twice
        values = (precision[:, :, k], precision[0, :, k], precision[5, :, k], recall[:, k])
        by_category[name] = {m: _percent(p.mean() if p.min() > -1 else -1) for m, p in zip(OF_CATEGORY, values, strict=True)}
    return Scorecard(metrics, by_category, counts, notes, parts)


def _evaluate_nothing(path: Path, coco: dict):
    """COCOeval without a hit: its tools need one detection, so they get one that is none, outside of every picture."""
    place = {key: _objects(coco)[0][key] for key in ("image_id", "category_id")}
    return run_cocoeval(path, [{**place, "bbox": [-9.0, -9.0, 1.0, 1.0], "score": 0.0}])


def _percent(value: float) -> float:
    return 100 * float(value) if value > -1 else float("nan")
