"""Jobs side by side: processes of one thread each, since on two cores two of one thread beat one of two.

A killed run continues: done jobs are found by their steps, a half-done training resumes from its last checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from vr1kit.jobs import Job, count_steps
from vr1kit.profiles import get_profile
from vr1kit.runs import Step, open_run
from vr1kit.safekeeping.interruption import sigterm_as_ctrl_c, worker_pool
from vr1kit.safekeeping.provenance import set_environment
from vr1kit.study import curate_mix, draw_data, evaluate_policy


def run_jobs(run: str, profile: str, jobs: Sequence[Job], split: str = "test") -> list[Step]:
    """Train and test jobs in `profile.workers` processes of one thread each; returns their evaluation steps in order.

    Done jobs are found, not repeated; a killed job continues from its checkpoint when asked for again. If one fails, the others
    that run are finished first, then RuntimeError tells the end of its log. Ctrl-C and SIGTERM have every training save first.
    """
    p, opened = get_profile(profile), open_run(run)
    if opened.frozen:
        return [evaluate_policy(run, profile, j, split) for j in jobs]
    draw_data(run, profile)
    for seed in sorted({j.seed for j in jobs}):
        curate_mix(run, profile, seed)
    (opened.path / "logs").mkdir(parents=True, exist_ok=True)
    waiting, running, done = list(jobs), {}, []
    failed: tuple[Job, BaseException] | None = None
    bar = tqdm(total=sum(count_steps(j, p) for j in jobs), unit="step", mininterval=5)
    with bar, set_environment(**ONE_THREAD), worker_pool(p.workers) as pool:
        while (waiting and not failed) or running:
            for job in [
                j for j in waiting if not failed and len(running) < p.workers and not _must_wait(j, [*waiting, *running])
            ]:
                if len(running) < p.workers:
                    waiting.remove(job)
                    running[job] = pool.submit(_work, run, profile, job, split, opened.path / "logs" / f"{job.name}.log")
            wait(running.values(), timeout=2, return_when=FIRST_COMPLETED)
            for job, future in list(running.items()):
                if future.done():
                    del running[job]
                    done.append(job)
                    if isinstance(future.exception(), KeyboardInterrupt):  # somebody stopped this worker
                        raise KeyboardInterrupt
                    failed = failed or ((job, future.exception()) if future.exception() else None)
            rows = {j.name: _last_row(run, j) for j in running}
            bar.set_description(" | ".join(_describe(*item) for item in rows.items()) or "done", refresh=False)
            bar.update(sum(count_steps(j, p) for j in done) + sum(row.get("step", 0) for row in rows.values()) - bar.n)
    if failed:
        job, error = failed
        tail = (opened.path / "logs" / f"{job.name}.log").read_text(errors="replace").strip().splitlines()[-12:]
        raise RuntimeError(f"job {job.name} failed: {error}; its log ends:\n" + "\n".join(tail))
    return [evaluate_policy(run, profile, j, split, show=False) for j in jobs]


def _must_wait(job: Job, others: Sequence[Job]) -> bool:
    """Whether the policy that it starts from is one that another process trains or is about to."""
    return job.start is not None and any(other.name == job.start.name for other in others)


def _last_row(run: str, job: Job) -> dict[str, Any]:
    """What a running job last logged; empty before its first step."""
    log = open_run(run).path / "policies" / job.name / "log.jsonl"
    if job.policy == "base" or not log.exists():
        return {}
    return (open_run(run).find(f"policies/{job.name}").read_log() or [{}])[-1]


def _describe(name: str, row: dict[str, Any]) -> str:
    return f"{name} {row.get('step', 0)}" + (f" reward {row['reward']:.2f}" if "reward" in row else "")


# Children read these when they import numpy and torch.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def _work(run: str, profile: str, job: Job, split: str, log: Path) -> None:
    """In a worker: train and test one job; everything it says goes to its log file."""
    with open(log, "a", buffering=1) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
        with sigterm_as_ctrl_c():
            import torch

            torch.set_num_threads(1)
            evaluate_policy(run, profile, job, split, show=False)
