"""Accuracy: right or wrong for one answer at a time, of referring expressions and of general questions.

    right = judge_expression(boxes_xyxy, truth_xyxy)              # IoU of the first box with the object, at least 0.5
    right = judge_answer("55", ("53",), "relaxed")                # within 5 %

Referring expressions, as RefCOCO/+/g are scored: an expression is right if the answer's box has IoU >= 0.5 with the object that
was meant. Decisions: the first box of an answer counts, whatever its label and however many follow (they are counted); an
answer without a box is wrong. Of an expression that stands for several objects of its picture each object is one row.

Questions, by the rule of their benchmark (as lmms-eval 0.7 applies them; what differs is said):

    exact     GQA: equal without case and punctuation
    relaxed   ChartQA: numbers within 5 % of the true one, 12 % being 0.12; text equal without case. A true 0 must be written alike.
    choice    AI2D, SEED: the letter of the option. It is the first character where no letter or digit follows, else the only
              option letter that stands alone ("the answer is (B)"), else that of the option written out. SEED's own rule takes the first
              character of any answer, so that "Because ..." is a B: not here.

A file of questions is JSON Lines, one {image, question, answer} each, `image` relative to the file; may also have `id`, `kind` (for
the table), `options` (a list) and `benchmark`, one of BENCHMARKS, which sets the rule and the words after the question. `answer` may
be a list of right ones; with options it is a letter, or else one of them written out. What the benchmarks publish is read by
`vr1kit.formats.question_sets`. No torch.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vr1kit.boxes import Boxes, iou_matrix
from vr1kit.data import DetectionSet, Record
from vr1kit.formats.folders import PictureFolder
from vr1kit.formats.question_sets import QuestionSet
from vr1kit.prompts import ask_grounding
from vr1kit.records import BadRecord, DataError, shorten

FOUND = 0.5  # IoU at which RefCOCO calls an object found
TOLERANCE = 0.05  # ChartQA (Masry et al. 2022, sec. 5.1)
LETTERS = string.ascii_uppercase
# Benchmark -> rule and the words after the question, lmms-eval's for models without words of their own.
BENCHMARKS = {
    "gqa": ("exact", "\nAnswer the question using a single word or phrase."),
    "chartqa": ("relaxed", "\nAnswer the question with a single word."),
    "ai2d": ("choice", "\nAnswer with the option's letter from the given choices directly."),
    "seed": ("choice", "\nAnswer with the option's letter from the given choices directly."),
}


# --- referring expressions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Expression:
    """One phrase of one picture, and the object that is meant: (4,) in picture pixels."""

    record: Record
    phrase: str
    box_xyxy_px: np.ndarray

    @property
    def prompt(self) -> str:
        return ask_grounding(self.phrase)


def list_expressions(data: DetectionSet) -> list[Expression]:
    """Every phrase of a set, by picture. Raises DataError for a set whose labels are categories."""
    if not data.phrases:
        raise DataError(f"set '{data.name}' has categories, not expressions; evaluate it as detection")
    return [
        Expression(record, phrase, box)
        for record in data.records
        for phrase, box in zip(record.labels, record.boxes_xyxy_px, strict=True)
    ]


def judge_expression(boxes_xyxy: Boxes, truth_xyxy: np.ndarray) -> float:
    """IoU of the first of P boxes with the object, 0 without a box; right from FOUND on."""
    return float(iou_matrix(boxes_xyxy[:1], np.asarray(truth_xyxy).reshape(1, 4))[0, 0]) if len(boxes_xyxy) else 0.0


# --- questions -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """One question about one picture, its right answers and the rule by which they are compared."""

    image_path: Path
    image: str  # as the file writes it: pictures of one name are resampled together
    id: Any
    prompt: str
    answers: tuple[str, ...]
    rule: str  # exact | relaxed | choice
    kind: str
    options: tuple[str, ...] = ()


def read_questions(path: str | os.PathLike) -> list[Question]:
    """A JSONL file of questions. Raises DataError for the first line that cannot be used, naming it."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); give a JSON Lines file of questions") from None
    pictures = PictureFolder(path.parent)
    rows = ((f"line {k}", lambda line=line: _parse(line), pictures.find) for k, line in enumerate(lines, 1) if line.strip())
    return _make_questions(path, rows)


def list_questions(found: QuestionSet) -> list[Question]:
    """The questions of a published set. Raises DataError for the first that cannot be used."""
    entries = ((e.which, lambda e=e: e.row, lambda _, e=e: e.image_path) for e in found.entries)
    return _make_questions(found.file, entries)


