"""Boxes: formats, clipping, IoU and GIoU matrices. numpy only.

Two formats, always in the name: `xyxy` is (left, top, right, bottom), `xywh` is (left, top, width, height).
Coordinates are continuous: a box from 0 to 10 is 10 wide, there is no "+1" for the last pixel. This is the
convention of pycocotools, and the tests hold the two equal.

    IoU(p, g)  = |p ∩ g| / |p ∪ g|
    GIoU(p, g) = IoU(p, g) - (|hull(p, g)| - |p ∪ g|) / |hull(p, g)|        (Rezatofighi et al. 2019)

Edge cases, the same everywhere:
1. A box whose right edge is left of its left edge (or bottom above top) has area 0; it is never "negative".
2. Where the union is empty the IoU is 0, also for two identical boxes of area 0.
3. Where the hull is empty too, the GIoU is 0.

Deviation from the released code: it averages GIoU under the name IoU; here the two have two names.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]

_TINY = np.finfo(np.float64).tiny  # ours: the smallest normal divisor, turns 0 / 0 into 0 without a branch
_BLOCK = (
    16_000  # ours: pairs at a time; what is below 128 kB stays in the allocator's hand, fresh memory costs twice as much a pair
)


def as_boxes(boxes: ArrayLike, name: str = "boxes") -> Boxes:
    """`boxes` as a float array of shape (N, 4); an empty list is (0, 4). The one shape check of this module."""
    try:
        array = np.asarray(boxes, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers of shape (N, 4), got {boxes!r}") from error
    if array.ndim == 2 and array.shape[1] == 4:
        return array  # (N, 4)
    if array.shape == (0,):
        return array.reshape(0, 4)  # (0, 4)
    raise ValueError(f"{name} must have shape (N, 4), got {array.shape}: {boxes!r}")


def xyxy_to_xywh(boxes_xyxy: ArrayLike) -> Boxes:
    boxes_xywh = as_boxes(boxes_xyxy, "boxes_xyxy").copy()
    boxes_xywh[:, 2:] -= boxes_xywh[:, :2]
    return boxes_xywh  # (N, 4)


def xywh_to_xyxy(boxes_xywh: ArrayLike) -> Boxes:
    boxes_xyxy = as_boxes(boxes_xywh, "boxes_xywh").copy()
    boxes_xyxy[:, 2:] += boxes_xyxy[:, :2]
    return boxes_xyxy  # (N, 4)


def clip_boxes_xyxy(boxes_xyxy: ArrayLike, size: tuple[float, float]) -> Boxes:
    """Cut boxes at the borders of a picture of `size` (width, height). One wholly outside becomes an empty box."""
    width, height = size
    return np.clip(as_boxes(boxes_xyxy, "boxes_xyxy"), 0.0, (width, height, width, height))  # (N, 4)


def area(boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    return _area(_corners(as_boxes(boxes_xyxy, "boxes_xyxy")))  # (N,)


def iou_matrix(p_boxes_xyxy: ArrayLike, g_boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """IoU of each of P boxes with each of G boxes, in [0, 1]."""
    p, g = _corners(as_boxes(p_boxes_xyxy, "p_boxes_xyxy")), _corners(as_boxes(g_boxes_xyxy, "g_boxes_xyxy"))
    count_p, count_g = p.shape[2], g.shape[2]
    rows = max(1, _BLOCK // max(1, count_g))
    if count_p <= rows:
        return _iou(p, g)  # (P, G)
    iou = np.empty((count_p, count_g))
    for start in range(0, count_p, rows):
        iou[start : start + rows] = _iou(p[:, :, start : start + rows], g)
    return iou  # (P, G)


def giou_matrix(p_boxes_xyxy: ArrayLike, g_boxes_xyxy: ArrayLike) -> NDArray[np.float64]:
    """Generalised IoU of each of P boxes with each of G boxes, in [-1, 1]."""
    p, g = _corners(as_boxes(p_boxes_xyxy, "p_boxes_xyxy")), _corners(as_boxes(g_boxes_xyxy, "g_boxes_xyxy"))
    inter, union = _intersection_and_union(p, g)
    sides = np.maximum(p[1, :, :, None], g[1, :, None, :]) - np.minimum(p[0, :, :, None], g[0, :, None, :])
    hull = np.maximum(sides[0] * sides[1], union)
    return inter / union - (hull - union) / hull  # (P, G)


def _iou(p: NDArray[np.float64], g: NDArray[np.float64]) -> NDArray[np.float64]:
    inter, union = _intersection_and_union(p, g)
    return np.divide(inter, union, out=inter)  # (P, G)


def _corners(boxes_xyxy: Boxes) -> NDArray[np.float64]:
    """The two corners first: [low or high, x or y, box]."""
    return boxes_xyxy.T.copy().reshape(2, 2, -1)  # (2, 2, N)


def _area(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.maximum(corners[1] - corners[0], 0.0)  # (2, N)
    return sides[0] * sides[1]  # (N,)


def _intersection_and_union(p: NDArray[np.float64], g: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both (P, G). The union is never 0: what divides must not be, and an area below the smallest normal number is none."""
    # In two arrays, in place: the cost is memory for many boxes, and numpy's calls for few.
    (p_left, p_top), (p_right, p_bottom) = p[..., None]  # (P, 1) each
    (g_left, g_top), (g_right, g_bottom) = g  # (G,) each
    inter = np.minimum(p_right, g_right)  # (P, G), the width so far
    inter -= (scratch := np.maximum(p_left, g_left))
    np.maximum(inter, 0.0, out=inter)
    height = np.minimum(p_bottom, g_bottom)  # (P, G)
    height -= np.maximum(p_top, g_top, out=scratch)
    np.maximum(height, 0.0, out=height)
    inter *= height
    union = np.add(np.maximum(_area(p), _TINY)[:, None], np.maximum(_area(g), _TINY), out=scratch)
    union -= inter
    return inter, union
