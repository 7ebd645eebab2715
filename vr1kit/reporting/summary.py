"""What a run comes to, as steps of their own: `results` (notebook 04) and `figures` (05); of `ablations` (02), see `trials`.

    runs/NAME/results/main.csv        base_policy, seed, policy, suite, metric, value, n_images: means over a suite's sets
    runs/NAME/results/domains.csv     the same for every single set, in a further column `set`
    runs/NAME/results/intervals.csv   95 % intervals of means over seeds, and of paired differences and ratios
    runs/NAME/results/errors.csv      what was wrong with the answers in-domain, by kind (`measures.errors`)
    runs/NAME/figures/                PNG and PDF

Importing needs no torch: notebook 05 redraws everything from these files on a machine that has none.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from vr1kit import __version__
from vr1kit.jobs import Job, list_jobs
from vr1kit.measures.errors import FOUND, describe_errors, find_errors
from vr1kit.measures.intervals import LEVEL, RESAMPLES, Matches, bootstrap_suite, draw_weights, interval
from vr1kit.measures.outcomes import find_outcomes
from vr1kit.profiles import domains_of, get_profile
from vr1kit.reporting.tables import main_table as main_table_of
from vr1kit.reporting.tables import read_paper, to_csv, to_html, to_latex, to_markdown
from vr1kit.results import SUITE_NAMES, Results, policy_name
from vr1kit.runs import Step, open_run, project_root, read_csv, read_json
from vr1kit.safekeeping import provenance
from vr1kit.safekeeping.files import write_text_atomic
from vr1kit.scenes import TOYBOX
from vr1kit.study import MAIN_COLUMNS, collect_rows, draw_data, evaluate_policy, main_table, read_split

DETECTION_SUITES = ("in_domain", "shifted13", "unseen4")
METRICS = ("AP", "AP50", "AP75", "AR100")
COMPARED = ("AP", "accuracy")  # metrics of which differences and ratios are taken
REFERENCES = ("base", "sft", "sft_equal_compute")  # what the other policies are compared with
DOMAIN_COLUMNS = (*MAIN_COLUMNS[:4], "set", *MAIN_COLUMNS[4:])
INTERVAL_COLUMNS = ("base_policy", "suite", "metric", "policy", "kind", "against", "value", "low", "high")
ERROR_COLUMNS = ("base_policy", "seed", "policy", "set", "kind", "count", "dAP", "objects", "detections")

Evaluated = Sequence[tuple[Job, Step]]
Samples = dict[str, dict[str, np.ndarray]]  # policy -> metric -> (resamples,)


def describe_run(run: str, profile: str) -> str:
    """One line: which run, which profile, and what code and packages its data were made with. Refuses an unknown profile."""
    opened, known = open_run(run), get_profile(profile)
    names = opened.step_names()
    record = {**provenance.describe_code(), **provenance.describe_machine()}
    if "data/scenes" in names and opened.find("data/scenes").has("provenance.json"):
        record = opened.find("data/scenes").provenance()
    state = "frozen" if opened.frozen else f"{len(names)} steps so far"
    made_by = f"vr1kit {__version__}, commit {(record['git_commit'] or 'none')[:7]}, Python {record['python']}"
    return (
        f"run {run} ({state}) | profile {profile}: {known.purpose} | {made_by}, torch {record['packages'].get('torch', 'none')}"
    )


# --- steps made of evaluations --------------------------------------------------------------------------------------------------
def summarize(
    run: str, profile: str, name: str, jobs: Sequence[Job], config: Mapping, write: Callable[[Step, Evaluated], Mapping],
    split: str = "test", code: str = "reporting.summary",
) -> Step:  # fmt: skip
    """The step `name`, made of the jobs' evaluations by `write`, which returns its metrics; or found written."""
    evaluated = [(job, evaluate_policy(run, profile, job, split, show=False)) for job in jobs]
    step = open_run(run).step(name, dict(config), {job.name: evaluation for job, evaluation in evaluated}, code=[code])
    if step.state() != "done":
        step.begin()
        step.finish(write(step, evaluated))
    return step


