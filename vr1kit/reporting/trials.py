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
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from vr1kit.jobs import ABLATIONS, Job, list_ablations, list_annotated, list_jobs, list_long_ablations, list_sweeps, list_weak
from vr1kit.measures.intervals import LEVEL, RESAMPLES, bootstrap_suite, interval
from vr1kit.profiles import SLOPPY_RATES, get_profile
from vr1kit.reporting.summary import DETECTION_SUITES, ERROR_COLUMNS, METRICS, Evaluated, find_all_errors, load_matches, summarize
from vr1kit.runs import Step, open_run
from vr1kit.settings import SftSettings
from vr1kit.study import MAIN_COLUMNS, collect_rows, main_table

ABLATION_COLUMNS = ("ablation", "paper_table", *(c for c in MAIN_COLUMNS if c != "policy"))
CHANGE_COLUMNS = ("ablation", "suite", "metric", "value", "change", "low", "high")
GAIN_COLUMNS = ("annotator", "policy", "over", *CHANGE_COLUMNS[1:])
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

BASELINES, BY = ("sft", "sft_equal_compute"), ("in_domain", "AP")  # the better one is chosen by

CODE = "reporting.trials"
ABLATION_SPLIT = "val"  # the test split is for final numbers only


def write_ablations(run: str, profile: str) -> Step:
    """ablations.csv and errors.csv: every ablation of the profile and the untouched base beside them, or find them written."""

    def write(step: Step, evaluated: Evaluated) -> dict:
        table = []
        for r in main_table(collect_rows(evaluated)):
            name = r.pop("policy").removeprefix("ablation-")
            table.append({"ablation": name, "paper_table": ABLATIONS[name][0] if name in ABLATIONS else "", **r})
        step.write_csv("ablations.csv", table, ABLATION_COLUMNS)
        step.write_csv("errors.csv", list(find_all_errors(run, profile, evaluated, ABLATION_SPLIT)), ERROR_COLUMNS)
        return {"ablations": len(evaluated) - 1}

    config = {"seeds": list(get_profile(profile).ablation_seeds)}
    return summarize(run, profile, "ablations", _with_bases(list_ablations(profile)), config, write, ABLATION_SPLIT, CODE)


def _with_bases(jobs: Sequence[Job]) -> list[Job]:
    return [*(Job(base, 0, "base") for base in dict.fromkeys(job.base for job in jobs)), *jobs]


def write_long_ablations(run: str, profile: str) -> Step:
    """long_ablations.csv: those as long as the main study and its Vision-R1, both on the test split; changes.csv: paired intervals
    of what they change, pictures and seeds drawn anew, the same for both.
    """

    def write(step: Step, evaluated: Evaluated) -> dict:
        rows = main_table(collect_rows(evaluated))
        step.write_csv("long_ablations.csv", rows, MAIN_COLUMNS)
        changes = [{"ablation": c.pop("policy").removeprefix("long-"), **c} for c in _find_changes(evaluated, rows)]
        step.write_csv("changes.csv", changes, CHANGE_COLUMNS)
        return {"policies": len(evaluated)}

    config = {"seeds": list(get_profile(profile).seeds), "resamples": RESAMPLES, "level": LEVEL}
    return summarize(run, profile, "long_ablations", list_long_ablations(profile), config, write, code=CODE)


def _find_changes(evaluated: Evaluated, rows: Sequence[dict]) -> Iterator[dict]:
    """Of each policy against the first: paired intervals, pictures and seeds drawn anew, the same for both."""
    steps: dict[str, list[Step]] = {}
    for job, evaluation in evaluated:
        steps.setdefault(job.tag or job.policy, []).append(evaluation)
    reference, *others = steps
    for suite in DETECTION_SUITES:
        matches = {policy: [load_matches(s, suite) for s in of_seeds] for policy, of_seeds in steps.items()}
        drawn = bootstrap_suite(matches, METRICS, RESAMPLES)
        for policy, metric in itertools.product(others, METRICS):
            mean, before = (
                float(np.mean([r["value"] for r in rows if (r["policy"], r["suite"], r["metric"]) == (p, suite, metric)]))
                for p in (policy, reference)
            )
            low, high = interval(drawn[policy][metric] - drawn[reference][metric])
            place = {"policy": policy, "suite": suite, "metric": metric}
            yield {**place, "value": mean, "change": mean - before, "low": low, "high": high}


