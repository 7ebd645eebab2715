"""Matching: optimal one-to-one assignment of predictions to ground truth, box-prioritised.

    maximise  sum over pairs (p, g) of  IoU[p, g] + label_weight * [label p == label g]

The paper matches by boxes alone (label_weight 0, Sec. 3.2 "box-prioritized"); `label_weight=1` is the 'box and
label' matcher of its Table 3. Every solution has min(P, G) pairs, so a pair may have IoU 0: whether a pair
counts is the reward's business (xi0), not the matcher's.

Deviations:
1. Released code: its cost is L1 in raw pixels - [label equal] - GIoU, which changes with the picture's size. Here
   only the IoU counts, and scaling the picture changes nothing.
2. Where two assignments have exactly the same sum, either may be returned, and which one may depend on the order
   of the boxes. (0.8 + 0.2 and 0.5 + 0.5 tie, but only one has two pairs above 0.5.) Neither paper nor released
   code breaks such ties.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Indices = NDArray[np.intp]

_ZERO = np.zeros(1, dtype=np.intp)
_NONE = np.zeros(0, dtype=np.intp)
_ZERO.flags.writeable = _NONE.flags.writeable = False


def match_boxes(
    iou: NDArray[np.float64],
    same_label: NDArray[np.bool_] | None = None,
    label_weight: float = 0.0,
) -> tuple[Indices, Indices]:
    """Indices of the matched predictions, ascending, and of their ground-truth boxes.

    `iou` is (P, G); `same_label` (P, G) is needed, and looked at, only where `label_weight` is not 0.
    """
    if iou.ndim != 2:
        raise ValueError(f"iou must have shape (P, G), got {iou.shape}")
    benefit = iou  # (P, G)
    if label_weight:
        if same_label is None or same_label.shape != iou.shape:
            raise ValueError(f"same_label must have the shape of iou {iou.shape} where label_weight is {label_weight}")
        benefit = iou + label_weight * same_label  # (P, G)
    count_p, count_g = benefit.shape
    if count_p == 0 or count_g == 0:
        return _NONE, _NONE
    if count_p == 1:
        return _ZERO, benefit.argmax(axis=1)  # (1,), (1,)
    if count_g == 1:
        return benefit.argmax(axis=0), _ZERO  # (1,), (1,)
    return linear_sum_assignment(benefit, maximize=True)  # (min(P, G),), (min(P, G),)