def _make_questions(file: Path, rows: Iterable[tuple[str, Callable[[], Any], Callable[[str], Path]]]) -> list[Question]:
    """Of (what to call it, what reads it, what finds its picture)."""
    questions, seen = [], {}
    for number, (which, read, find) in enumerate(rows, 1):
        try:
            question = _make_question(read(), find, number)
        except BadRecord as error:
            raise error.at(file, which) from None
        if question.id in seen:
            raise DataError(f"{file}: {seen[question.id]} and {which} have the same id {question.id!r}; make ids unique")
        seen[question.id] = which
        questions.append(question)
    if not questions:
        raise DataError(f"{file}: holds no question; give one JSON object a line")
    return questions


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise BadRecord("malformed", f"is not JSON ({error}); mend it") from None


def _make_question(row: Any, find: Callable[[str], Path], number: int) -> Question:
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) and row[key] for key in ("image", "question")):
        raise BadRecord("malformed", f"is {shorten(row)}; give at least image, question and answer, as text")
    answers = row.get("answer")
    answers = answers if isinstance(answers, list) else [answers]
    if not answers or not all(isinstance(a, str | int | float) and not isinstance(a, bool) and str(a).strip() for a in answers):
        raise BadRecord("malformed", f"has {shorten(row.get('answer'))} as answer; give a text, or a list of right ones")
    benchmark = row.get("benchmark")
    if benchmark is not None and (not isinstance(benchmark, str) or benchmark not in BENCHMARKS):
        raise BadRecord("malformed", f"has the benchmark {shorten(benchmark)}; known are {', '.join(BENCHMARKS)}")
    rule, words = BENCHMARKS.get(benchmark, ("exact", ""))
    options = row.get("options") or []
    if not isinstance(options, list) or not all(isinstance(o, str) for o in options) or len(options) > len(LETTERS):
        raise BadRecord("malformed", f"has {shorten(options)} as options; give a list of at most {len(LETTERS)} texts")
    if options:
        rule, words = "choice", words or BENCHMARKS["ai2d"][1]
        words = "\n" + "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)) + words
    known = LETTERS[: len(options)]
    if rule == "choice" and not (options and all(str(a).strip() in {*known, *options} for a in answers)):
        raise BadRecord(
            "malformed", f"has the answer {shorten(answers[0])}, none of its options; give options, and a letter or one of them"
        )
    return Question(
        find(row["image"]), row["image"], row.get("id", number), row["question"] + words, tuple(str(a).strip() for a in answers),
        rule, str(row.get("kind") or benchmark or "all"), tuple(options),
    )  # fmt: skip


def judge_answer(text: str, answers: Sequence[str], rule: str, options: Sequence[str] = ()) -> bool:
    """Is an answer right by the rule, for any of the right answers? Raises ValueError for an unknown rule."""
    text = text.strip()
    if rule == "exact":
        return any(_plain(text) == _plain(a) for a in answers)
    if rule == "relaxed":
        return any(_is_close(text, a) for a in answers)
    if rule == "choice":
        chosen = read_choice(text, options)
        letters = LETTERS[: len(options)]  # of the options A: "C", B: "A" the answer "A" is the first, not the second
        return chosen is not None and any(chosen == a if a in letters else options[LETTERS.index(chosen)] == a for a in answers)
    raise ValueError(f"unknown rule {rule!r}; known are exact, relaxed, choice")


def _plain(text: str) -> str:
    return " ".join(text.lower().translate(str.maketrans("", "", string.punctuation)).split())


def _is_close(text: str, truth: str) -> bool:
    said, true = _to_number(text), _to_number(truth)
    if said is not None and true:
        return abs(said - true) / abs(true) <= TOLERANCE
    return text.lower() == truth.lower()


def _to_number(text: str) -> float | None:
    try:
        value = float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def read_choice(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that an answer names, or None."""
    letters = LETTERS[: len(options)]
    if text[:1] in letters and text[:1] and not text[1:2].isalnum():
        return text[0]
    alone = set(re.findall(r"(?<![A-Za-z0-9'])([A-Z])(?![A-Za-z0-9'])", text)) & set(letters)
    if len(alone) == 1:
        return alone.pop()
    written = [letter for letter, option in zip(letters, options, strict=True) if _plain(option) == _plain(text)]
    return written[0] if len(written) == 1 else None


# --- counting ------------------------------------------------------------------------------------------------------------


def count_by_picture(rows: Sequence[Mapping], pictures: Sequence[Any]) -> np.ndarray:
    """Rows {image_id, right} -> (I, 2): right ones and all of them, for each of `pictures`."""
    place = {picture: i for i, picture in enumerate(pictures)}
    counts = np.zeros((len(pictures), 2))
    for row in rows:
        counts[place[row["image_id"]]] += (row["right"], 1)
    return counts


def find_accuracy(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Accuracy in percent of counts (I, 2) for weightings (B, I) of the pictures, (B,); one value without weights."""
    right, asked = ((np.ones((1, len(counts))) if weights is None else weights) @ counts).T
    with np.errstate(invalid="ignore"):
        return 100 * right / asked
