"""What is asked and how a right answer is written: Qwen2.5-VL's prompts and JSON (paper Sec. 3.4, released code).

Boxes in answers are integers in the pixels of the *resized model input* (Qwen2.5-VL's convention).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# released prompts of Qwen2.5-VL
DETECTION_PROMPT = (
    "Locate every item from the category list in the image and output the coordinates in JSON format. "
    "The category set includes {categories}."
)
GROUNDING_PROMPT = "Locate every {phrase} in the image and output the coordinates in JSON format."


def ask_detection(categories: Sequence[str]) -> str:
    return DETECTION_PROMPT.format(categories=", ".join(categories))


def ask_grounding(phrase: str) -> str:
    return GROUNDING_PROMPT.format(phrase=phrase)


def sort_left_to_right(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Reading order of answers: by left edge, then top (ours: the first number written is the one sorted by). -> (N,) order."""
    return np.lexsort((boxes_xyxy[:, 1], boxes_xyxy[:, 0]))


def write_answer(boxes_xyxy: np.ndarray, labels: Sequence[str]) -> str:
    """JSON list in the given order; boxes (N, 4) are rounded to integers, halves up."""
    items = (
        f'{{"bbox_2d": {[math.floor(float(v) + 0.5) for v in box]}, "label": "{label}"}}'
        for box, label in zip(boxes_xyxy, labels, strict=True)
    )
    return "[" + ", ".join(items) + "]"
