"""Score the answers of any model: a JSONL file of completions against a COCO file, the work behind `vr1kit score`.

One line is one answer. `image_id` is the COCO file's; its `file_name` may stand in its place:

    {"image_id": 3, "completion": "[{\\"bbox_2d\\": [10, 20, 40, 30], \\"label\\": \\"cat\\"}]"}
    {"file_name": "a.png", "phrase": "cat", "completion": "...", "input_width": 644, "input_height": 476}

Decisions:
1. The ground truth is what `data.read_coco` keeps. Crowd regions are left out, so a box on a crowd is a surplus one.
2. `phrase` (one category) and `categories` (a list) limit the ground truth to what was asked for. A name that is no category of
   the file is refused: else a typing error would read as "there is nothing to find".
3. The ground truth goes into the space of the answer, unrounded: an exact answer loses what its own whole numbers lose.
4. Every line is read before the first is scored, and the result is written in one piece: bad input writes nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vr1kit.boxes import iou_matrix
from vr1kit.completions import ANSWER_REASONS, CONTENT_REASONS, ITEM_REASONS, MAX_SIDE, parse_completion
from vr1kit.coordinates import CoordinateSpace, convert_boxes_xyxy, space_size
from vr1kit.criteria import ADVANCED, BEGINNER
from vr1kit.data import DetectionSet, Record, read_coco
from vr1kit.rewards import VARIANTS, Score, score_completion
from vr1kit.safekeeping.files import to_jsonable, write_text_atomic

STAGES = {"beginner": BEGINNER, "advanced": ADVANCED}
SHOWN = 20  # rows of the table; ours: a screen
PARTS = ("dual_format", "recall", "precision", "total")
HINT_ANSWERS = 1000  # ours: enough to tell one space from another
SPELLED = {space: space.value.replace("_", "-") for space in CoordinateSpace}  # as the command line does
EXAMPLE = '{"image_id": 3, "completion": "[...]"}'


@dataclass(frozen=True)
class Answer:
    """One line of the file, and the ground truth it is held against in picture pixels."""

    line: int
    completion: str
    image_id: int | str
    picture: str  # its file name
    image_size: tuple[float, float]
    input_size: tuple[float, float] | None
    truth_xyxy_px: np.ndarray  # (G, 4)
    truth_labels: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """All answers of a file, their scores, and how they were made."""

    answers: tuple[Answer, ...]
    scores: tuple[Score, ...]
    variant: str
    stage: str
    space: CoordinateSpace


def score_file(
    completions: Path, annotations: Path, variant: str, stage: str, coordinates: str, out: Path | None = None
) -> Scores:
    """Read both files, score every line, write `out`. ValueError or OSError, in one line, for whatever is wrong with them."""
    for name, value, known in (("variant", variant, VARIANTS), ("stage", stage, STAGES)):
        if value not in known:
            raise ValueError(f"there is no {name} '{value}'; choose one of {', '.join(known)}")
    if out and (out.is_dir() or out.resolve() in (completions.resolve(), annotations.resolve())):
        raise ValueError(f"--out {out} is {'a folder' if out.is_dir() else 'an input file'}; name a new file")
    space = CoordinateSpace(coordinates.replace("-", "_"))
    answers = tuple(read_answers(completions, read_coco(annotations), space))
    if not answers:
        raise ValueError(f"{completions}: no completions in it; each line should be like {EXAMPLE}")
    result = Scores(answers, tuple(score_answer(each, space, variant, stage) for each in answers), variant, stage, space)
    if out:
        write_text_atomic(out, "".join(json.dumps(row, allow_nan=False) + "\n" for row in to_rows(result)))
    return result


def score_answer(answer: Answer, space: CoordinateSpace, variant: str, stage: str) -> Score:
    truth = convert_boxes_xyxy(answer.truth_xyxy_px, CoordinateSpace.PIXELS, space, answer.image_size, answer.input_size)
    size = space_size(space, answer.image_size, answer.input_size)
    return score_completion(answer.completion, truth, answer.truth_labels, size, STAGES[stage], variant)


def read_answers(path: Path, data: DetectionSet, space: CoordinateSpace) -> Iterator[Answer]:
    """The answers of a JSONL file, in order; ValueError names the line. Empty lines are skipped."""
    try:
        file = open(path, "rb")  # bytes: only "\n" ends a line of JSONL, and a bad character belongs to one line
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; give the path of a JSONL file with lines like {EXAMPLE}") from None
    by_id = {record.image_id: record for record in data.records}
    by_name: dict[str, Record | None] = {}
    for record in data.records:
        name = _file_name(record, data)
        by_name[name] = None if name in by_name else record
    with file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            try:
                yield _read_answer(number, raw, by_id, by_name, data, space)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from None


def _read_answer(number: int, raw: bytes, by_id: dict, by_name: dict, data: DetectionSet, space: CoordinateSpace) -> Answer:
    try:
        line = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({getattr(error, 'msg', error)}); each line should be like {EXAMPLE}") from None
    if not isinstance(line, dict) or not isinstance(line.get("completion"), str):
        raise ValueError(f"no text under 'completion'; each line should be like {EXAMPLE}")
    record = _find_record(line, by_id, by_name, data)
    asked = _asked_for(line, data)
    kept = [index for index, label in enumerate(record.labels) if asked is None or label in asked]
    input_size = line.get("input_width"), line.get("input_height")
    input_size = None if input_size == (None, None) else _check_size("input_width and input_height", *input_size)
    if space is CoordinateSpace.MODEL_INPUT and input_size is None:
        what = "model-input coordinates need input_width and input_height, the picture's size as the model saw it"
        raise ValueError(f"{what}; if it saw the picture as it is, use --coordinates pixels")
    image_size = _check_size(f"the size of picture {record.image_id!r} in {data.annotations}", record.width, record.height)
    truth = record.boxes_xyxy_px[kept], tuple(record.labels[index] for index in kept)
    return Answer(number, line["completion"], record.image_id, _file_name(record, data), image_size, input_size, *truth)


def _file_name(record: Record, data: DetectionSet) -> str:
    folder = data.annotations.parent / "images"  # as `read_coco` made it; other readers have their own folders
    return (
        record.image_path.relative_to(folder).as_posix() if record.image_path.is_relative_to(folder) else record.image_path.name
    )


def _find_record(line: dict, by_id: dict, by_name: dict, data: DetectionSet) -> Record:
    for key, known in (("image_id", by_id), ("file_name", by_name)):
        value = line.get(key)
        if value is None:
            continue
        if type(value) in (int, str) and value in known:
            if known[value] is None:
                raise ValueError(f"several pictures have the file_name {value!r}; use image_id")
            return known[value]
        some = ", ".join(map(repr, list(known)[:3])) or "none"
        raise ValueError(f"no picture with {key} {value!r} in {data.annotations}; it has {len(known)}, such as {some}")
    raise ValueError(f"neither image_id nor file_name; each line should be like {EXAMPLE}")


def _asked_for(line: dict, data: DetectionSet) -> set[str] | None:
    """The categories that the line limits the ground truth to; None: all."""
    names = [line["phrase"]] if line.get("phrase") is not None else line.get("categories")
    if names is None:
        return None
    if not isinstance(names, list):
        raise ValueError(f'categories must be a list such as ["cat", "dog"], got {names!r}')
    for name in names:
        if not isinstance(name, str) or name not in data.categories:
            there = ", ".join(list(data.categories)[:8]) + (", ..." if len(data.categories) > 8 else "")
            raise ValueError(f"{name!r} is no category of {data.annotations}; use its names: {there}")
    return set(names)


def _check_size(what: str, width: Any, height: Any) -> tuple[float, float]:
    if not all(type(side) in (int, float) and 0 < side <= MAX_SIDE for side in (width, height)):
        raise ValueError(f"{what} must be two positive numbers, got {width!r} and {height!r}")
    return width, height


def to_rows(result: Scores) -> list[dict[str, Any]]:
    """One JSON object per answer: every part of its score, and what it was made from, boxes in picture pixels."""
    rows = []
    for answer, score in zip(result.answers, result.scores, strict=True):
        boxes = score.parsed.boxes_xyxy
        boxes_px = convert_boxes_xyxy(boxes, result.space, CoordinateSpace.PIXELS, answer.image_size, answer.input_size)
        matches = zip(score.p_idx, score.g_idx, score.ious, score.valid, strict=True)
        rows.append({
            "line": answer.line, "image_id": answer.image_id, "file_name": answer.picture,
            "variant": result.variant, "stage": result.stage, "coordinates": SPELLED[result.space],
            **{part: getattr(score, part) for part in PARTS},
            "reasons": score.parsed.reasons, "boxes_xyxy_px": boxes_px, "labels": score.parsed.labels,
            "box_scores": score.instance_scores, "truth_xyxy_px": answer.truth_xyxy_px, "truth_labels": answer.truth_labels,
            "matches": [dict(zip(("box", "truth", "overlap", "valid"), match, strict=True)) for match in matches],
        })  # fmt: skip
    return to_jsonable(rows)


def describe(result: Scores, out: Path | None = None) -> list[str]:
    """What the command prints: a table, means, reasons, and perhaps a hint."""
    shown = list(zip(result.answers, result.scores, strict=True))[:SHOWN]
    names = [answer.picture[-32:] for answer, _ in shown]
    row = f"{{:>5}}  {{:<{max(7, *map(len, names))}}}  {{:>5}}  {{:>5}}  {{:>6}}  {{:>6}}  {{:>9}}  {{:>6}}".format
    lines = [row("line", "picture", "boxes", "truth", "format", "recall", "precision", "total")]
    for name, (answer, score) in zip(names, shown, strict=True):
        parts = (f"{getattr(score, part):.3f}" for part in PARTS)
        lines.append(row(answer.line, name, len(score.instance_scores), len(answer.truth_labels), *parts))
    means = (f"{np.mean([getattr(score, part) for score in result.scores]):.3f}" for part in PARTS)
    lines.append(row("mean", f"of {len(result.scores)}", "", "", *means))
    if len(result.scores) > SHOWN:
        rest = f"in {out}" if out else "(--out FILE writes them all)"
        lines.insert(-1, f"... and {len(result.scores) - SHOWN} more {rest}")
    head = f"variant {result.variant}, stage {result.stage}, coordinates {SPELLED[result.space]}"
    lines = [head, "", *lines, ""]
    counts = Counter(reason for score in result.scores for reason in score.parsed.reasons)
    for title, table in (("dropped items", ITEM_REASONS | CONTENT_REASONS), ("flaws of form, by answers", ANSWER_REASONS)):
        lines.append(f"{title}:" if counts.keys() & table else f"{title}: none")
        lines += [f"{counts[reason]:5}  {reason:<16}  {what}" for reason, what in table.items() if reason in counts]
    hint = coordinates_hint(result.answers, result.space)
    return [*lines, "", f"hint: {hint}"] if hint else lines


def coordinates_hint(answers: Sequence[Answer], space: CoordinateSpace) -> str | None:
    """A sentence if the answers look written in another space than `space`, else None.

    The reliable test asks the ground truth: read the same numbers in each space and count the objects that some box overlaps
    by half. A wrong scale cannot find objects by luck, so if another space finds more than twice as many, and at least a tenth
    of all, it is named. Sizes alone cannot decide: in 640 x 480, boxes up to 480 are good pixels and good norm1000 alike.
    Where no space finds anything, what is left is that boxes beyond the right or bottom edge by 5 % and more, a quarter of all,
    are no model's inaccuracy. (All three numbers are ours.)
    """
    found = dict.fromkeys([space, *CoordinateSpace], 0)
    boxes, beyond, largest, objects = 0, 0, 0.0, 0
    for answer in answers[:HINT_ANSWERS]:
        numbers = parse_completion(answer.completion, (MAX_SIDE, MAX_SIDE)).boxes_xyxy  # as written, whatever the space
        sizes = answer.image_size, answer.input_size
        boxes, objects = boxes + len(numbers), objects + len(answer.truth_labels)
        beyond += int((numbers[:, 2:] > 1.05 * np.asarray(space_size(space, *sizes))).any(axis=1).sum())
        largest = max(largest, numbers.max(initial=0.0))
        for other in found:
            if len(numbers) and (answer.input_size or other is not CoordinateSpace.MODEL_INPUT):
                boxes_px = convert_boxes_xyxy(numbers, other, CoordinateSpace.PIXELS, *sizes)
                found[other] += int((iou_matrix(boxes_px, answer.truth_xyxy_px).max(axis=0) >= 0.5).sum())
    best = max(found, key=lambda other: found[other])
    if found[best] > 2 * found[space] and found[best] >= objects / 10:
        much = f"the boxes find {found[best]} of {objects} objects, as {SPELLED[space]} only {found[space]}"
        return f"read as {SPELLED[best]}, {much}; is --coordinates {SPELLED[best]} meant?"
    if boxes and largest <= 1:
        return "all coordinates lie within 0 to 1: multiply them by 1000 and use --coordinates norm1000"
    if beyond > boxes / 4:
        return f"{beyond} of {boxes} boxes reach far beyond the picture in {SPELLED[space]}; is another --coordinates meant?"
    return None
