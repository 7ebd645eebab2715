"""Export: answers in the formats of lmms-eval and VLMEvalKit, so that their numbers can be checked against ours.

    vr1kit export runs/chartqa --to lmms-eval --task chartqa --out logs         # of an evaluation of lmms-lab's parquet files
    vr1kit export runs/chartqa --to vlmevalkit --task ChartQA_TEST --model Qwen2.5-VL-7B-Instruct --out outputs    # of their .tsv

    write_lmms_eval("logs/odinw13.json", "odinw13", "ours", {doc_id: text, ...})
    #   python -m lmms_eval --model from_log --model_args logs=logs --tasks odinw13
    write_vlmevalkit("outputs", "Qwen2.5-VL-7B-Instruct", "ChartQA_TEST", {index: text, ...})
    #   PRED_FORMAT=tsv python run.py --data ChartQA_TEST --model Qwen2.5-VL-7B-Instruct --work-dir outputs --reuse

lmms-eval (0.7.3) has a "model" that answers from logs: any .json below the folder that has args, logs with doc_id and resps,
and model_configs.task. doc_id is the row of the task's split. VLMEvalKit (main, 2026) finds predictions of an earlier run in
WORK/MODEL/T<day>_G<commit>/ and asks its model, which must be one that it knows, only for rows that have none; index is the
row's `index`. It reads answers with pandas: an empty one, and words such as None or NA, come out as nan. It has no task for
detection.

Boxes: neither tool knows a policy's coordinates. `answers_in_pixels` writes what was found as one JSON list per picture, boxes
in pixels of the original picture. Of lmms-eval's `odinw13` one should know:

1. It asks for the whole category list: only answers under the protocol `all` compare with it, and its prompt is another.
2. It reads every box as pixels, and as 0 to 1 and 0 to 1000 where these are possible, and keeps the reading with the highest
   IoU with an object of that label. A box is thus never worse off than in pixels, and sometimes better than it is.
3. Scores are constant (1.0), and it takes the boxes of a picture from the last to the first. Among equal scores order decides:
   its AP is COCOeval's for our detections in reverse. Labels are compared in lower case; the mean is over sets.

Not covered: scores of boxes, for which neither has a place.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vr1kit.measures.protocols import Plan, read_answer
from vr1kit.runs import Step
from vr1kit.safekeeping.files import RunError, write_json_atomic, write_text_atomic

TOOLS = ("lmms-eval", "vlmevalkit")


def answers_in_pixels(policy: Any, plan: Plan, texts: Sequence[str]) -> dict[Any, str]:
    """What was found in each picture, as text: {image_id: '[{"bbox_2d": [x1, y1, x2, y2], "label": ...}, ...]'}.

    One answer per query of the plan; those about one picture are put together. Pictures without a query have an empty list.
    """
    found: dict[Any, list[dict]] = {record.image_id: [] for record in plan.data.records}
    for query, text in zip(plan.queries, texts, strict=True):
        record = query.record
        parsed = read_answer(policy, record, text)
        boxes = policy.read_boxes(parsed.boxes_xyxy, record.width, record.height).tolist()
        found[record.image_id] += [{"bbox_2d": b, "label": label} for b, label in zip(boxes, parsed.labels, strict=True)]
    return {image_id: json.dumps(items, ensure_ascii=False) for image_id, items in found.items()}


def write_lmms_eval(path: str | os.PathLike, task: str, model: str, answers: Mapping[int, str]) -> Path:
    """Answers by doc_id as a log that lmms-eval's `from_log` reads. Raises ValueError for a name that it would not find."""
    path = Path(path)
    if path.suffix != ".json":
        raise ValueError(f"{path}: lmms-eval looks for names that end in .json")
    logs = [{"doc_id": _whole(doc_id), "resps": [[text]]} for doc_id, text in answers.items()]
    head = {"model": model, "model_args": "", "limit": None}  # a limit would make from_log pass the file over
    write_json_atomic(path, {"args": head, "model_configs": {"task": task}, "logs": logs})
    return path


def write_vlmevalkit(work: str | os.PathLike, model: str, dataset: str, answers: Mapping[Any, str]) -> Path:
    """Answers by index as a prediction file that VLMEvalKit takes up with --reuse. Returns its path."""
    lines = io.StringIO()
    writer = csv.writer(lines, delimiter="\t", lineterminator="\n")
    writer.writerow(("index", "prediction"))
    writer.writerows(answers.items())
    path = Path(work) / model / "T00000000_Gvr1kit" / f"{model}_{dataset}.tsv"
    write_text_atomic(path, lines.getvalue())
    return path


def export_questions(step: Step, to: str, task: str, model: str, out: str | os.PathLike) -> Path:
    """The answers of an evaluation of questions, for one of `TOOLS`. Returns the file.

    Both tools know a question by its place in their own file, so that this file must be what was evaluated. Raises RunError
    otherwise.
    """
    if to not in TOOLS:
        raise ValueError(f"--to must be one of {', '.join(TOOLS)}, got {to!r}")
    rows = [json.loads(line) for line in (step.path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    theirs = "lmms-eval" if Path(step.config["data"]).suffix != ".tsv" else "vlmevalkit"
    known = all(isinstance(row.get("id"), int) for row in rows) and Path(step.config["data"]).suffix != ".jsonl"
    if step.config["kind"] != "questions" or not known or theirs != to:
        file = "lmms-lab's parquet files" if to == "lmms-eval" else "VLMEvalKit's .tsv"
        what = f"{to} knows its questions by their place in {file}, and {step.config['data']} is something else"
        raise RunError(f"{step.run.path}: {what}; run `vr1kit evaluate --data` on that")
    answers = {row["id"]: row["text"] for row in rows}
    if to == "lmms-eval":
        return write_lmms_eval(Path(out) / f"{task}.json", task, model, answers)
    return write_vlmevalkit(out, model, task, answers)


def _whole(doc_id: Any) -> int:
    if isinstance(doc_id, bool) or not hasattr(doc_id, "__index__"):
        raise ValueError(f"doc_id must be the number of a row, got {doc_id!r}")
    return int(doc_id)
