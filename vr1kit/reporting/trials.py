"""What was tried beside the main table, each a step with its tables: the profile says which, and with how many seeds.

    runs/NAME/ablations/ablations.csv     the method without one of its parts (notebook 02); and errors.csv
    runs/NAME/long_ablations/long_ablations.csv     those as long as the main study, on its test split (02); and changes.csv
    runs/NAME/weak_base/weak_base.csv     the trap that an easier first stage opens (02); and errors.csv
    runs/NAME/annotators/annotators.csv   the same methods taught by sloppy labels (04)
    runs/NAME/sweeps/sweeps.csv           hyper-parameters, for baseline and method alike (04)

All but long ablations and annotators are tested on the validation split. Importing needs no torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vr1kit.jobs import ABLATIONS, Job, list_ablations, list_annotated, list_jobs, list_long_ablations, list_sweeps, list_weak
from vr1kit.measures.intervals import LEVEL, RESAMPLES, bootstrap_suite, interval
from vr1kit.profiles import SLOPPY_RATES, get_profile
from vr1kit.reporting.summary import DETECTION_SUITES, ERROR_COLUMNS, METRICS, find_all_errors, load_matches
from vr1kit.runs import Step, open_run
from vr1kit.settings import SftSettings
from vr1kit.study import MAIN_COLUMNS, collect_rows, evaluate_policy, main_table

ABLATION_COLUMNS = ("ablation", "paper_table", *(c for c in MAIN_COLUMNS if c != "policy"))
CHANGE_COLUMNS = ("ablation", "suite", "metric", "value", "change", "low", "high")
SWEEP_COLUMNS = (
    "base_policy",
    "annotator",
    "policy",
    "credit",
    "epochs",
    "learning_rate",
    "in_domain_AP",
    "shifted13_AP",
    "chosen",
)

ABLATION_SPLIT = "val"  # the test split is for final numbers only


def write_ablations(run: str, profile: str) -> Step:
    """ablations.csv and errors.csv: every ablation of the profile and the untouched base beside them, or find them written."""
    jobs = list_ablations(profile)
    jobs = [*(Job(base, 0, "base") for base in dict.fromkeys(job.base for job in jobs)), *jobs]
    evaluations = {job.name: evaluate_policy(run, profile, job, ABLATION_SPLIT, show=False) for job in jobs}
    step = open_run(run).step(
        "ablations", {"seeds": list(get_profile(profile).ablation_seeds)}, evaluations, code=["reporting.trials"]
    )
    if step.state() == "done":
        return step
    step.begin()
    table = []
    for r in collect_rows(run, profile, jobs, ABLATION_SPLIT):
        name = r["policy"].removeprefix("ablation-")
        if r["set"] == "mean" and not (name == "base" and r["seed"] != 0):
            row = {**r, "ablation": name, "paper_table": ABLATIONS[name][0] if name in ABLATIONS else ""}
            table.append({c: row[c] for c in ABLATION_COLUMNS})
    step.write_csv("ablations.csv", table, ABLATION_COLUMNS)
    step.write_csv("errors.csv", list(find_all_errors(run, profile, jobs, evaluations, ABLATION_SPLIT)), ERROR_COLUMNS)
    step.finish({"ablations": len(jobs) - 1})
    return step


def write_long_ablations(run: str, profile: str) -> Step:
    """long_ablations.csv: those as long as the main study and its Vision-R1, both on the test split, with paired intervals of what
    they change: pictures and seeds drawn anew, the same for both.
    """
    jobs = list_long_ablations(profile)
    beside = [Job(j.base, j.seed, j.policy) for j in jobs]
    jobs = [*dict.fromkeys(beside), *jobs]
    evaluations = {job.name: evaluate_policy(run, profile, job, show=False) for job in jobs}
    config = {"seeds": list(get_profile(profile).seeds), "resamples": RESAMPLES, "level": LEVEL}
    step = open_run(run).step("long_ablations", config, evaluations, code=["reporting.trials"])
    if step.state() == "done":
        return step
    step.begin()
    rows = [r for r in collect_rows(run, profile, jobs) if r["set"] == "mean"]
    step.write_csv("long_ablations.csv", [{c: r[c] for c in MAIN_COLUMNS} for r in rows], MAIN_COLUMNS)
    step.write_csv("changes.csv", list(_find_changes(jobs, evaluations, rows)), CHANGE_COLUMNS)
    step.finish({"policies": len(jobs)})
    return step


def _find_changes(jobs: Sequence[Job], evaluations: Mapping[str, Step], rows: Sequence[dict]) -> Iterator[dict]:
    policies: dict[str, list[Job]] = {}
    for job in jobs:
        policies.setdefault(job.tag or job.policy, []).append(job)
    reference, *others = policies
    for suite in DETECTION_SUITES:
        matches = {p: [load_matches(evaluations[job.name], suite) for job in own] for p, own in policies.items()}
        drawn = bootstrap_suite(matches, METRICS, RESAMPLES)
        for policy, metric in itertools.product(others, METRICS):
            means = [
                float(np.mean([r["value"] for r in rows if (r["policy"], r["suite"], r["metric"]) == (p, suite, metric)]))
                for p in (policy, reference)
            ]
            low, high = interval(drawn[policy][metric] - drawn[reference][metric])
            place = {"ablation": policy.removeprefix("long-"), "suite": suite, "metric": metric}
            yield {**place, "value": means[0], "change": means[0] - means[1], "low": low, "high": high}


def write_weak(run: str, profile: str) -> Step:
    """weak_base.csv and errors.csv: the weak bases and what each schedule made of them, the untouched base beside them."""
    jobs = list_weak(profile)
    jobs = [*(Job(base, 0, "base") for base in dict.fromkeys(job.base for job in jobs)), *jobs]
    evaluations = {job.name: evaluate_policy(run, profile, job, ABLATION_SPLIT, show=False) for job in jobs}
    step = open_run(run).step(
        "weak_base", {"seeds": list(get_profile(profile).weak_seeds)}, evaluations, code=["reporting.trials"]
    )
    if step.state() == "done":
        return step
    step.begin()
    step.write_csv("weak_base.csv", main_table(collect_rows(run, profile, jobs, ABLATION_SPLIT)), MAIN_COLUMNS)
    step.write_csv("errors.csv", list(find_all_errors(run, profile, jobs, evaluations, ABLATION_SPLIT)), ERROR_COLUMNS)
    step.finish({"policies": len(jobs)})
    return step


def write_annotated(run: str, profile: str) -> Step:
    """annotators.csv: policies trained on the labels of sloppy annotators, and those trained on the truth beside them."""
    sloppy = list_annotated(profile)
    beside = {(job.base, job.seed, job.policy) for job in sloppy} | {(job.base, 0, "base") for job in sloppy}
    jobs = [*(job for job in list_jobs(profile) if (job.base, job.seed, job.policy) in beside), *sloppy]
    evaluations = {job.name: evaluate_policy(run, profile, job, show=False) for job in jobs}
    step = open_run(run).step(
        "annotators", {"seeds": list(get_profile(profile).annotator_seeds)}, evaluations, code=["reporting.trials"]
    )
    if step.state() == "done":
        return step
    step.begin()
    table = []
    for job in jobs:
        rows = [r for r in collect_rows(run, profile, [job]) if r["set"] == "mean"]
        table += [
            {**{c: r[c] for c in MAIN_COLUMNS}, "policy": job.policy, "annotator": job.annotator or "the truth"} for r in rows
        ]
    step.write_csv("annotators.csv", table, ("annotator", *MAIN_COLUMNS))
    step.finish({"policies": len(jobs)})
    return step


def which_sft(settings: SftSettings | None) -> str:
    """Whose learning rate a sweep's SFT is about: that of one epoch, or that of as much compute as Vision-R1 takes."""
    return "sft" if settings is None or settings.epochs == 1 else "sft_equal_compute"


