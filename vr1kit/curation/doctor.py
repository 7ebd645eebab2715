"""What is wrong between a dataset and a model's answers: findings, each with what to change.

1. **Space.** The same numbers are read in each coordinate space; the one with the highest mean IoU of matched boxes is the one that
   the answers are written in. Boxes are matched one to one in each space (`vr1kit.matching`), and the mean is over the matched pairs.
2. **Bounds.** Two processors with other pixel bounds show the model other pictures in training and in evaluation, and the numbers
   of an answer in model-input pixels mean other places.
3. **Labels.** A label that is no category earns nothing; near spellings are named.
4. **Length.** Picture tokens (one for each `factor` x `factor` px of the model input), the prompt and a right answer must fit the limits.

The doctor looks at numbers only and changes nothing.
"""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vr1kit.boxes import iou_matrix
from vr1kit.completions import MAX_SIDE, parse_completion
from vr1kit.coordinates import CoordinateSpace, convert_boxes_xyxy, smart_resize
from vr1kit.data import ask
from vr1kit.families import FAMILIES
from vr1kit.matching import match_boxes
from vr1kit.prompts import write_answer
from vr1kit.records import DataError, DetectionSet
from vr1kit.scoring import SPELLED, Answer

MARGIN = 0.05  # mean IoU by which a space must lead to be named; ours
FOUND = 0.3  # mean IoU below which the best space explains nothing; ours
ANSWERS = 2000  # looked at; ours
LETTERS_A_TOKEN = 3.0  # of prompts and answers where no tokenizer is given; ours, low on purpose: digits are tokens of their own


@dataclass(frozen=True)
class Finding:
    """One result: `level` is "ok", "problem" or "unclear"."""

    level: str
    topic: str  # space | bounds | labels | length
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.level:<8}{self.topic:<8}{self.what}" + (f"; {self.remedy}" if self.remedy else "")


@dataclass(frozen=True)
class Processor:
    """How a model's processor sizes pictures: sides are multiples of `factor`, pixels lie within the bounds."""

    name: str
    family: str | None  # a key of families.FAMILIES
    factor: int
    min_pixels: int
    max_pixels: int

    def input_size(self, width: int, height: int) -> tuple[int, int]:
        return smart_resize(width, height, self.factor, self.min_pixels, self.max_pixels)


def read_processor(folder: str | Path) -> Processor:
    """The processor of a saved model, from preprocessor_config.json and config.json. Raises DataError."""
    folder = Path(folder)
    config = _read_object(folder / "preprocessor_config.json")
    size = config.get("size") if isinstance(config.get("size"), dict) else {}
    low, high = (
        config.get(old) or size.get(new) for old, new in (("min_pixels", "shortest_edge"), ("max_pixels", "longest_edge"))
    )
    numbers = [config.get("patch_size"), config.get("merge_size", 2), low, high]
    if not all(type(number) is int and number > 0 for number in numbers):
        what = f"{folder / 'preprocessor_config.json'}: patch_size, merge_size and pixel bounds are not whole numbers"
        raise DataError(f"{what}; give the folder of a Qwen-VL model")
    family = _read_object(folder / "config.json").get("model_type") if (folder / "config.json").is_file() else None
    return Processor(folder.name, family if family in FAMILIES else None, numbers[0] * numbers[1], low, high)


def _read_object(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); give the folder of a saved model") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: not a JSON object; give the folder of a saved model")
    return value


