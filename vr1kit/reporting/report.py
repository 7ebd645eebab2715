"""The report of a run: one HTML file that can be mailed, with the verdict first and the way to make it again last.

    build_report(Path("runs/tiny"))  ->  runs/tiny/report.html

It reads files only, no models: `results` (main.csv, domains.csv, intervals.csv), `ablations`, `figures`, the data steps, and
the provenance of every step. What is not there is named with the notebook that makes it; nothing in a run's files is trusted
to be HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vr1kit.drawing.pictures import judge_answer
from vr1kit.profiles import PROFILES
from vr1kit.reporting import gallery, page, tables
from vr1kit.reporting.page import code, missing, picture, scroll, text
from vr1kit.results import PAPER_MODELS, SUITE_NAMES, Results, Row, paper_value, policy_name, read_paper
from vr1kit.runs import Run
from vr1kit.safekeeping.files import RunError, read_csv, read_json, write_text_atomic
from vr1kit.safekeeping.manifests import MANIFEST, METRICS, PROVENANCE
from vr1kit.scenes import draw_scene

UNREADABLE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OSError)  # what a damaged file can cause
SIGNS = {"holds": ("✓", "good"), "win": ("✓", "good"), "missed": ("✗", "bad"), "loss": ("✗", "bad")}
FIGURES = {  # of each file: its section and its caption, in the order shown
    "main": ("main", "Each policy's mean over seeds, one ring per seed, 95 % intervals; the paper's numbers, hollow, on axes of their own."),
    "before_after": ("pictures", "The same test pictures, answered before and after training."),
    **{f"rewards_{base}": ("curves", f"Base policy “{base}”: rewards of sampled answers and their length. At the line the criteria get stricter.")
       for base in PAPER_MODELS},
    "differentiation": ("curves", "What a box earns by its IoU, and an answer by the share of objects it finds, in each stage."),
    "schedule": ("curves", "The stages: from where on the reward is nothing, itself, or full."),
    "domains": ("domains", "Every shifted and unseen domain, from the base to SFT and Vision-R1."),
    "scenes": ("data", "One picture of each domain, four of the first, with their true boxes."),
    "ablations": ("ablations", "What each part of the method is worth: the change when it alone is left out or replaced."),
    "annotators": ("other", "The same methods taught by labels with faults, always of the published run: a dot is a seed."),
    "set_gains_paper": ("other", "The paper's gain, domain by domain."),
}  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What the report is made from."""

    run: Run
    main: list[Row]
    intervals: list[Row] | None
    paper: dict[str, Any]

    def file(self, *names: str) -> Path | None:
        """The first of these files that is there."""
        return next((self.run.path / name for name in names if (self.run.path / name).is_file()), None)

    def figures(self, section: str) -> list[tuple[Path, str]]:
        """(file, caption) of a section's figures; those that no section knows belong to "other"."""
        files = {path.stem: path for path in sorted((self.run.path / "figures").glob("*.png"))}
        known = [(files[name], says) for name, (place, says) in FIGURES.items() if place == section and name in files]
        return known + [
            (path, name.replace("_", " ")) for name, path in files.items() if section == "other" and name not in FIGURES
        ]

    def show_figures(self, section: str, otherwise: str) -> str:
        shown = [picture(path, caption) for path, caption in self.figures(section)]
        return "".join(shown) or (missing(otherwise) if otherwise else "")


def read_material(run_path: Path) -> Material:
    """Tables that are missing or damaged are empty; the sections say so."""
    material = Material(Run(Path(run_path).name, Path(run_path)), [], None, {})
    try:
        material = Material(material.run, [], None, read_paper())
        main = material.file("results/main.csv", "main.csv")
        rows = read_csv(main) if main else []
        Results(rows)  # raises if columns are missing
        intervals = material.file("results/intervals.csv", "intervals.csv")
        return Material(material.run, rows, read_csv(intervals) if intervals else None, material.paper)
    except UNREADABLE:
        return material


def build_report(run_path: Path) -> Path:
    """Write run_path/report.html and return its path."""
    material = read_material(Path(run_path))
    sections = [
        ("Verdict", _verdict),
        ("Results beside the paper's", _main),
        ("Before and after", _pictures),
        ("Training", _curves),
        ("Domain by domain", _domains),
        ("Data", _data),
        ("Ablations", _ablations),
        ("Other figures", _other),
        ("Where every number comes from", _provenance),
        ("Make it again", _rerun),
    ]
    built = [(title, _try(build, material)) for title, build in sections]
    title = f"Vision-R1 reproduced: run {material.run.name}"
    path = material.run.path / "report.html"
    write_text_atomic(
        path, page.page(title, _try(_header, material), [(name, body) for name, body in built if body], gallery.CSS)
    )
    return path


