"""COCO's twelve numbers over resampled pictures, from the matches of a single COCOeval.

    parts = find_parts(evaluation, annotations)          # the matches at every size of object, and with one and ten detections
    drawn = resample_numbers(parts, weights)             # {"AP": (B,), "APs": (B,), ..., "AR10": (B,), ...} in percent

COCOeval matches anew for each range of areas, ignoring what is outside of it; the part "small" is what it found there. Of AR1 and
AR10 only the first detections of a category in a picture count. A number whose part is not there is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from vr1kit.measures.intervals import (
    Matches,
    accumulate,
    accumulate_recall,
    find_matches,
    interval,
    mean_over_categories,
)  # fmt: skip

RESAMPLES = 1000
THREADS = 2  # always two, that the sums do not depend on the machine
PARTS = {
    "all": (0, 100),
    "small": (1, 100),
    "medium": (2, 100),
    "large": (3, 100),
    "first1": (0, 1),
    "first10": (0, 10),
}  # area, most
PRECISIONS = {"APs": "small", "APm": "medium", "APl": "large"}
RECALLS = {"AR1": "first1", "AR10": "first10", "ARs": "small", "ARm": "medium", "ARl": "large"}


def find_parts(evaluation, annotations: Path) -> dict[str, Matches]:
    """The matches of an evaluated COCOeval, by PARTS."""
    return {name: find_matches(evaluation, annotations, area, most) for name, (area, most) in PARTS.items()}


def drop_detections(parts: Mapping[str, Matches]) -> dict[str, Matches]:
    """The same objects, and nothing found."""
    fields = ("picture", "category", "score", "hit")
    return {name: replace(m, **{f: getattr(m, f)[:0] for f in fields}, ignored=None) for name, m in parts.items()}


def save_parts(parts: Mapping[str, Matches], folder: Path) -> None:
    """As matches.npz, which is the part "all", and matches_small.npz and so on."""
    for name, matches in parts.items():
        matches.save(_path(folder, name))


def load_parts(folder: Path) -> dict[str, Matches]:
    """What `save_parts` wrote; parts that are not there are left out, but for "all"."""
    return {name: Matches.load(_path(folder, name)) for name in PARTS if name == "all" or _path(folder, name).is_file()}


def _path(folder: Path, name: str) -> Path:
    return folder / ("matches.npz" if name == "all" else f"matches_{name}.npz")


def resample_numbers(
    parts: Mapping[str, Matches], weights: np.ndarray, categories: tuple[np.ndarray, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """COCO's numbers in percent, (B,) each, for B weightings (B, I) of the pictures; nan where nothing is to be found.

    categories: `accumulate_categories` of the part "all", where it is known already.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        halves = list(pool.map(lambda some: _resample(parts, some, categories is None), np.array_split(weights, THREADS)))
    drawn = {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}
    return mean_over_categories(*categories) | drawn if categories else drawn


def _resample(parts: Mapping[str, Matches], weights: np.ndarray, whole: bool) -> dict[str, np.ndarray]:
    drawn = accumulate(parts["all"], weights) if whole else {}
    drawn |= {name: accumulate(parts[part], weights)["AP"] for name, part in PRECISIONS.items() if part in parts}
    return drawn | {name: accumulate_recall(parts[part], weights) for name, part in RECALLS.items() if part in parts}


def find_interval(drawn: np.ndarray) -> tuple[float, float] | None:
    """The 95 % interval of what is a number; None where nothing is."""
    known = drawn[np.isfinite(drawn)]
    return interval(known) if len(known) else None
