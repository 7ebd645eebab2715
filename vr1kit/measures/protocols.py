"""Protocols: which questions a detection set is turned into. Two, whose numbers do not compare:

    present   One query per picture and *present* category, "Locate every {category} in the image ...". Qwen's and the paper's
              (released evaluation with --single --pos). Only what is there is asked for: who answers what was asked has no
              false alarm of an absent category, and a picture without objects is never looked at.
    all       One query per picture, with the whole category list of the set, "Locate every item from the category list ...".
              GLIP's and mmdetection's: there every picture gets the names of all categories as its text. What is absent can be
              found, and costs precision. It is what `evaluate.evaluate_policy` does.

In both the *label* of a box decides its category, as in the released code: asked for cats, a box labelled dog counts as a dog
if the set has dogs. A label outside the set is dropped and counted; COCO's evaluation is over all pictures and categories.

Deviations:
1. Released code compares labels in lower case. Here as they are written, unless `ignore_case`; ODINW has names in capitals.
2. Categories of which a picture has crowd regions only are not present (`data.read_coco` leaves crowds out).
3. GLIP can cut a list that is too long for its text encoder into several texts; a language model reads the list at once.

Every row of results names its protocol and its way of scoring (`vr1kit.measures.confidence`). `mean_over_sets` and `set_gains` refuse to
mix them, and `side_by_side` gives each pair its own column. Numpy only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vr1kit.completions import ParsedCompletion
from vr1kit.data import DetectionSet, Record
from vr1kit.measures.confidence import constant_scores
from vr1kit.prompts import ask_detection, ask_grounding

PROTOCOLS = ("present", "all")


class ProtocolError(ValueError):
    """An unknown protocol, or results that must not stand in one column; the message is one line."""


@dataclass(frozen=True)
class Query:
    """One question about one picture, and the categories it asks for."""

    record: Record
    prompt: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All questions of one set under one protocol."""

    protocol: str
    data: DetectionSet
    queries: tuple[Query, ...]


def plan_queries(data: DetectionSet, protocol: str) -> Plan:
    """The queries of a set, picture by picture in file order; categories in the order of their ids.

    Raises ProtocolError for an unknown protocol and for a set without categories.
    """
    if protocol not in PROTOCOLS:
        raise ProtocolError(f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}")
    names = tuple(sorted(data.categories, key=data.categories.__getitem__))
    if not names:
        raise ProtocolError(f"set '{data.name}' has no categories; there is nothing to ask for")
    if protocol == "all":
        prompt = ask_detection(list(data.categories))  # the very prompt of `evaluate.evaluate_policy`
        return Plan(protocol, data, tuple(Query(record, prompt, names) for record in data.records))
    present = [(record, name) for record in data.records for name in names if name in record.labels]
    return Plan(protocol, data, tuple(Query(record, ask_grounding(name), (name,)) for record, name in present))


def read_answer(policy: Any, record: Record, text: str) -> ParsedCompletion:
    """An answer of a `models.Policy` about a picture, boxes in the space the policy answers in."""
    return policy.read_answer(text, record.width, record.height)


