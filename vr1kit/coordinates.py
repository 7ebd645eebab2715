"""Coordinates: the only place that knows how a model family writes a box.

The same box has three spellings, and mixing them up is the most reported user problem of this field:

    pixels       of the original picture, width x height; ground truth and evaluation live here
    model_input  pixels of the picture as the model sees it, after `smart_resize`; Qwen2.5-VL answers in these
    norm1000     0 to 1000 along each side, whatever the picture; Qwen2-VL and Qwen3-VL answer in these

Conversion is one scale per axis, x_to = x_from * extent_to / extent_from, where the extents are those of the two
spaces (`space_size`). Nothing is shifted: x = width and x = 1000 are the same right border.

Rounding:
1. `convert_boxes_xyxy` does not round. Original pixels stay fractional, as COCO's are.
2. `round_boxes_xyxy` makes the integers that answers are written in: nearest integer, halves up (to even,
   numpy's rule, would make even coordinates likelier and a policy learn to prefer them), then kept inside the space. A box with positive sides keeps them: where both edges of a side would round
   to the same integer, they are moved apart to the one unit that holds the middle of the side, because x1 < x2 is
   part of a well-formed answer (see `completions`).
3. An answer's integers survive the way to pixels and back unchanged. A pixel box comes back from an answer within
   half a unit of the answer's space per edge (one unit where rule 2 moved an edge).

`smart_resize` deviations from Qwen2-VL's function of the same purpose (it agrees with it everywhere else, so that
a stored resized size is what the processor will make):
1. Arguments and result are (width, height), like every size in this package; theirs is (height, width).
2. A picture so long and thin that no size of its shape fits into `max_pixels` is refused; theirs returns a size
   above the bound.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np
from numpy.typing import ArrayLike

from vr1kit.boxes import Boxes, as_boxes

MAX_ASPECT_RATIO = 200  # Qwen2-VL image processor
QWEN2_MIN_PIXELS = 56 * 56  # Qwen2-VL image processor, its default
PAPER_MAX_PIXELS = 401408  # released script, 512 tokens of 28 x 28


class CoordinateSpace(Enum):
    PIXELS = "pixels"
    MODEL_INPUT = "model_input"
    NORM1000 = "norm1000"


def smart_resize(
    width: int,
    height: int,
    factor: int = 28,
    min_pixels: int = QWEN2_MIN_PIXELS,
    max_pixels: int = PAPER_MAX_PIXELS,
) -> tuple[int, int]:
    """The (width, height) at which a model of the Qwen-VL families sees a picture.

    Both sides become the nearest multiples of `factor`. If that is more than `max_pixels`, the picture shrinks to
    the budget at its own aspect ratio and both sides are cut down to multiples; if it is less than `min_pixels` it
    grows likewise, and both are filled up to multiples. The upper bound always holds. The lower one holds but for
    a shrunk picture, whose cut-down sides may miss it when the two bounds are close together.
    """
    for name, value in (("width", width), ("height", height), ("factor", factor), ("min_pixels", min_pixels)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive, got {value!r}")
    if not min_pixels <= max_pixels:
        raise ValueError(f"max_pixels must be at least min_pixels {min_pixels}, got {max_pixels!r}")
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise ValueError(f"width x height may be at most {MAX_ASPECT_RATIO} : 1, got {width} x {height}")

    resized = [factor * round(side / factor) for side in (width, height)]
    if resized[0] * resized[1] > max_pixels:
        shrink = math.sqrt(width * height / max_pixels)
        resized = [factor * max(1, math.floor(side / shrink / factor)) for side in (width, height)]
    elif resized[0] * resized[1] < min_pixels:
        grow = math.sqrt(min_pixels / (width * height))
        resized = [factor * math.ceil(side * grow / factor) for side in (width, height)]
    if resized[0] * resized[1] > max_pixels:
        raise ValueError(f"max_pixels {max_pixels} cannot hold {width} x {height} in multiples of {factor}")
    return resized[0], resized[1]


def space_size(
    space: CoordinateSpace, image_size: tuple[float, float], input_size: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The (width, height) of `space`: what `completions` and `rewards` call `size` for answers written in it.

    `image_size` is the original picture's, `input_size` the resized one's, needed for model_input alone.
    """
    match CoordinateSpace(space):
        case CoordinateSpace.PIXELS:
            size, name = image_size, "image_size"
        case CoordinateSpace.NORM1000:
            return 1000.0, 1000.0
        case CoordinateSpace.MODEL_INPUT:
            if input_size is None:
                raise ValueError("input_size is needed for model_input coordinates, got None")
            size, name = input_size, "input_size"
    width, height = size
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"{name} must be two positive numbers, got {size!r}")
    return width, height


def convert_boxes_xyxy(
    boxes_xyxy: ArrayLike,
    source: CoordinateSpace,
    target: CoordinateSpace,
    image_size: tuple[float, float],
    input_size: tuple[float, float] | None = None,
) -> Boxes:
    """Boxes of `source` in coordinates of `target`, not rounded."""
    boxes_xyxy = as_boxes(boxes_xyxy, "boxes_xyxy")
    source_size = np.asarray(space_size(source, image_size, input_size) * 2)  # (4,)
    target_size = np.asarray(space_size(target, image_size, input_size) * 2)  # (4,)
    return boxes_xyxy * target_size / source_size  # (N, 4)


def round_boxes_xyxy(boxes_xyxy: ArrayLike, size: tuple[float, float]) -> Boxes:
    """Boxes as an answer writes them: whole numbers inside a space of whole `size`; see rule 2 of the module."""
    boxes_xyxy = as_boxes(boxes_xyxy, "boxes_xyxy")
    last = np.floor(np.asarray(size, dtype=np.float64))  # (2,)
    low, high = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    rounded_low = np.clip(np.floor(low + 0.5), 0, last)  # (N, 2)
    rounded_high = np.clip(np.floor(high + 0.5), 0, last)  # (N, 2)
    collapsed = (rounded_low == rounded_high) & (low < high)  # (N, 2)
    unit = np.clip(np.floor((low + high) / 2), 0, last - 1)  # (N, 2)
    return np.hstack([np.where(collapsed, unit, rounded_low), np.where(collapsed, unit + 1, rounded_high)])  # (N, 4)
