"""Asking: queries -> answers with what generation knows of them -> scored detections under a named protocol.

    detected = detect(policy, data, protocol="present", score="token_prob", pool="min")
    detected.detections                     # COCO's, for `scorecard.score_set`
    detected.counts                         # boxes, unknown labels, malformed answers ...

`evaluate.evaluate_policy` stays the evaluation of the study: protocol `all`, constant scores. With these two settings `detect`
gives the same detections (tests/test_asking.py). The texts of greedy answers do not depend on the scores: they are asked for
once, and `score_answers` can score them in every way.

The order of the work: equal prompts in one batch. Neither batch nor padding changes an answer, up to ties of probability that
float rounding decides (tests/test_asking.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vr1kit.data import DetectionSet, read_image
from vr1kit.decoding import generate
from vr1kit.evaluate import prepare_inputs
from vr1kit.measures.confidence import POOLS, SCORES, constant_scores, token_scores, vote_scores
from vr1kit.measures.protocols import Plan, merge_answers, plan_queries, read_answer
from vr1kit.models import Policy
from vr1kit.tokens import token_spans

MAX_NEW_TOKENS = 96  # as evaluate.answer_greedily; the released code allows Qwen 512
SAMPLES, TEMPERATURE = 8, 1.0  # ours: of a vote; the temperature is that of the paper's generations in training


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer as text, the characters that each of its T tokens writes, and their log-probabilities."""

    text: str
    spans: np.ndarray  # (T, 2)
    logps: np.ndarray  # (T,) natural logarithms, at the temperature it was drawn with; greedy: at 1


def answer_queries(
    policy: Policy,
    image_paths: Sequence[str],
    prompts: Sequence[str],
    *,
    samples: int = 0,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    batch: int = 64,
    max_new_tokens: int = MAX_NEW_TOKENS,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[list[Answer]]:
    """Answers to each question, in order: one greedy answer, or `samples` drawn ones.

    `batch` counts answers. Draws depend on seed, batch and order, and leave torch's generators as they were.
    """
    policy.model.eval()
    device = next(policy.model.parameters()).device
    per_prompt = samples or 1
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))  # equal prompts together: no padding
    answers: list[list[Answer]] = [[] for _ in prompts]
    step = max(1, batch // per_prompt)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in progress(range(0, len(order), step)):
            chunk = order[start : start + step]
            inputs = prepare_inputs(policy, [read_image(image_paths[i], keep=False) for i in chunk], [prompts[i] for i in chunk])
            tokens, logps = generate(
                policy.model, {k: v.to(device) for k, v in inputs.items()}, per_prompt=per_prompt,
                temperature=temperature if samples else 0.0, max_new_tokens=max_new_tokens,
                eos_token_id=policy.tokenizer.eos_token_id,
            )  # fmt: skip
            for row, (ids, values) in enumerate(zip(tokens, logps, strict=True)):
                text, spans = token_spans(ids, lambda some: policy.tokenizer.decode(some, skip_special_tokens=True))
                answers[chunk[row // per_prompt]].append(Answer(text, spans, np.array(values)))
    return answers


def ask_plan(policy: Policy, plan: Plan, **options) -> list[list[Answer]]:
    """`answer_queries` for the queries of a plan."""
    return answer_queries(
        policy,
        [str(q.record.image_path) for q in plan.queries],
        [policy.family.reword(q.prompt) for q in plan.queries],
        **options,
    )


def score_answers(
    policy: Policy,
    plan: Plan,
    answers: Sequence[Answer],
    score: str,
    pool: str = "mean",
    drawn: Sequence[Sequence[Answer]] = (),
) -> list[np.ndarray]:
    """Scores of the boxes of each answer, (P,) each. `pool` is for token_prob; `drawn`, samples for each query, for vote.

    Raises ValueError for an unknown way of scoring, and for a vote without samples.
    """
    if score not in SCORES or pool not in POOLS:
        raise ValueError(f"no score '{score}' with pool '{pool}'; scores are {', '.join(SCORES)}, pools {', '.join(POOLS)}")
    if score == "vote" and len(drawn) != len(answers):
        raise ValueError(f"a vote needs samples for each of {len(answers)} answers, got {len(drawn)}")
    out = []
    for k, (query, answer) in enumerate(zip(plan.queries, answers, strict=True)):
        parsed = read_answer(policy, query.record, answer.text)
        if score == "constant":
            out.append(constant_scores(parsed))
        elif score == "token_prob":
            out.append(token_scores(parsed, answer.spans, answer.logps, pool))
        else:
            others = [read_answer(policy, query.record, sample.text) for sample in drawn[k]]
            out.append(vote_scores(parsed.boxes_xyxy, parsed.labels, [(o.boxes_xyxy, o.labels) for o in others]))
    return out


@dataclass(frozen=True, eq=False)
class Detected:
    """What a policy found in a set: how it was asked and scored, its answers, and COCO detections in picture pixels."""

    plan: Plan
    score: str  # constant, token_prob min, token_prob mean, token_prob product or vote of k: the name for tables
    texts: tuple[str, ...]  # one per query
    detections: list[dict]
    counts: dict[str, int]  # queries, boxes, unknown_labels, other_labels, malformed


def detect(
    policy: Policy,
    data: DetectionSet,
    protocol: str = "all",
    score: str = "constant",
    pool: str = "mean",
    samples: int = SAMPLES,
    temperature: float = TEMPERATURE,
    seed: int = 0,
    ignore_case: bool = False,
    **options,
) -> Detected:
    """Ask a policy for the objects of a set. `samples`, `temperature` and `seed` are for vote; options: batch, max_new_tokens,
    progress. Raises ValueError for an unknown score or pool, ProtocolError for an unknown protocol.
    """
    plan = plan_queries(data, protocol)
    name = {"token_prob": f"token_prob {pool}", "vote": f"vote of {samples}"}.get(score, score)
    score_answers(policy, Plan(protocol, data, ()), [], score, pool)  # refuse a wrong name before the work
    answers = [row[0] for row in ask_plan(policy, plan, **options)]
    drawn = ()
    if score == "vote":
        drawn = ask_plan(policy, plan, samples=samples, temperature=temperature, seed=seed, **options)
    scores = score_answers(policy, plan, answers, score, pool, drawn)
    texts = tuple(answer.text for answer in answers)
    return Detected(plan, name, texts, *merge_answers(policy, plan, texts, scores, ignore_case))