def write_weak(run: str, profile: str) -> Step:
    """weak_base.csv and errors.csv: the weak bases and what each schedule made of them, the untouched base beside them."""

    def write(step: Step, evaluated: Evaluated) -> dict:
        step.write_csv("weak_base.csv", main_table(collect_rows(evaluated)), MAIN_COLUMNS)
        step.write_csv("errors.csv", list(find_all_errors(run, profile, evaluated, ABLATION_SPLIT)), ERROR_COLUMNS)
        return {"policies": len(evaluated)}

    config = {"seeds": list(get_profile(profile).weak_seeds)}
    return summarize(run, profile, "weak_base", _with_bases(list_weak(profile)), config, write, ABLATION_SPLIT, CODE)


def write_annotated(run: str, profile: str) -> Step:
    """annotators.csv: policies trained on the labels of sloppy annotators, and those trained on the truth beside them; gains.csv:
    what both credits gain over the better of the two baselines (by in-domain AP), for each annotator.
    """
    sloppy = list_annotated(profile)
    beside = {(job.base, job.seed, job.policy) for job in sloppy} | {(job.base, 0, "base") for job in sloppy}
    jobs = [*(job for job in list_jobs(profile) if (job.base, job.seed, job.policy) in beside), *sloppy]

    def write(step: Step, evaluated: Evaluated) -> dict:
        table = [
            {**r, "policy": job.policy, "annotator": job.annotator or "the truth"}
            for job, evaluation in evaluated
            for r in main_table(collect_rows([(job, evaluation)]))
        ]
        step.write_csv("annotators.csv", table, ("annotator", *MAIN_COLUMNS))
        step.write_csv("gains.csv", list(_find_gains(evaluated)), GAIN_COLUMNS)
        return {"policies": len(evaluated)}

    config = {"seeds": list(get_profile(profile).annotator_seeds)}
    return summarize(run, profile, "annotators", jobs, config, write, code=CODE)


def _find_gains(evaluated: Evaluated) -> Iterator[dict]:
    taught = [(job, step) for job, step in evaluated if job.policy != "base"]
    for annotator in dict.fromkeys(job.annotator for job, _ in taught):
        group = [(replace(job, tag=""), step) for job, step in taught if job.annotator == annotator]
        rows = main_table(collect_rows(group))
        values = {p: [r["value"] for r in rows if (r["policy"], r["suite"], r["metric"]) == (p, *BY)] for p in BASELINES}
        best = max(BASELINES, key={p: np.mean(found) for p, found in values.items()}.get)
        ours = [item for item in group if item[0].policy not in BASELINES]
        for change in _find_changes([*(item for item in group if item[0].policy == best), *ours], rows):
            yield {"annotator": annotator or "the truth", "over": best, **change}


def which_sft(settings: SftSettings | None) -> str:
    """Whose learning rate a sweep's SFT is about: that of one epoch, or that of as much compute as Vision-R1 takes."""
    return "sft" if settings is None or settings.epochs == 1 else "sft_equal_compute"


def write_sweeps(run: str, profile: str) -> Step:
    """sweeps.csv: the bases and whatever of `list_sweeps` has been tried so far, on the validation split; `chosen`: the profile's."""
    p, made = get_profile(profile), set(open_run(run).step_names())
    jobs = [j for j in list_sweeps(profile) if f"evaluation_{ABLATION_SPLIT}/{j.name}" in made]
    jobs = [*(Job(base, 0, "base") for base in p.base_policies), *jobs]

    def write(step: Step, evaluated: Evaluated) -> dict:
        rows = []
        for job, evaluation in evaluated:
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
                **{c: evaluation.metrics()[c] for c in ("in_domain_AP", "shifted13_AP")},
                "chosen": bool(settings) and settings.learning_rate == best,
            }
            rows.append(row)
        step.write_csv("sweeps.csv", rows, SWEEP_COLUMNS)
        return {"tried": len(rows) - len(p.base_policies)}

    return summarize(run, profile, "sweeps", jobs, {"profile": profile}, write, ABLATION_SPLIT, CODE)
