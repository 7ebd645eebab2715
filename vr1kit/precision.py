"""COCO's precision curve of one category: the one place that turns hits into average precision. numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RECALLS = np.linspace(0.0, 1.0, 101)  # COCO's recall points


def find_precision_curve(
    hit: NDArray[np.bool_], positives: int, ignored: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision (101, T) at COCO's recall points and the last recall (T,), as COCOeval's accumulate has them, to the last bit.

    hit (D, T): detections in ranking order at T thresholds; positives, above 0: objects to be found; ignored (D, T): detections
    that count neither way, since they fell into a crowd. AP is the mean of the first over its 101 rows.
    """
    d, n_thr = hit.shape
    if d == 0:
        return np.zeros((len(RECALLS), n_thr)), np.zeros(n_thr)
    true = np.cumsum(hit if ignored is None else hit & ~ignored, axis=0, dtype=float)  # (D, T)
    counted = np.arange(1.0, d + 1)[:, None] if ignored is None else np.cumsum(~ignored, axis=0, dtype=float)
    curve = np.maximum.accumulate((true / (counted + np.spacing(1)))[::-1], axis=0)[::-1]
    curve = np.vstack([curve, np.zeros((1, n_thr))])
    needed = np.searchsorted(np.arange(positives + 1) / positives, RECALLS, side="left")  # (101,) hits that reach each point
    at = np.stack([np.searchsorted(true[:, t], needed, side="left") for t in range(n_thr)], axis=1)  # (101, T)
    return np.take_along_axis(curve, at, axis=0), true[-1] / positives
