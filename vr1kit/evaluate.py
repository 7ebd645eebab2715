"""Greedy answers -> COCO AP and AR by pycocotools, on four suites: in-domain, shifted13, unseen4, questions.

Protocol `all` in one query: each picture is asked once for every category of its set. Scores are constant (0.99), as in the
released code, so AP is decided by which boxes are named, not by their ranking. A label outside the category list is dropped and
counted. AP of a group of sets is the mean over sets, as for ODINW-13.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vr1kit.data import DetectionSet, ask, read_image
from vr1kit.decoding import generate
from vr1kit.measures.intervals import Matches, find_matches, run_cocoeval
from vr1kit.models import Policy
from vr1kit.safekeeping.files import open_atomic, write_csv_atomic

SCORE = 0.99  # released code: every detection has this score
METRICS = {"AP": 0, "AP50": 1, "AP75": 2, "AR100": 8}  # places in COCOeval.stats


def prepare_inputs(policy: Policy, images: Sequence, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Chat-format, tokenize and left-pad a batch of (picture, question) pairs."""
    chats = [
        [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": policy.family.reword(prompt)}]}]
        for image, prompt in zip(images, prompts, strict=True)
    ]
    texts = [policy.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) for chat in chats]
    return dict(policy.processor(images=[[image] for image in images], text=texts, padding=True, return_tensors="pt"))


def answer_greedily(
    policy: Policy,
    image_paths: Sequence[str],
    prompts: Sequence[str],
    batch: int = 64,
    max_new_tokens: int = 96,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[str]:
    """The most likely answer to each question, as text. Order is kept."""
    policy.model.eval()
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # equal prompts together: no padding
    answers = [""] * len(prompts)
    for start in progress(range(0, len(order), batch)):
        chunk = order[start : start + batch]
        inputs = prepare_inputs(policy, [read_image(image_paths[i]) for i in chunk], [prompts[i] for i in chunk])
        inputs = {name: value.to(policy.model.device) for name, value in inputs.items()}
        tokens, _ = generate(policy.model, inputs, max_new_tokens=max_new_tokens, eos_token_id=policy.tokenizer.eos_token_id)
        for i, ids in zip(chunk, tokens, strict=True):
            answers[i] = policy.tokenizer.decode(ids, skip_special_tokens=True)
    return answers


def to_detections(policy: Policy, data: DetectionSet, answers: Sequence[str]) -> tuple[list[dict], dict[str, int]]:
    """Answers to COCO detections in picture pixels, and counts: boxes, unknown labels, malformed answers."""
    detections, counts = [], {"boxes": 0, "unknown_labels": 0, "malformed": 0}
    for record, text in zip(data.records, answers, strict=True):
        parsed = policy.read_answer(text, record.width, record.height)
        counts["malformed"] += not parsed.dual_format
        boxes = policy.read_boxes(parsed.boxes_xyxy, record.width, record.height)
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), parsed.labels, strict=True):
            counts["boxes"] += 1
            if label not in data.categories:
                counts["unknown_labels"] += 1
                continue
            box = {"image_id": record.image_id, "category_id": data.categories[label], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            detections.append({**box, "score": SCORE})
    return detections, counts


def score_detections(annotations: Path, detections: Sequence[dict]) -> tuple[dict[str, float], Matches]:
    """COCOeval's AP, AP50, AP75 and AR100 in percent, and its matches (for intervals)."""
    evaluation = run_cocoeval(annotations, detections)
    values = np.zeros(12) if evaluation is None else evaluation.stats
    return {name: 100 * float(values[place]) for name, place in METRICS.items()}, find_matches(evaluation, annotations)


@dataclass(frozen=True)
class Suites:
    """What a policy is tested on: groups of detection sets, and questions as JSON rows {image, question, answer, kind}."""

    groups: Mapping[str, Sequence[DetectionSet]]  # in_domain, shifted13, unseen4
    questions: Sequence[dict]


def evaluate_policy(
    policy: Policy, suites: Suites, folder: Path | None = None, progress: Callable[[Iterable], Iterable] = iter, batch: int = 64
) -> list[dict]:
    """Rows {suite, set, metric, value, n_images}; `set` is "mean" for a suite's average over its sets.

    In `folder`, if given, are kept: predictions.jsonl (suite, set, image_id, answer), matches/<set>.npz (for intervals) and
    counts.csv (boxes, unknown labels, malformed answers per set).
    """
    for name in (data.name for sets in suites.groups.values() for data in sets):
        if Path(name).name != name or "\0" in name:  # it will name a file
            raise ValueError(f"a set cannot be called {name!r}: give it a name without slashes")
    jobs = [(suite, data, record) for suite, sets in suites.groups.items() for data in sets for record in data.records]
    prompts = [policy.family.reword(ask(record, list(data.categories)).prompt) for _, data, record in jobs]
    paths = [str(record.image_path) for *_, record in jobs]
    prompts += [q["question"] for q in suites.questions]
    paths += [q["image"] for q in suites.questions]
    answers = answer_greedily(policy, paths, prompts, batch=batch, progress=progress)
    if folder is not None:
        (folder / "matches").mkdir(parents=True, exist_ok=True)
        with open_atomic(folder / "predictions.jsonl") as out:
            for (suite, data, record), answer in zip(jobs, answers, strict=False):
                out.write(json.dumps({"suite": suite, "set": data.name, "image_id": record.image_id, "answer": answer}) + "\n")
            for question, answer in zip(suites.questions, answers[len(jobs) :], strict=True):
                row = {"suite": "questions", "set": question["kind"], "image_id": question["image_id"], "answer": answer}
                out.write(json.dumps(row) + "\n")
    rows, counted, start = [], [], 0
    for suite, sets in suites.groups.items():
        table = []
        for data in sets:
            chunk = answers[start : start + len(data.records)]
            start += len(data.records)
            detections, counts = to_detections(policy, data, chunk)
            scores, matches = score_detections(data.annotations, detections)
            table.append((data, scores))
            counted.append({"suite": suite, "set": data.name, "pictures": len(data.records), **counts})
            if folder is not None:
                matches.save(folder / "matches" / f"{data.name}.npz")
        for metric in METRICS:
            for data, scores in table:
                if len(table) > 1:
                    rows.append(_row(suite, data.name, metric, scores[metric], len(data.records)))
            mean = float(np.mean([scores[metric] for _, scores in table]))
            rows.append(_row(suite, "mean", metric, mean, sum(len(data.records) for data, _ in table)))
    if folder is not None:
        write_csv_atomic(folder / "counts.csv", counted)
    if suites.questions:
        right = [a.strip() == q["answer"] for a, q in zip(answers[start:], suites.questions, strict=True)]
        for kind in sorted({q["kind"] for q in suites.questions}):
            chosen = [r for r, q in zip(right, suites.questions, strict=True) if q["kind"] == kind]
            rows.append(_row("questions", kind, "accuracy", 100 * float(np.mean(chosen)), len(chosen)))
        rows.append(_row("questions", "mean", "accuracy", 100 * float(np.mean(right)), len(right)))
    return rows


def _row(suite: str, name: str, metric: str, value: float, n_images: int) -> dict:
    return {"suite": suite, "set": name, "metric": metric, "value": round(value, 3), "n_images": n_images}
