"""Evaluations: one policy, one set, one way of asking, kept as a run that can be resumed, read again and compared.

    vr1kit evaluate --model mixed --data coco --split val2017 --protocol all --score token_prob --out runs/before

    runs/before/evaluation/
      answers.jsonl      every question, its answer, and the scores of its boxes
      metrics.json       COCO's twelve numbers, or accuracies, their intervals, and counts of what was odd
      manifest.json      settings, inputs, code (`vr1kit.runs`)
    of a detection set also
      truth.json         the objects, as COCO; pictures by their place below the data folder
      detections.json    COCO's results
      categories.csv     AP, AP50, AP75, AR100 of each category, and the interval of AP
      matches*.npz       for intervals of differences (`vr1kit.measures.resampling`)
    of expressions and questions
      rows.csv           image_id, kind, right, and what was asked

What is asked follows from the data (`vr1kit.tasks`). Intervals are 95 %, by 1,000 resamples of the pictures.
Each batch of answers is on disk before the next begins; the same command goes on after it, with any number of processes. A folder that holds something else,
or a result of other code, is refused, never overwritten. Importing needs no torch.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from vr1kit.measures.accuracy import (
    FOUND,
    count_by_picture,
    find_accuracy,
    judge_answer,
    judge_expression,
)
from vr1kit.measures.intervals import accumulate_categories, draw_weights
from vr1kit.measures.protocols import Plan, merge_answers, read_answer
from vr1kit.measures.resampling import RESAMPLES, find_interval, resample_numbers, save_parts
from vr1kit.measures.scorecard import DetectionWarning, score_set
from vr1kit.runs import Run, Step, check_name
from vr1kit.safekeeping.files import RunError, digest, file_hash, write_json_atomic, write_text_atomic
from vr1kit.safekeeping.manifests import ATTEMPT, CHECKPOINTS, MANIFEST
from vr1kit.tasks import Settings, Task, describe_truth, open_task

STEP = "evaluation"
ANSWERS = "answers.jsonl"
DEFAULTS = Settings()
BESIDE = ("intervals", "counts", "notes")  # in metrics.json, beside the numbers


# --- asking --------------------------------------------------------------------------------------------------------------


def evaluate(
    model: str, data: str | os.PathLike, out: str | os.PathLike, settings: Settings = DEFAULTS, *, split: str | None = None,
    images: str | None = None, format: str | None = None, batch: int = 16, device: str | None = None,
    progress: Callable[..., Iterable] | None = None, launch: Callable[[], None] | None = None, server: str | None = None,
) -> Step:  # fmt: skip
    """Ask a policy everything about a set, or find it asked; what an interrupted call left is used. Returns the finished step.

    progress: called with total, initial and unit, gives a bar with `update` (tqdm). launch: starts processes that call
    `answer_share` and waits for them; what they leave is answered here. server: the model answers there (`scale.servers`), and only
    its processor is loaded here. Raises PolicyError, DataError, and RunError where `out` holds anything else.
    """
    step, task = open_step(model, data, out, settings, split, images, format, served=server is not None)
    if step.state() == "done":
        return step
    if step.has(MANIFEST) or (step.has(ATTEMPT) and not step.is_same_attempt()):
        why = step.why() if step.has(MANIFEST) else "it was begun with other settings, data, model or code"
        raise RunError(f"{step.run.path} holds another evaluation ({why}): give another --out, or delete that folder")
    policy = _load(model, settings, weights=launch is None and server is None)
    ask = _ask_at(server, model) if server else None
    step.begin()
    (step.path / CHECKPOINTS).mkdir(exist_ok=True)
    if launch is None:
        if server is None:
            policy.model.to(device or _best_device())
        answer_questions(policy, task, settings, step.path / CHECKPOINTS, batch, progress, ask=ask)
    else:
        launch()
    queries, found = task.list_queries(), _read_answers(step.path / CHECKPOINTS)
    if lacking := len(queries) - len(found):
        raise RunError(f"{step.run.path}: {lacking} of {len(queries)} answers are missing; the same command goes on")
    ids = [{"id": q.id} for q in task.questions] or [{}] * len(queries)  # the publisher's, for `vr1kit export`
    answers = [{**ids[k], "image_id": queries[k][0], "prompt": queries[k][2], **found[k]} for k in range(len(queries))]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answers)
    write_text_atomic(step.path / ANSWERS, lines)
    metrics = _judge_detections(step, task, policy, answers) if task.plan else _judge_rows(step, task, policy, answers)
    step.finish(metrics)
    shutil.rmtree(step.path / CHECKPOINTS, ignore_errors=True)
    return step


def answer_share(
    rank: int, processes: int, model: str, data: str | os.PathLike, out: str | os.PathLike, settings: Settings, *,
    split: str | None = None, images: str | None = None, format: str | None = None, batch: int = 16, device: str | None = None,
    progress: Callable[..., Iterable] | None = None,
) -> None:  # fmt: skip
    """In one of several processes that `evaluate` launched: answer every so-manieth question."""
    import torch

    step, task = open_step(model, data, out, settings, split, images, format)
    policy = _load(model, settings)
    policy.model.to(device or (f"cuda:{rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"))
    answer_questions(policy, task, settings, step.path / CHECKPOINTS, batch, progress, rank, processes)


def open_step(
    model: str, data: str | os.PathLike, out: str | os.PathLike, settings: Settings, split: str | None = None,
    images: str | None = None, format: str | None = None, served: bool = False,
) -> tuple[Step, Task]:  # fmt: skip
    """The step of an evaluation and its questions; nothing is written. Which server it was does not matter, only that it was one."""
    task, out = open_task(data, settings, split, images, format), Path(out)
    config = {"kind": task.kind, "set": task.name, "model": str(model), "data": str(data), "split": split, **asdict(settings)}
    if served:
        config["served"] = True
    inputs = {"model": hash_model(model), "truth": digest(task.describe())}
    return Run(check_name(out.name), out).step(STEP, config, inputs, code=["evaluations"]), task


def hash_model(model: str) -> str:
    """Of the weights and settings of a folder; of a hub model its name."""
    from vr1kit.models import BASE_POLICIES, POLICIES

    folder = POLICIES / model if model in BASE_POLICIES else Path(model)
    files = (
        sorted(path for path in folder.glob("*") if path.suffix in (".safetensors", ".json", ".bin")) if folder.is_dir() else []
    )
    return digest({path.name: file_hash(path) for path in files} or str(model))


def _load(model: str, settings: Settings, weights: bool = True) -> Any:
    from vr1kit.models import load_policy

    s = settings
    return load_policy(model, s.dtype, s.revision, family=s.family, attention=s.attention, weights=weights)


def _ask_at(server: str, model: str) -> Callable:
    from functools import partial

    from vr1kit.scale.servers import ask_server, find_model

    return partial(ask_server, server, find_model(server, model))


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def answer_questions(
    policy: Any, task: Task, settings: Settings, folder: Path, batch: int, progress: Any = None, rank: int = 0, processes: int = 1,
    ask: Callable | None = None,
) -> None:  # fmt: skip
    """Answer what is missing, into folder/answers-RANK.jsonl: rows {place, text, scores, tokens}, batch by batch; by
    `asking.answer_queries`, or by an `ask` with the same arguments.

    Of a vote the drawn answers are not kept; a query's draws depend on the seed and on where its batch begins.
    """
    from vr1kit.asking import answer_queries, score_answers

    queries, path, ask = task.list_queries(), folder / f"answers-{rank}.jsonl", ask or answer_queries
    _drop_cut_line(path)
    mine, found = range(rank, len(queries), processes), _read_answers(folder)
    left = sorted((k for k in mine if k not in found), key=lambda k: (len(queries[k][2]), k))
    bar = progress(total=len(mine), initial=len(mine) - len(left), unit="query") if progress else None
    with bar or nullcontext(), open(path, "a", encoding="utf-8") as out:
        for start in range(0, len(left), batch):
            chunk = left[start : start + batch]
            paths, prompts = [queries[k][1] for k in chunk], [queries[k][2] for k in chunk]
            options = {"batch": batch, "max_new_tokens": settings.max_new_tokens}
            said = [row[0] for row in ask(policy, paths, prompts, **options)]
            scores: Sequence = [[]] * len(chunk)
            if task.plan:
                drawn = ()
                if settings.score == "vote":
                    draw = {"samples": settings.samples, "seed": settings.seed * len(queries) + chunk[0]}
                    drawn = ask(policy, paths, prompts, **options, **draw)
                plan = Plan(task.plan.protocol, task.plan.data, tuple(task.plan.queries[k] for k in chunk))
                scores = [s.tolist() for s in score_answers(policy, plan, said, settings.score, settings.pool, drawn)]
            for k, answer, score in zip(chunk, said, scores, strict=True):
                row = {"place": k, "text": answer.text, "scores": score, "tokens": len(answer.logps)}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
            out.flush()
            os.fsync(out.fileno())
            if bar is not None:
                bar.update(len(chunk))


def _read_answers(folder: Path) -> dict[int, dict]:
    """By place, what all processes and interrupted attempts left; lines that were cut off are left out."""
    rows = []
    for path in sorted(folder.glob("answers-*.jsonl")):
        text = path.read_text(encoding="utf-8", errors="replace")
        rows += [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    return {row.pop("place"): row for row in rows}


def _drop_cut_line(path: Path) -> None:
    """Before more is appended: a last line that a kill cut short goes."""
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_text_atomic(path, whole)


# --- judging -------------------------------------------------------------------------------------------------------------


def _judge_detections(step: Step, task: Task, policy: Any, answers: Sequence[Mapping]) -> dict:
    truth = describe_truth(task.plan.data, task.folder)
    write_json_atomic(step.path / "truth.json", truth)
    scores = [np.array(row["scores"], float) for row in answers]
    detections, counts = merge_answers(policy, task.plan, [row["text"] for row in answers], scores)
    write_json_atomic(step.path / "detections.json", detections)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DetectionWarning)  # they are said by the caller, from `notes`
        card = score_set(step.path / "truth.json", detections)
    save_parts(card.parts, step.path)
    weights = draw_weights(len(truth["images"]), RESAMPLES, np.random.default_rng(0))
    categories = accumulate_categories(card.parts["all"], weights)
    ends = [find_interval(100 * ap) or (None, None) for ap in categories[0].mean(axis=0).T]
    step.write_csv(
        "categories.csv",
        [
            {"category": name, **row, "low": low, "high": high}
            for (name, row), (low, high) in zip(card.by_category.items(), ends, strict=True)
        ],
    )
    intervals = {name: find_interval(drawn) for name, drawn in resample_numbers(card.parts, weights, categories).items()}
    counts = {**counts, **card.counts, **_count_cut(step, answers)}
    return {**card.metrics, "intervals": intervals, "counts": counts, "notes": list(card.notes)}


def _judge_rows(step: Step, task: Task, policy: Any, answers: Sequence[Mapping]) -> dict:
    rows, counts = [], {"queries": len(answers), **{f"left_out_{why}": n for why, n in task.left_out.items()}}
    if task.expressions:
        counts |= {"without_box": 0, "several_boxes": 0, "malformed": 0}
        for e, row in zip(task.expressions, answers, strict=True):
            parsed = read_answer(policy, e.record, row["text"])
            iou = judge_expression(policy.read_boxes(parsed.boxes_xyxy, e.record.width, e.record.height), e.box_xyxy_px)
            counts["without_box"] += not parsed.labels
            counts["several_boxes"] += len(parsed.labels) > 1
            counts["malformed"] += not parsed.dual_format
            rows.append({"image_id": e.record.image_id, "kind": "all", "right": iou >= FOUND, "asked": e.phrase, "iou": iou})
    else:
        for q, row in zip(task.questions, answers, strict=True):
            right = judge_answer(row["text"], q.answers, q.rule, q.options)
            rows.append({"image_id": q.image, "kind": q.kind, "right": right, "asked": str(q.id), "iou": None})
    step.write_csv("rows.csv", [{**row, "right": int(row["right"])} for row in rows])
    pictures, kinds = (list(dict.fromkeys(row[key] for row in rows)) for key in ("image_id", "kind"))
    weights = draw_weights(len(pictures), RESAMPLES, np.random.default_rng(0))
    numbers, intervals = {}, {}
    for name, kind in [("accuracy", None), *((f"accuracy {kind}", kind) for kind in kinds if len(kinds) > 1)]:
        tallies = count_by_picture([row for row in rows if kind in (None, row["kind"])], pictures)
        numbers[name], intervals[name] = float(find_accuracy(tallies)[0]), find_interval(find_accuracy(tallies, weights))
    return {**numbers, "intervals": intervals, "counts": {**counts, **_count_cut(step, answers)}, "notes": []}


def _count_cut(step: Step, answers: Sequence[Mapping]) -> dict[str, int]:
    return {"cut_off": sum(row["tokens"] >= step.config["max_new_tokens"] for row in answers)}


# --- reading -------------------------------------------------------------------------------------------------------------


def read_evaluation(folder: str | os.PathLike) -> Step:
    """A finished evaluation by its run folder. Raises RunError for what is none, unfinished, or of another version."""
    folder = Path(folder)
    run = Run(folder.name, folder)
    if not (folder / STEP / MANIFEST).is_file():
        begun = (folder / STEP / ATTEMPT).is_file()
        what = "was interrupted; the command that began it goes on" if begun else "holds no result of `vr1kit evaluate`"
        raise RunError(
            f"{folder}: {what}" if folder.is_dir() else f"{folder}: no such folder; give one that `vr1kit evaluate` made"
        )
    step = run.find(STEP)
    if not isinstance(step.config, dict) or "kind" not in step.config:
        raise RunError(f"{folder}: its evaluation is not one of `vr1kit evaluate`, or of another version; evaluate again")
    return step


def settings_of(step: Step) -> Settings:
    return Settings(**{f.name: step.config[f.name] for f in fields(Settings) if f.name in step.config})


def describe_evaluation(step: Step) -> list[str]:
    """Lines for a terminal: what was asked, the numbers, and everything that was odd."""
    c, m = step.config, step.metrics()
    how = f", protocol {c['protocol']}, score {settings_of(step).score_name}" if c["kind"] == "detection" else ""
    counts = m["counts"]
    lines = [f"{c['model']} on {c['set']}: {c['kind']}{how}, {counts['queries']} queries"]
    values = {name: value for name, value in m.items() if name not in BESIDE}
    wide = max(map(len, values))
    for name, value in values.items():
        ends = m.get("intervals", {}).get(name)
        shown = "-" if value is None else f"{value:.1f}"
        lines.append(f"  {name:<{wide}}  {shown:>5}" + (f"  [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else ""))
    odd = {name.replace("_", " "): n for name, n in counts.items() if n and name not in ("queries", "boxes", "detections")}
    lines.append("  " + (", ".join(f"{n} {name}" for name, n in odd.items()) or "nothing odd"))
    return lines + [f"  note: {note}" for note in m["notes"]]