def verdict_lines(run_path: Path) -> list[str]:
    """The verdicts as lines for a terminal."""
    material = read_material(Path(run_path))
    if not (material.main and material.paper):
        return ["no verdict: results/main.csv or the paper's tables are missing; run notebook 04_evaluation"]
    shown = tables.show_verdicts(tables.verdicts(material.main, material.intervals, material.paper))
    signs = [SIGNS.get(row["verdict"], ("=" if row["verdict"] == "tie" else "?", ""))[0] for row in shown]
    return [
        f"{sign} {row['verdict']:6}  {row['goal']}: {row['measured'] or 'nothing'}, wanted {row['wanted']}"
        for sign, row in zip(signs, shown, strict=True)
    ]


def _try(build: Callable[[Material], str], material: Material) -> str:
    """A damaged file costs its section, and the section says so; the rest of the report stands."""
    try:
        return build(material)
    except UNREADABLE as error:
        return missing(f"This part could not be made: {type(error).__name__}: {error}. Run its notebook again.")


# --- sections ----------------------------------------------------------------------------------------------------------


def _header(m: Material) -> str:
    records = _records(m)
    profiles = sorted({str(p["profile"]) for p in _parameters(m) if "profile" in p})
    facts = [f"profile {name}: {PROFILES[name].purpose}" if name in PROFILES else f"profile {name}" for name in profiles]
    ends = [r["end"] for _, r in records if r.get("end")]
    facts += [f"finished {max(ends)[:16].replace('T', ' ')} UTC"] if ends else []
    facts += [f"commit {c}" for c in dict.fromkeys(_commit(r) for _, r in records)][:3]
    lead = (
        "A vision-language model learns to say what is where in a picture, and the answer is rewarded by the picture "
        "itself: is the format right, are all objects found, are the boxes tight (arXiv 2503.18013). Numbers are from "
        "held-out test pictures; the paper's stand beside them, measured on other pictures with other models."
    )
    cards = "".join(_card(m, base) for base in Results(m.main).base_policies()) if m.paper else ""
    return f'<p class="sub">{text(" · ".join(facts))}</p>\n<p>{lead}</p>\n<div class="cards">{cards}</div>\n'


def _card(m: Material, base: str) -> str:
    results = Results(m.main, m.intervals)
    policy = tables.best_credit(results, base)
    start, end = (results.estimate(base, p, "in_domain", "AP") if p else None for p in ("base", policy))
    if start is None or end is None:
        return ""
    before, after = (paper_value(m.paper, base, p, "in_domain", "AP") for p in ("base", "vision_r1"))
    ratio = f" (×{end.mean / start.mean:.2f})" if start.mean else ""
    said = f"paper, {PAPER_MODELS[base][1]}: {before} → {after} (×{after / before:.2f})" if before and after else ""
    return (
        f'<div class="card"><span>base policy “{text(base)}”, in-domain AP</span>'
        f"<b>{start.mean:.1f} → {end.mean:.1f}{ratio}</b><span>{text(policy_name(policy))}</span><span>{text(said)}</span></div>"
    )


def _verdict(m: Material) -> str:
    if not m.paper:
        return missing("paper_figures/paper_tables.json is missing or damaged: there is nothing to compare with.")
    if not m.main:
        return missing("No results table (results/main.csv), or it is damaged: run notebook 04_evaluation.")
    rows = []
    for row in tables.show_verdicts(tables.verdicts(m.main, m.intervals, m.paper)):
        sign, kind = SIGNS.get(row["verdict"], ("=" if row["verdict"] == "tie" else "?", "even"))
        tag = f'<span class="tag {kind}">{sign} {text(row["verdict"])}</span>'
        rows.append([text(row["goal"]), tag, text(row["measured"]), text(row["wanted"]), text(row["paper"])])
    note = (
        "Measured with its 95 % interval. Ratios and gains are of AP, or of percent of questions answered right. The better "
        "of the two credits in-domain stands for Vision-R1; both have rows below. Against SFT: a win or a loss where the "
        "interval of the difference is off zero, else a tie."
    )
    how = sorted({str(v["interval"]) for v in tables.verdicts(m.main, m.intervals, m.paper) if v["interval"]})
    return page.table(("goal", "verdict", "measured", "wanted", "paper"), rows, long=(0,)) + (
        f'<p class="note">{text(note)} Intervals: {text("; ".join(how) or "none")}.</p>\n'
    )