# --- the main results -----------------------------------------------------------------------------------------------------------
def write_results(run: str, profile: str) -> Step:
    """main.csv, domains.csv, intervals.csv and errors.csv of all policies of the profile, or find them written."""
    seeds = get_profile(profile).seeds

    def write(step: Step, evaluated: Evaluated) -> dict:
        rows = collect_rows(evaluated, seeds)
        step.write_csv("main.csv", main_table(rows), MAIN_COLUMNS)
        sets = [r for r in rows if r["set"] != "mean"]
        step.write_csv("domains.csv", [{c: r[c] for c in DOMAIN_COLUMNS} for r in sets], DOMAIN_COLUMNS)
        step.write_csv("intervals.csv", _find_intervals(run, profile, evaluated, rows), INTERVAL_COLUMNS)
        step.write_csv("errors.csv", list(find_all_errors(run, profile, evaluated)), ERROR_COLUMNS)
        return {"policies": len(evaluated), "rows": len(rows)}

    config = {"seeds": list(seeds), "resamples": RESAMPLES, "level": LEVEL}
    return summarize(run, profile, "results", list_jobs(profile), config, write)


def find_all_errors(run: str, profile: str, evaluated: Evaluated, split: str = "test") -> Iterator[dict]:
    """Errors of every policy on the in-domain pictures of a split, from the answers that were kept."""
    from vr1kit.evaluate import to_detections
    from vr1kit.models import POLICIES, load_policy

    data = read_split(run, profile, split)[TOYBOX.name]
    readers = {base: load_policy(POLICIES / base, weights=False) for base in get_profile(profile).base_policies}
    for job, evaluation in evaluated:
        lines = (evaluation.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
        answers = {row["image_id"]: row["answer"] for row in map(json.loads, lines) if row["set"] == data.name}
        detections, _ = to_detections(readers[job.base], data, [answers[record.image_id] for record in data.records])
        errors = find_errors(find_outcomes(data.annotations, detections, [FOUND]))
        for row in describe_errors(errors):
            place = {"base_policy": job.base, "seed": job.seed, "policy": job.tag or job.policy, "set": data.name}
            yield {**place, **{c: row[c] for c in ERROR_COLUMNS[4:]}}


def _find_intervals(run: str, profile: str, evaluated: Evaluated, rows: Sequence[dict]) -> list[dict]:
    found = []
    for base in get_profile(profile).base_policies:
        steps: dict[str, list[Step]] = {}
        for job, evaluation in evaluated:
            if job.base == base:
                steps.setdefault(job.policy, []).append(evaluation)
        for suite in DETECTION_SUITES:
            matches = {policy: [load_matches(s, suite) for s in of_seeds] for policy, of_seeds in steps.items()}
            found += _describe_samples(bootstrap_suite(matches, METRICS), base, suite, rows)
        questions = read_json(draw_data(run, profile).path / "questions.json")
        right = {policy: np.stack([_check_answers(s, questions) for s in of_seeds]) for policy, of_seeds in steps.items()}
        found += _describe_samples(_bootstrap_questions(right), base, "questions", rows)
    return found


def load_matches(evaluation: Step, suite: str) -> dict[str, Matches]:
    return {name: Matches.load(evaluation.path / "matches" / f"{name}.npz") for name in domains_of(suite)}


def _check_answers(evaluation: Step, questions: Sequence[dict]) -> np.ndarray:
    lines = (evaluation.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [row["answer"] for row in map(json.loads, lines) if row["suite"] == "questions"]
    return np.array([a.strip() == q["answer"] for a, q in zip(answers, questions, strict=True)], float)  # (Q,)


def _bootstrap_questions(right: Mapping[str, np.ndarray], resamples: int = RESAMPLES, seed: int = 0) -> Samples:
    """right: policy -> (S, Q). Paired like `bootstrap_suite`: one draw of questions and seeds for all policies."""
    rng = np.random.default_rng(seed)
    n = next(iter(right.values())).shape[1]
    weights = draw_weights(n, resamples, rng) / n  # (B, Q)
    most = max(len(r) for r in right.values())
    drawn = rng.integers(0, most, (resamples, most))  # (B, S)
    accuracy = {policy: 100 * weights @ r.T for policy, r in right.items()}  # (B, S)
    return {
        policy: {"accuracy": np.take_along_axis(a, drawn % a.shape[1], axis=1).mean(axis=1)} for policy, a in accuracy.items()
    }


def _describe_samples(samples: Samples, base: str, suite: str, rows: Sequence[dict]) -> Iterator[dict]:
    """A row per mean, and for COMPARED metrics per difference from and ratio to each of REFERENCES."""
    seen: dict[tuple[str, str], list[float]] = {}
    for r in rows:
        if (r["base_policy"], r["suite"], r["set"]) == (base, suite, "mean"):
            seen.setdefault((r["policy"], r["metric"]), []).append(r["value"])
    mean = {key: float(np.mean(values)) for key, values in seen.items()}

    def row(policy, metric, kind, against, value, drawn):
        low, high = interval(drawn)
        place = {
            "base_policy": base,
            "suite": suite,
            "metric": metric,
            "policy": policy,
            "kind": kind,
            "against": against,
        }
        return {**place, "value": round(value, 4), "low": round(low, 4), "high": round(high, 4)}

    for policy, by_metric in samples.items():
        for metric, drawn in by_metric.items():
            yield row(policy, metric, "value", "", mean[policy, metric], drawn)
            for other in REFERENCES:
                if other == policy or other not in samples or metric not in COMPARED:
                    continue
                theirs, reference = samples[other][metric], mean[other, metric]
                yield row(policy, metric, "difference", other, mean[policy, metric] - reference, drawn - theirs)
                if reference > 0 and (theirs > 0).all():
                    yield row(policy, metric, "ratio", other, mean[policy, metric] / reference, drawn / theirs)


def say_difference(results: Results, base: str, policy: str, against: str, suite: str) -> str:
    """One sentence that claims no more than the interval of the difference allows."""
    metric, unit = ("accuracy", "points") if suite == "questions" else ("AP", "AP")
    found = results.contrast(base, policy, against, suite, metric, "difference")
    if found is None:
        return f"{base}, {SUITE_NAMES[suite]}: no result."
    who, whom = policy_name(policy), policy_name(against)
    if found.low is None:
        return f"{base}, {SUITE_NAMES[suite]}: {who} {found.mean:+.1f} {unit} against {whom}; no interval, so no claim."
    way = "above" if found.low > 0 else "below" if found.high < 0 else "not told apart from"
    return f"{base}, {SUITE_NAMES[suite]}: {who} is {way} {whom}, {found.mean:+.1f} {unit} [{found.low:+.1f}, {found.high:+.1f}]."


# --- reading without torch ------------------------------------------------------------------------------------------------------
def find_step(run: str, name: str) -> Step:
    """A step as it was made, counted among those that the asking notebook used."""
    found = open_run(run).find(name)
    found.run.trace(name)
    return found


def read_rows(run: str, step: str, file_name: str) -> list[dict]:
    """A CSV of a step."""
    return read_csv(find_step(run, step).path / file_name)


def read_logs(run: str, jobs: Sequence[Job]) -> list[dict]:
    """Training logs as one tidy table: base_policy, seed, policy, and what was logged at each step."""
    rows = []
    for job in jobs:
        if job.policy != "base":
            who = {
                "base_policy": job.base,
                "seed": job.seed,
                "policy": (job.tag or job.policy).removeprefix("ablation-"),
            }
            rows += [{**who, **row} for row in find_step(run, f"policies/{job.name}").read_log()]
    return rows


def group_logs(logs: Sequence[Mapping], base: str, seed: int = 0) -> dict[str, list[dict]]:
    """The reward curves of one base policy and seed: policy -> rows, SFT's (which have no reward) left out."""
    curves: dict[str, list[dict]] = {}
    for row in logs:
        if (row["base_policy"], row["seed"]) == (base, seed) and "reward" in row:
            curves.setdefault(row["policy"], []).append(row)
    return curves


def list_costs(run: str, jobs: Sequence[Job]) -> list[dict]:
    """What each policy cost: steps, answers sampled or read, seconds of training on one thread."""
    rows = []
    for job in jobs:
        if job.policy == "base":
            continue
        step = find_step(run, f"policies/{job.name}")
        metrics, grpo = step.metrics(), step.config.get("grpo")
        each = grpo["prompts_per_step"] * grpo["num_generations"] if grpo else step.config["sft"]["batch"]
        who = {
            "base_policy": job.base,
            "seed": job.seed,
            "policy": job.policy,
            "name": policy_name(job.tag or job.policy),
        }
        rows.append({**who, "steps": metrics["steps"], "answers": metrics["steps"] * each, "seconds": metrics["train_seconds"]})
    return rows


# --- figures --------------------------------------------------------------------------------------------------------------------
def figures_folder(run: str) -> Path:
    """paper_figures/ for a frozen run, which is what the README shows; a folder of its own below it for any other."""
    folder = project_root() / "paper_figures"
    return folder if open_run(run).frozen else folder / run


def save_tables(folder: Path, named: Mapping[str, Sequence[dict]]) -> list[Path]:
    """Each table as Markdown, HTML, LaTeX and CSV."""
    written = []
    for name, rows in named.items():
        for ending, to_text in (("md", to_markdown), ("html", to_html), ("tex", to_latex), ("csv", to_csv)):
            written.append(folder / f"{name}.{ending}")
            write_text_atomic(written[-1], to_text(rows))
    return written


def write_figures(run: str, files: Sequence[Path]) -> Step | None:
    """Keep copies of built figures and tables with the run; a frozen run has them in paper_figures/ and gets none."""
    if open_run(run).frozen:
        return None
    inputs = {"results": find_step(run, "results")}
    step = open_run(run).step("figures", {"files": sorted(f.name for f in files)}, inputs, code=["figures"])
    step.begin()
    for file in files:
        shutil.copyfile(file, step.path / file.name)
    step.finish({"files": len(files)})
    return step


# --- README ---------------------------------------------------------------------------------------------------------------------
README_COLUMNS = ("in_domain_AP", "shifted13_AP", "unseen4_AP", "questions_accuracy")


def write_readme(run: str) -> Path:
    """Put the main table of a run between README.md's two marks; no number there is typed."""
    path = project_root() / "README.md"
    text = path.read_text(encoding="utf-8")
    start, end = text.index("<!-- main-table"), text.index("<!-- /main-table -->")
    start = text.index("-->", start) + 3
    rows, intervals = read_rows(run, "results", "main.csv"), read_rows(run, "results", "intervals.csv")
    table = main_table_of(rows, read_paper(), intervals)
    keep = ("base_policy", "name", *(f"{c}{part}" for c in README_COLUMNS for part in ("", "_low", "_high", "_ratio")))
    seeds = len({r["seed"] for r in rows})
    note = f"AP in percent on held-out pictures, mean of {seeds} seed{'s' if seeds > 1 else ''}, ± half of the 95 % interval; × is the ratio to the base."
    body = to_markdown([{k: v for k, v in row.items() if k in keep} for row in table])
    write_text_atomic(path, f"{text[:start]}\n\n{body}\n{note} [All columns](paper_figures/main_table.md).\n\n{text[end:]}")
    return path