# --- space ------------------------------------------------------------------------------------------------------------------
def measure_spaces(answers: Sequence[Answer], processor: Processor | None = None) -> dict[CoordinateSpace, float]:
    """The mean IoU of matched boxes for each space that the numbers of the answers can be read in, 0 to 1.

    Model input needs the picture's size as the model saw it: the answer's own, else what the processor makes of it.
    """
    overlaps: dict[CoordinateSpace, list[float]] = {space: [] for space in CoordinateSpace}
    for answer in answers[:ANSWERS]:
        numbers = parse_completion(answer.completion, (MAX_SIDE, MAX_SIDE)).boxes_xyxy
        if not len(numbers) or not len(answer.truth_labels):
            continue
        seen = answer.input_size or (processor.input_size(*map(round, answer.image_size)) if processor else None)
        for space, found in overlaps.items():
            if space is CoordinateSpace.MODEL_INPUT and seen is None:
                continue
            boxes_px = convert_boxes_xyxy(numbers, space, CoordinateSpace.PIXELS, answer.image_size, seen)
            iou = iou_matrix(boxes_px, answer.truth_xyxy_px)
            found += iou[match_boxes(iou)].tolist()
    return {space: float(np.mean(found)) for space, found in overlaps.items() if found}


def check_space(
    answers: Sequence[Answer], expected: CoordinateSpace | None = None, processor: Processor | None = None
) -> Finding:
    """Which space the answers are in, and whether it is the expected one."""
    means = measure_spaces(answers, processor)
    if not means:
        return Finding(
            "unclear", "space", "no answer has a box where there is one to find", "give answers to pictures with objects"
        )
    ranked = sorted(means, key=means.__getitem__, reverse=True)
    best = ranked[0]
    shown = ", ".join(f"{SPELLED[space]} {means[space]:.2f}" for space in ranked)
    table = f"mean IoU of matched boxes: {shown}"
    if CoordinateSpace.MODEL_INPUT not in means:
        table += "; model-input could not be tried without input_width and input_height, or a processor"
    if means[best] < FOUND:
        return Finding(
            "unclear", "space", f"in no space do the boxes lie on objects ({table})", "look at the answers, or at the annotations"
        )
    close = [space for space in ranked[1:] if means[best] - means[space] < MARGIN]
    if close and expected not in (best, *close):
        names = " or ".join(SPELLED[space] for space in (best, *close))
        return Finding(
            "unclear", "space", f"{names}, too close to tell ({table})", "give more answers, to pictures of several sizes"
        )
    if expected is None or expected in (best, *close):
        return Finding("ok", "space", f"answers are in {SPELLED[expected or best]} ({table})")
    remedy = f"read them with --coordinates {SPELLED[best]}, or train on {SPELLED[expected]}"
    return Finding("problem", "space", f"answers are in {SPELLED[best]}, not in {SPELLED[expected]} ({table})", remedy)


# --- bounds -----------------------------------------------------------------------------------------------------------------
def check_bounds(training: Processor, evaluation: Processor, sizes: Sequence[tuple[int, int]]) -> Finding:
    """Whether both processors show a model the same pictures; `sizes` are (width, height) px of the set's."""
    differ = [size for size in sizes if _try_size(training, size) != _try_size(evaluation, size)]
    bounds = [f"{p.min_pixels:,} to {p.max_pixels:,} px in multiples of {p.factor} ({p.name})" for p in (training, evaluation)]
    if not differ:
        if (training.min_pixels, training.max_pixels, training.factor) == (
            evaluation.min_pixels,
            evaluation.max_pixels,
            evaluation.factor,
        ):
            return Finding("ok", "bounds", f"training and evaluation see the same sizes: {bounds[0]}")
        return Finding("ok", "bounds", f"bounds differ, but not for these pictures: {bounds[0]}; {bounds[1]}")
    width, height = differ[0]
    case = f"{width} x {height} becomes {_show(training, differ[0])} in training and {_show(evaluation, differ[0])} in evaluation"
    what = f"{len(differ)} of {len(sizes)} pictures are seen in other sizes: {bounds[0]}, {bounds[1]}; {case}"
    return Finding(
        "problem", "bounds", what, f"set min_pixels={training.min_pixels} and max_pixels={training.max_pixels} in evaluation"
    )


def _try_size(processor: Processor, size: tuple[int, int]) -> tuple[int, int] | None:
    try:
        return processor.input_size(*size)
    except ValueError:  # too long and thin
        return None