def _main(m: Material) -> str:
    if not (m.main and m.paper):
        return missing("No results table: run notebook 04_evaluation.")
    parts = []
    rows = tables.main_table(m.main, m.paper, m.intervals)
    for base in dict.fromkeys(row["base_policy"] for row in rows):
        own = [{k: v for k, v in row.items() if k != "base_policy"} for row in rows if row["base_policy"] == base]
        role = f", in the role of {PAPER_MODELS[base][1]}" if base in PAPER_MODELS else ""
        parts.append(f"<h3>Base policy “{text(base)}”{text(role)}</h3>\n{scroll(tables.to_html(own))}")
    note = "± is half the 95 % interval, × the ratio to the base. In italics: the paper, on its own benchmarks."
    return "".join(parts) + f'<p class="note">{note}</p>\n' + m.show_figures("main", "")


def _pictures(m: Material) -> str:
    shown = m.show_figures("pictures", "No pictures before and after: run notebook 05_figures.")
    files = sorted((m.run.path / "gallery").glob("*/gallery.json"), key=lambda path: (_place_of(path.parent.name), path))
    for k, path in enumerate(files):
        rows = read_json(path)
        last = next((p for p in ("vision_r1_object", "vision_r1", "sft") if rows and p in rows[0]["answers"]), None)
        if last:
            inner = gallery.draw_cards([_to_card(row, "base", last) for row in rows], ("base", policy_name(last)), f"g{k}-")
            shown += f"<details><summary>{text(path.parent.name)}: {len(rows)} pictures to sort</summary>{inner}</details>\n"
    return shown


def _place_of(name: str) -> int:
    """Of a base policy, or what is named after it, in the order of the tables."""
    return next((place for place, base in enumerate(PAPER_MODELS) if name.startswith(base)), len(PAPER_MODELS))


def _to_card(row: Row, before: str, after: str) -> gallery.Card:
    """A row of gallery.json; its picture is drawn again from domain and seed."""
    image, truth = draw_scene(row["domain"], row["seed"]).image, (row["boxes_xyxy_px"], row["labels"])
    answers = tuple((row["answers"][p]["boxes_xyxy_px"], row["answers"][p]["labels"]) for p in (before, after))
    judged = tuple(judge_answer(*answer, *truth) for answer in answers)
    name = f"{row['domain']} {row['seed']}"
    return gallery.Card(name, gallery.make_thumbnail(image), image.size, truth, answers, judged)


def _curves(m: Material) -> str:
    return m.show_figures("curves", "No reward curves: run notebook 05_figures.")


def _domains(m: Material) -> str:
    path = m.file("results/domains.csv", "domains.csv")
    shown = m.show_figures("domains", "No figure of the domains: run notebook 05_figures.")
    if path is None:
        return shown + missing("No table of the domains (results/domains.csv): run notebook 04_evaluation.")
    values: dict[tuple, dict[str, list[float]]] = {}
    for r in read_csv(path):
        if r["metric"] == "AP" and r["set"] != "mean" and r["suite"] != "in_domain":
            place = (r["base_policy"], r["suite"], r["set"])
            values.setdefault(place, {}).setdefault(r["policy"], []).append(float(r["value"]))
    rows = [
        {"domain": name, "base_policy": base, "suite": SUITE_NAMES.get(suite, suite)}
        | {policy_name(p): float(np.mean(v)) for p, v in found.items()}
        for (base, suite, name), found in values.items()
    ]
    inner = scroll(tables.to_html(rows))
    return f"{shown}<details><summary>AP of every domain, mean over seeds</summary>{inner}</details>\n"


def _data(m: Material) -> str:
    shown = m.show_figures("data", "No sample sheet: run notebook 05_figures.")
    mixes = sorted((m.run.path / "data").glob("mix-*/parts.csv"))
    if not mixes:
        return shown + missing("No curated mix (data/mix-seed0): run notebook 01_data_curation.")
    parts, folder = read_csv(mixes[0]), mixes[0].parent
    facts = [f"{sum(r['examples'] for r in parts)} examples with {sum(r['boxes'] for r in parts)} boxes"]
    if (folder / "dropped.csv").is_file():
        facts.append(f"{len(read_csv(folder / 'dropped.csv'))} records left out with a reason")
    scenes = m.run.path / "data" / "scenes" / METRICS
    if scenes.is_file():
        facts.append(f"drawn from {read_json(scenes)['pictures']} pictures in train, validation and test, which share none")
    facts.append(f"{len(mixes)} mix{'es' if len(mixes) > 1 else ''} in all, one per seed; shown is {folder.name}")
    inner = scroll(tables.to_html([{**r, "dense_share": f"{100 * r['dense_share']:.0f} %"} for r in parts]))
    return f"<p>{text('; '.join(facts))}.</p>\n{shown}<details><summary>The mix, part by part</summary>{inner}</details>\n"