def write_sweeps(run: str, profile: str) -> Step:
    """sweeps.csv: the bases and whatever of `list_sweeps` has been tried so far, on the validation split; `chosen`: the profile's."""
    p, made = get_profile(profile), set(open_run(run).step_names())
    jobs = [j for j in list_sweeps(profile) if f"evaluation_{ABLATION_SPLIT}/{j.name}" in made]
    jobs = [*(Job(base, 0, "base") for base in p.base_policies), *jobs]
    evaluations = {job.name: evaluate_policy(run, profile, job, ABLATION_SPLIT, show=False) for job in jobs}
    step = open_run(run).step("sweeps", {"profile": profile}, evaluations, code=["reporting.trials"])
    if step.state() == "done":
        return step
    step.begin()
    rows = []
    for job in jobs:
        settings, credit = job.settings, getattr(job.settings, "credit", None)
        if credit:
            best = p.grpo[job.base, credit].learning_rate
        else:
            length = which_sft(settings)
            best = SLOPPY_RATES.get((length, job.annotator), p.sft[job.base, length].learning_rate)
        row = {
            "base_policy": job.base,
            "annotator": job.annotator or "the truth",
            "policy": job.policy,
            "credit": credit,
            "epochs": getattr(settings, "epochs", None),
            "learning_rate": getattr(settings, "learning_rate", None),
            **{c: evaluations[job.name].metrics()[c] for c in ("in_domain_AP", "shifted13_AP")},
            "chosen": bool(settings) and settings.learning_rate == best,
        }
        rows.append(row)
    step.write_csv("sweeps.csv", rows, SWEEP_COLUMNS)
    step.finish({"tried": len(rows) - len(p.base_policies)})
    return step