def _show(processor: Processor, size: tuple[int, int]) -> str:
    seen = _try_size(processor, size)
    return f"{seen[0]} x {seen[1]}" if seen else "nothing (too long and thin)"


# --- labels -----------------------------------------------------------------------------------------------------------------
def check_labels(answers: Sequence[Answer], categories: Mapping[str, int]) -> Finding:
    """Whether the labels in the answers are categories of the set."""
    labels = Counter(
        label for answer in answers[:ANSWERS] for label in parse_completion(answer.completion, (MAX_SIDE, MAX_SIDE)).labels
    )
    if not categories:
        return Finding("ok", "labels", "the set has phrases, no categories")
    unknown = {label: n for label, n in labels.items() if label not in categories}
    total, wrong = sum(labels.values()), sum(unknown.values())
    if not total:
        return Finding("unclear", "labels", "the answers have no labels")
    if not unknown:
        return Finding("ok", "labels", f"all {total} labels are categories")
    worst = sorted(unknown, key=lambda label: (-unknown[label], label))[:5]
    shown = ", ".join(f"{label[:40]!r} ({unknown[label]} times{_suggest(label, categories)})" for label in worst)
    return Finding(
        "problem",
        "labels",
        f"{wrong} of {total} labels are no categories: {shown}",
        "put the category list in the prompt, or rename categories",
    )


def _suggest(label: str, categories: Mapping[str, int]) -> str:
    plain = {" ".join(name.lower().replace("_", " ").replace("-", " ").split()): name for name in categories}
    near = difflib.get_close_matches(" ".join(label.lower().replace("_", " ").replace("-", " ").split()), list(plain), 1, 0.8)
    return f", perhaps {plain[near[0]]!r}" if near else ""


# --- length -----------------------------------------------------------------------------------------------------------------
def check_length(
    data: DetectionSet,
    processor: Processor,
    max_prompt: int,
    max_completion: int,
    count_tokens: Callable[[str], int] | None = None,
    pictures: int = ANSWERS,
) -> Finding:
    """Whether picture tokens and prompt, and a right answer, fit their limits in tokens. Without a tokenizer, letters are counted."""
    count = count_tokens or (lambda text: int(len(text) / LETTERS_A_TOKEN) + 1)
    categories, guessed = list(data.categories), "" if count_tokens else " (estimated: no tokenizer)"
    prompts: dict[str, int] = {}
    long_prompts, long_answers, unseen, worst = 0, 0, 0, (0, 0, None)
    chosen = [
        data.records[int(k)]
        for k in np.unique(np.linspace(0, len(data.records) - 1, min(pictures, len(data.records))).astype(int))
    ]
    for record in chosen:
        phrase = record.labels[0] if data.phrases and record.labels else None
        example = ask(record, categories, phrase)
        seen = _try_size(processor, (record.width, record.height))
        if seen is None:
            unseen += 1
            continue
        image = seen[0] * seen[1] // processor.factor**2
        if example.prompt not in prompts:
            prompts[example.prompt] = count(example.prompt)
        asked = image + prompts[example.prompt]
        answered = count(write_answer(example.boxes_xyxy_px, example.labels))
        long_prompts += asked > max_prompt
        long_answers += answered > max_completion
        worst = max(
            worst, (max(asked / max_prompt, answered / max_completion), asked, record.image_path.name), key=lambda w: w[0]
        )
    parts = [
        f"{long_prompts} of {len(chosen)} pictures with their prompts are longer than {max_prompt} tokens" * bool(long_prompts),
        f"{long_answers} right answers are longer than {max_completion} tokens" * bool(long_answers),
        f"{unseen} pictures are too long and thin for the model" * bool(unseen),
    ]
    if not any(parts):
        return Finding("ok", "length", f"pictures, prompts and answers fit {max_prompt} and {max_completion} tokens{guessed}")
    remedy = f"raise the limits, lower max_pixels, or filter such pictures; the longest is {worst[2]}"
    return Finding("problem", "length", " and ".join(filter(None, parts)) + guessed, remedy)
