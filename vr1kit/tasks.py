"""Tasks: what an evaluation asks about a set, and the settings that decide its numbers.

    task = open_task("coco", Settings(protocol="all"), split="val2017")
    task.list_queries()        # [(image_id, path, prompt), ...]

What is asked follows from the data: categories -> detection, phrases (RefCOCO) -> referring expressions, a JSONL file or a
published set of questions (`vr1kit.formats.question_sets`) -> questions. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vr1kit.data import DetectionSet, read_coco
from vr1kit.formats.question_sets import open_question_set
from vr1kit.formats.readers import open_dataset
from vr1kit.measures.accuracy import Expression, Question, list_expressions, list_questions, read_questions
from vr1kit.measures.confidence import POOLS, SCORES
from vr1kit.measures.protocols import PROTOCOLS, Plan, plan_queries
from vr1kit.records import DataError
from vr1kit.safekeeping.files import read_json


@dataclass(frozen=True)
class Settings:
    """All that decides the numbers of an evaluation, but for model and data."""

    protocol: str = "all"
    score: str = "constant"
    pool: str = "mean"  # for token_prob
    samples: int = 8  # for vote
    seed: int = 0  # for vote
    max_new_tokens: int = 512  # the released code's limit for Qwen
    dtype: str = "float32"
    revision: str | None = None  # of a hub model
    family: str | None = None  # griffon, for models that answer in plain text
    attention: str | None = None  # transformers' attn_implementation
    limit: int | None = None  # only so many pictures, the first

    def __post_init__(self):
        for name, known in (("protocol", PROTOCOLS), ("score", SCORES), ("pool", POOLS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in ("samples", "max_new_tokens", "limit"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def score_name(self) -> str:
        """The name for tables."""
        return {"token_prob": f"token_prob {self.pool}", "vote": f"vote of {self.samples}"}.get(self.score, self.score)


# --- what is asked -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Questions of one kind about the pictures of a set. Exactly one of plan, expressions and questions is not empty."""

    kind: str  # detection | referring | questions
    name: str
    folder: Path  # what places of pictures are relative to
    plan: Plan | None = None
    expressions: tuple[Expression, ...] = ()
    questions: tuple[Question, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason -> questions of the set that cannot be asked

    def list_queries(self) -> list[tuple[Any, str, str]]:
        """(image_id, path of the picture, prompt), in order."""
        if self.plan:
            return [(q.record.image_id, str(q.record.image_path), q.prompt) for q in self.plan.queries]
        if self.expressions:
            return [(e.record.image_id, str(e.record.image_path), e.prompt) for e in self.expressions]
        return [(q.image, str(q.image_path), q.prompt) for q in self.questions]

    def describe(self) -> Any:
        """What was asked and what is right, as plain data: two evaluations compare if it is the same."""
        if self.plan:
            return describe_truth(self.plan.data, self.folder)
        if self.expressions:
            return [[e.record.image_id, e.phrase, e.box_xyxy_px.tolist()] for e in self.expressions]
        return [[q.image, q.prompt, list(q.answers), q.rule, q.kind] for q in self.questions]


def open_task(
    data: str | os.PathLike, settings: Settings, split: str | None = None, images: str | None = None, format: str | None = None
) -> Task:
    """A dataset folder, a COCO .json, or questions. Raises DataError for what cannot be read."""
    path = Path(data)
    if path.suffix == ".jsonl":
        return _open_questions(path.stem, path.parent, read_questions(path), {}, settings.limit)
    if format is None and (published := open_question_set(path, split, images)):
        return _open_questions(published.name, path, list_questions(published), published.left_out, settings.limit)
    if path.suffix == ".json":
        found, folder = read_coco(path, images, require_pictures=True), path.parent
    else:
        found, folder = open_dataset(path, split, images=images, format=format), path
    found = DetectionSet(found.name, found.annotations, found.records[: settings.limit], found.categories, found.phrases)
    if found.phrases:
        return Task("referring", found.name, folder, expressions=tuple(list_expressions(found)))
    if not any(r.labels for r in found.records):
        raise DataError(f"{path}: nothing is annotated in it (crowds aside), so there is no AP; give a set with objects")
    return Task("detection", found.name, folder, plan_queries(found, settings.protocol))


def _open_questions(
    name: str, folder: Path, questions: Sequence[Question], left_out: Mapping[str, int], limit: int | None
) -> Task:
    chosen = set(list(dict.fromkeys(q.image for q in questions))[:limit])
    return Task("questions", name, folder, questions=tuple(q for q in questions if q.image in chosen), left_out=left_out)


def describe_truth(data: DetectionSet, folder: Path) -> dict:
    """A set as a COCO dictionary of its pictures. Crowd regions come from the COCO file, where the set is one."""
    images = [
        {"id": r.image_id, "file_name": os.path.relpath(r.image_path, folder), "width": r.width, "height": r.height}
        for r in data.records
    ]  # fmt: skip
    kept, annotations = {r.image_id for r in data.records}, []
    if data.annotations.suffix == ".json" and data.annotations.is_file():
        columns = ("image_id", "category_id", "bbox", "area", "iscrowd")
        found = [a for a in read_json(data.annotations)["annotations"] if a["image_id"] in kept]
        annotations = [{c: a.get(c, a["bbox"][2] * a["bbox"][3] if c == "area" else 0) for c in columns} for a in found]
    else:
        for r in data.records:
            for (x1, y1, x2, y2), label in zip(r.boxes_xyxy_px.tolist(), r.labels, strict=True):
                row = {"image_id": r.image_id, "category_id": data.categories[label], "bbox": [x1, y1, x2 - x1, y2 - y1]}
                annotations.append({**row, "area": (x2 - x1) * (y2 - y1), "iscrowd": 0})
    categories = [{"id": i, "name": name} for name, i in sorted(data.categories.items(), key=lambda item: item[1])]
    return {"images": images, "annotations": [{"id": k, **a} for k, a in enumerate(annotations, 1)], "categories": categories}
