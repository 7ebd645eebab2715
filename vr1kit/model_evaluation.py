"""Evaluation of real models: the questions of a set shared over processes, then COCO's scorecard of the answers.

runs/NAME/answers/LABEL/   answers-RANK.jsonl, detections.json, scorecard.json
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vr1kit.answer_files import answer_share, list_missing, question_key, read_answers
from vr1kit.files import write_json_atomic
from vr1kit.protocols import Plan, merge_answers, plan_queries
from vr1kit.readers import open_dataset
from vr1kit.runs import check_name, open_run
from vr1kit.scorecard import score_set


def _questions(request: Any) -> tuple[Plan, list[str], list[str], Path]:
    """The plan, picture paths and prompts as its protocol has them, and the folder of the answers."""
    data = open_dataset(request.data, request.split)
    plan = plan_queries(data, request.protocol)
    label = request.label or re.sub(r"[^A-Za-z0-9._-]+", "-", f"{Path(request.model).name}-{data.name}-{request.protocol}").strip(
        ".-"
    )
    folder = open_run(request.run).path / "answers" / check_name(label, "label")
    return plan, [str(q.record.image_path) for q in plan.queries], [q.prompt for q in plan.queries], folder


def answer_set(request: Any, rank: int = 0, processes: int = 1) -> None:
    """Answer this process's share. request: model, data, split, protocol, run, label, family, revision, dtype, batch,
    max_new_tokens, as `vr1kit evaluate` takes them. All processes see the same list of what is missing."""
    import torch
    from tqdm.auto import tqdm

    from vr1kit.evaluate import answer_greedily
    from vr1kit.models import load_policy

    _, paths, prompts, folder = _questions(request)
    missing = list_missing(paths, prompts, folder)
    folder.mkdir(parents=True, exist_ok=True)
    _meet(processes)
    if not missing:
        return
    policy = load_policy(request.model, dtype=request.dtype, revision=request.revision, family=request.family, bound_pixels=False)
    if torch.cuda.is_available():
        policy.model.to(f"cuda:{rank % torch.cuda.device_count()}")

    def answer(some_paths, some_prompts):
        asked = [policy.family.reword(prompt) for prompt in some_prompts]
        return answer_greedily(policy, some_paths, asked, batch=request.batch, max_new_tokens=request.max_new_tokens)

    bar = lambda batches: tqdm(batches, desc="answering", unit="batch", disable=rank > 0, mininterval=5)  # noqa: E731
    answer_share(answer, paths, prompts, folder, rank, processes, request.batch, missing, bar)


def _meet(processes: int) -> None:
    """Nobody writes before all have looked."""
    if processes > 1:
        import torch.distributed as dist

        dist.init_process_group("gloo")
        dist.barrier()
        dist.destroy_process_group()


def score_answers(request: Any) -> list[str]:
    """COCO's numbers of all answers, written beside them and as lines for people. Raises ValueError if some are missing."""
    from vr1kit.models import load_policy

    plan, paths, prompts, folder = _questions(request)
    keys = [question_key(*pair) for pair in zip(paths, prompts, strict=True)]
    answers = read_answers(folder, keys)
    if len(answers) < len(keys):
        raise ValueError(f"{folder}: {len(keys) - len(answers)} of {len(keys)} answers are missing; give the same command again")
    policy = load_policy(request.model, revision=request.revision, family=request.family, weights=False)
    detections, counts = merge_answers(policy, plan, [answers[i] for i in range(len(keys))])
    card = score_set(plan.data.annotations, detections)
    write_json_atomic(folder / "detections.json", detections)
    write_json_atomic(folder / "scorecard.json", {"protocol": plan.protocol, "score": "constant", **card.metrics, **counts})
    head = f"{plan.data.name}, protocol {plan.protocol}, {len(plan.data.records)} pictures, constant scores"
    rows = [f"  {name:<6} {value:6.2f}" for name, value in card.metrics.items() if value is not None]
    return [head, *rows, "  " + ", ".join(f"{n} {name}" for name, n in counts.items()), f"kept in {folder}"]