def _ablations(m: Material) -> str:
    path = m.file("ablations/ablations.csv", "ablations.csv")
    if path is None:
        return missing("No ablations in this run: notebook 02_reward_ablations makes them where the profile has any.")
    rows = read_csv(path)
    inner = scroll(tables.to_html(tables.ablation_table(rows)))
    return inner + '<p class="note">In-domain; ± is a 95 % t-interval over seeds.</p>\n' + m.show_figures("ablations", "")


def _other(m: Material) -> str:
    return m.show_figures("other", "")


# --- provenance --------------------------------------------------------------------------------------------------------


def _records(m: Material) -> list[tuple[str, dict[str, Any]]]:
    """(step, provenance) of all finished steps, in the order they ended."""
    found = []
    for name in m.run.step_names():
        path = m.run.path / name / PROVENANCE
        if path.is_file() and (m.run.path / name / MANIFEST).is_file():
            try:
                found.append((name, read_json(path)))
            except RunError:
                found.append((name, {"command": "(its provenance.json is damaged)"}))
    return sorted(found, key=lambda item: (item[1].get("end") or "", item[0]))


def _parameters(m: Material) -> list[dict[str, Any]]:
    return [read_json(path) for path in sorted((m.run.path / "notebooks").glob("*/params.json"))]


def _commit(record: dict[str, Any]) -> str:
    commit = str(record.get("git_commit") or "unknown")[:10]
    return commit + (" with changes" if record.get("git_dirty") else "")


def _provenance(m: Material) -> str:
    records = _records(m)
    unfinished = sorted(set(m.run.step_names()) - {name for name, _ in records})
    if not records:
        return missing("No finished step has left a record.")
    rows = [
        [
            code(name),
            text(_commit(r)),
            text(r.get("seconds")),
            text(r.get("seed")),
            text(r.get("peak_memory_mib")),
            code(r.get("command")),
        ]
        for name, r in records
    ]
    total = sum(r.get("seconds") or 0 for _, r in records)
    heads = ("step", "commit", "seconds", "seed", "peak MiB", "command")
    steps = page.table(heads, rows, numbers=(2, 3, 4))
    says = f"{len(records)} steps, {total / 60:.0f} minutes of work, several at a time. "
    says += f"Not finished: {', '.join(unfinished)}." if unfinished else "All that was begun is finished."
    return f"<p>{text(says)}</p>\n{_machines(records)}<details><summary>Every step</summary>{steps}</details>\n"


def _machines(records: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """What differs between steps is said; as a rule nothing does."""
    lines: dict[str, list[str]] = {}
    for name, r in records:
        packages = r.get("packages") or {}
        versions = ", ".join(f"{package} {version}" for package, version in packages.items())
        where = f"{r.get('platform')}, {r.get('cpu_count')} × {r.get('cpu_model')}" + (f", {r['gpu']}" if r.get("gpu") else "")
        lines.setdefault(f"Python {r.get('python')}, {versions}; {where}", []).append(name)
    items = "".join(
        f"<li>{text(line)}{text(f' ({len(names)} steps)' if len(lines) > 1 else '')}</li>" for line, names in lines.items()
    )
    return f'<ul class="note">{items}</ul>\n'


def _rerun(m: Material) -> str:
    records = _records(m)
    commits = list(dict.fromkeys(str(r["git_commit"]) for _, r in records if r.get("git_commit")))
    said = [r["command"] for name, r in records if name.startswith("notebooks/") and r.get("command")]
    profile = next((p["profile"] for p in _parameters(m) if "profile" in p), "tiny")
    command = said[-1] if said else f"make reproduce RUN={m.run.name} PROFILE={profile}"
    lines = [f"git checkout {commits[-1]}"] if commits else []
    out = f"<pre>{text(chr(10).join([*lines, command]))}</pre>\n<p>Finished steps are found and skipped; under another run name all is made anew.</p>\n"
    notebooks = sorted((m.run.path / "notebooks").glob("*/executed.ipynb"))
    if not notebooks:
        return out + missing("No executed notebooks in this run.")
    items = "".join(f"<li>{page.link(p.relative_to(m.run.path).as_posix(), p.parent.name)}</li>" for p in notebooks)
    return f"{out}<p>The notebooks as they were executed, beside this file:</p>\n<ul>{items}</ul>\n"