def merge_answers(
    policy: Any, plan: Plan, texts: Sequence[str], scores: Sequence[np.ndarray] | None = None, ignore_case: bool = False
) -> tuple[list[dict], dict[str, int]]:
    """Answers, one per query of the plan, to COCO detections in picture pixels, and counts of what happened.

    scores: one array per answer with a score for each box that `read_answer` finds in it; None: constant 0.99. Counts: queries;
    boxes; unknown_labels, dropped; other_labels, of the set but not of the query, kept; malformed answers.

    Raises ValueError where answers or scores do not fit the plan, or a score is not a number.
    """
    if len(texts) != len(plan.queries) or (scores is not None and len(scores) != len(texts)):
        given = f"{len(texts)} answers" + ("" if scores is None else f" and {len(scores)} arrays of scores")
        raise ValueError(f"set '{plan.data.name}', protocol {plan.protocol}: {len(plan.queries)} queries, but {given}")
    fold = str.lower if ignore_case else str
    ids = {fold(name): (name, category) for name, category in plan.data.categories.items()}
    detections = []
    counts = {"queries": len(texts), "boxes": 0, "unknown_labels": 0, "other_labels": 0, "malformed": 0}
    for k, (query, text) in enumerate(zip(plan.queries, texts, strict=True)):
        parsed = read_answer(policy, query.record, text)
        mine = constant_scores(parsed) if scores is None else np.asarray(scores[k], float)
        if mine.shape != (len(parsed.labels),) or not np.isfinite(mine).all():
            raise ValueError(
                f"set '{plan.data.name}', picture {query.record.image_id!r}: {len(parsed.labels)} boxes, scores {mine.tolist()}"
            )
        counts["malformed"] += not parsed.dual_format
        counts["boxes"] += len(parsed.labels)
        boxes = policy.read_boxes(parsed.boxes_xyxy, query.record.width, query.record.height)
        for (x1, y1, x2, y2), label, score in zip(boxes.tolist(), parsed.labels, mine.tolist(), strict=True):
            if fold(label) not in ids:
                counts["unknown_labels"] += 1
                continue
            name, category = ids[fold(label)]
            counts["other_labels"] += name not in query.categories
            box = {"image_id": query.record.image_id, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            detections.append({**box, "score": score})
    return detections, counts


# --- results of sets -----------------------------------------------------------------------------------------------------
# Rows {set, protocol, score, metric, value, n_images}: `score` names how boxes were scored, value is in percent.


def _one(rows: Sequence[Mapping], *columns: str) -> dict[str, str]:
    """The one value of each column, or ProtocolError."""
    if not rows:
        raise ProtocolError("no rows")
    for column in columns:
        found = sorted({str(row[column]) for row in rows})
        if len(found) > 1:
            raise ProtocolError(f"rows of different {column} ({', '.join(found)}) do not compare; keep them apart")
    return {column: rows[0][column] for column in columns}


def mean_over_sets(rows: Sequence[Mapping], sets: Iterable[str] | None = None) -> dict:
    """The mean over sets, each counting alike, as for ODINW-13: a row of the same columns with set "mean".

    sets: the names that there must be, `odinw.ODINW_13` for one. Raises ProtocolError for more than one protocol, way of
    scoring or metric, for a set that comes twice or has no value, and for sets that are missing or too many.
    """
    kept = _one(rows, "protocol", "score", "metric")
    names = [row["set"] for row in rows]
    if len(set(names)) < len(names):
        raise ProtocolError(f"a set comes twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")
    if sets is not None and set(names) != set(sets):
        raise ProtocolError(f"the mean is over other sets: missing or surplus are {', '.join(sorted(set(names) ^ set(sets)))}")
    for row in rows:
        if not np.isfinite(row["value"]):
            raise ProtocolError(f"set '{row['set']}' has no {row['metric']}: nothing is to be found in it; leave it out")
    return {"set": "mean", **kept, "value": float(np.mean([row["value"] for row in rows])),
            "n_images": sum(row["n_images"] for row in rows)}  # fmt: skip


def set_gains(before: Sequence[Mapping], after: Sequence[Mapping]) -> list[dict]:
    """What each set gained, largest first: rows {set, before, after, gain, share}; share of the summed gain, None if that is 0.

    Raises ProtocolError where `mean_over_sets` would, over both lists together.
    """
    mean_over_sets(before), mean_over_sets(after, [row["set"] for row in before])
    _one([*before, *after], "protocol", "score", "metric")
    values = {row["set"]: row["value"] for row in after}
    gains = {row["set"]: values[row["set"]] - row["value"] for row in before}
    total = sum(gains.values())
    rows = [
        {"set": row["set"], "before": row["value"], "after": values[row["set"]], "gain": gains[row["set"]],
         "share": gains[row["set"]] / total if total else None}
        for row in before
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["gain"])


def side_by_side(rows: Sequence[Mapping], metric: str = "AP") -> list[dict]:
    """One row per set, one column per protocol and way of scoring, such as "AP, present, constant"; None where not measured."""
    rows = [row for row in rows if row["metric"] == metric]
    columns = list(dict.fromkeys(f"{metric}, {row['protocol']}, {row['score']}" for row in rows))
    table: dict[str, dict] = {}
    for row in rows:
        line = table.setdefault(row["set"], {"set": row["set"], **dict.fromkeys(columns)})
        column = f"{metric}, {row['protocol']}, {row['score']}"
        if line[column] is not None:
            raise ProtocolError(f"set '{row['set']}' comes twice in the column '{column}'")
        line[column] = row["value"]
    return list(table.values())
