"""The paper's tables again: each of its cells, what this kit measured in the same place, and the interval. No torch.

    tables = build_tables("published")             # "table1" -> rows
    write_tables("published", folder)              # each as Markdown, LaTeX and CSV, with run and commit

One row is one cell of the paper: model, method, measure, paper, ours, interval, "what ours is". What stands in the same place is
another world (drawn pictures, tiny policies): the roles are `results.PAPER_MODELS`. A cell that was not run says so. Single sets
have no counterpart: the paper's come first, ours below them, and no row has both.

Tables 6 and 11 are one here, as the paper's numbers were carried into paper_tables.json. Tables 7 and 8 are no results.

Intervals are the run's own where it has them (`results/intervals.csv`: pictures and seeds); of single sets and of ablations the
bootstrap is made here from the matches; questions by kind have a t-interval over seeds where there are several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vr1kit.measures.intervals import RESAMPLES, Matches, bootstrap_suite, interval
from vr1kit.reporting.tables import to_csv, to_latex, to_markdown
from vr1kit.results import (
    ABLATED,
    ABLATION_METRICS,
    PAPER_MODELS,
    SUITE_NAMES,
    Estimate,
    Results,
    Row,
    policy_name,
    read_paper,
    t_interval,
)
from vr1kit.runs import PROVENANCE, Run, open_run
from vr1kit.safekeeping.files import RunError, read_csv, read_json, write_text_atomic

METHODS = ("base", "sft", "vision_r1")
NOT_RUN = "not run"
JOB = re.compile(r"(?P<base>[^-]+)-(?:base|seed(?P<seed>\d+)-(?P<policy>.+))")
COLUMNS = ("model", "method", "measure", "paper", "ours", "interval", "what ours is")
PRINTED = {
    "coco_ap50": "COCO AP50", "coco_ap75": "COCO AP75", "coco_map": "COCO AP", "odinw13_avg_map": "ODINW-13 AP, mean",
    "odinw13_pistols": "ODINW pistols AP", "odinw13_pothole": "ODINW pothole AP", "odinw13_thermal": "ODINW thermal AP",
    "boggle": "boggle AP", "mountain_dew": "mountain dew AP", "thermal_cheetah": "thermal cheetah AP", "vector": "vector AP",
    "avg": "mean of the four AP", "map": "COCO AP", "ap50": "COCO AP50", "ap75": "COCO AP75", "ar100": "COCO AR100",
    "gqa": "GQA", "ai2d": "AI2D", "chartqa": "ChartQA", "seed": "SEED",
}  # fmt: skip
OTHERS = {  # detectors and larger models of Table 1: name -> their columns
    "faster_rcnn_fpn": ("Faster R-CNN FPN", ("coco_ap50", "coco_ap75", "coco_map")),
    "detr": ("DETR", ("coco_ap50", "coco_ap75", "coco_map")),
    "pix2seq": ("Pix2Seq", ("coco_ap50", "coco_ap75", "coco_map")),
    "grounding_dino_map_coco_odinw": ("Grounding DINO", ("coco_map", "odinw13_avg_map")),
    "qwen2_5_vl_72b_odinw": ("Qwen2.5-VL-72B", ("odinw13_avg_map",)),
    "internvl2_5_78b_odinw": ("InternVL2.5-78B", ("odinw13_avg_map",)),
    "gemini_1_5_pro_odinw": ("Gemini 1.5 Pro", ("odinw13_avg_map",)),
}
IN_THE_SAME_PLACE = {  # a column of Tables 1 and 2 -> suite, metric
    "coco_ap50": ("in_domain", "AP50"), "coco_ap75": ("in_domain", "AP75"), "coco_map": ("in_domain", "AP"),
    "odinw13_avg_map": ("shifted13", "AP"), "avg": ("unseen4", "AP"),
}  # fmt: skip
TITLES = {
    "table1": "Table 1: COCO and ODINW-13", "table2": "Table 2: out of domain", "table3": "Table 3: the matcher",
    "table4": "Table 4: the rewards", "table5": "Table 5: STEP, Griffon-G", "table6_11": "Tables 6 and 11: general questions",
    "table9": "Table 9: ODINW-13, set by set", "table10": "Table 10: STEP, Qwen2.5-VL",
}  # fmt: skip


class Measured:
    """What a run measured, by place; read from its files."""

    def __init__(self, run: Run):
        self.run = run
        if not (run.path / "results" / "main.csv").is_file():
            raise RunError(f"{run.path} has no results/main.csv: run notebook 04_evaluation, or name another run")
        self.results = Results(self._read("results/main.csv"), self._read("results/intervals.csv") or None)
        self.sets = self._read("results/domains.csv")
        self.ablations = self._read("ablations/ablations.csv")
        self.commit = str(read_json(run.path / "results" / PROVENANCE).get("git_commit") or "unknown")

    def _read(self, name: str) -> list[Row]:
        path = self.run.path / name
        rows = read_csv(path) if path.is_file() else []
        lacking = {"base_policy", "suite", "metric", "value"} - set(
            rows[0] if rows else ("base_policy", "suite", "metric", "value")
        )
        if lacking:
            raise RunError(
                f"{path} has no column {', '.join(sorted(lacking))}: it is of another version of vr1kit; make it again"
            )
        return rows

    def find_set(self, base: str, policy: str, name: str, metric: str) -> Estimate | None:
        """Of one set, or one kind of question."""
        rows = [r for r in self.sets if (r["base_policy"], r["policy"], r["set"], r["metric"]) == (base, policy, name, metric)]
        values = [float(r["value"]) for r in rows][: 1 if policy == "base" else None]
        return self._with_interval(values, "evaluation", base, policy, name, metric) if values else None

    def find_ablation(self, base: str, name: str, metric: str) -> Estimate | None:
        place = (base, name, "in_domain", metric)
        rows = [r for r in self.ablations if (r["base_policy"], r["ablation"], r["suite"], r["metric"]) == place]
        policy = "base" if name == "base" else f"ablation-{name}"
        values = [float(r["value"]) for r in rows]
        return self._with_interval(values, "evaluation_val", base, policy, "toybox", metric) if values else None

    def _with_interval(self, values: Sequence[float], part: str, base: str, policy: str, name: str, metric: str) -> Estimate:
        files = []
        for folder in sorted((self.run.path / part).glob("*")):
            job = JOB.fullmatch(folder.name)
            if (
                job
                and (job["base"], job["policy"] or "base") == (base, policy)
                and (folder / "matches" / f"{name}.npz").is_file()
            ):
                files.append(folder / "matches" / f"{name}.npz")
        if not files:
            return t_interval(values)
        drawn = bootstrap_suite({policy: [{name: Matches.load(f)} for f in files]}, (metric,), RESAMPLES)
        return Estimate(float(np.mean(values)), *interval(drawn[policy][metric]), "bootstrap")


def build_tables(run: str, paper: Mapping[str, Any] | None = None) -> dict[str, list[Row]]:
    """Rows of every table, in the paper's order; columns COLUMNS and, for programs, low and high.

    Raises RunError for a run without results, or of another version.
    """
    paper, m = paper or read_paper(), Measured(open_run(run))
    tables = {
        "table1": _suite_table(m, paper["table1_main"]) + _other_models(paper["table1_main"]["others"]),
        "table2": _suite_table(m, paper["table2_out_of_domain"]) + _own_sets(m, "unseen4", "AP"),
        **{name: _ablation_table(m, paper[key], base, rows) for name, (key, base, rows) in ABLATED.items()},
        "table6_11": _question_table(m, paper["table6_11_general_qa"]),
        "table9": _suite_table(m, paper["table9_odinw13_map"], " AP") + _own_sets(m, "shifted13", "AP"),
    }
    return {name: tables[name] for name in TITLES}


def _cell(model: str, method: str, measure: str, paper: float | None, ours: Estimate | None, what: str) -> Row:
    known = ours is not None and ours.low is not None
    return {
        "model": model, "method": method, "measure": measure, "paper": paper, "ours": ours.mean if ours else NOT_RUN,
        "interval": f"[{ours.low:.1f}, {ours.high:.1f}]" if known else "no interval" if ours else "",
        "what ours is": what, "low": ours.low if known else None, "high": ours.high if known else None,
    }  # fmt: skip


def _each_model(table: Mapping[str, Any]):
    """(base policy, the paper's model, its key) of those that the table has."""
    return [(base, name, key) for base, (key, name) in PAPER_MODELS.items() if key in table]


def _suite_table(m: Measured, table: Mapping[str, Any], words: str = "") -> list[Row]:
    rows = []
    for base, model, key in _each_model(table):
        for method in METHODS:
            for column, value in zip(table["columns"], table[key][method], strict=True):
                place = IN_THE_SAME_PLACE.get(column)
                ours = m.results.estimate(base, method, *place) if place else None
                what = f"“{base}”, {SUITE_NAMES[place[0]]}" if place else f"needs the set and the weights of {model}"
                rows.append(_cell(model, policy_name(method), PRINTED.get(column, column + words), value, ours, what))
    return rows


def _other_models(others: Mapping[str, Any]) -> list[Row]:
    return [
        _cell(name, "as published", PRINTED[column], value, None, "not a subject of this kit")
        for key, (name, columns) in OTHERS.items()
        for column, value in zip(columns, np.atleast_1d(others[key]).tolist(), strict=True)
    ]


def _own_sets(m: Measured, suite: str, metric: str) -> list[Row]:
    names = list(dict.fromkeys(r["set"] for r in m.sets if r["suite"] == suite))
    return [
        _cell(
            model,
            policy_name(method),
            f"{name} {metric}",
            None,
            m.find_set(base, method, name, metric),
            f"“{base}”, drawn domain",
        )
        for base, (_, model) in PAPER_MODELS.items()
        for method in METHODS
        for name in names
    ]


def _ablation_table(m: Measured, table: Mapping[str, Any], base: str, rows: Mapping[str, tuple[str, str]]) -> list[Row]:
    """Ours stands for another model where only that was ablated, and says so."""
    found = {r["base_policy"] for r in m.ablations}
    used = base if base in found or not found else sorted(found)[0]
    what = f"“{used}”, in-domain, validation split, short training"
    what += f"; the paper's is {PAPER_MODELS[base][1]}, for which “{base}” stands" if used != base else ""
    cells = []
    for key, (name, ours) in rows.items():
        for column, value in zip(table["columns"], table[key], strict=True):
            found = m.find_ablation(used, ours, ABLATION_METRICS[column])
            said = what if found else f"the run has no ablation {ours}"
            cells.append(_cell(PAPER_MODELS[base][1], name, PRINTED[column], value, found, said))
    return cells


def _question_table(m: Measured, table: Mapping[str, Any]) -> list[Row]:
    rows = []
    kinds = list(dict.fromkeys(r["set"] for r in m.sets if r["suite"] == "questions"))
    for base, model, key in _each_model(table):
        for method in METHODS:
            name, values = policy_name(method), table[key][method]
            rows += [
                _cell(model, name, PRINTED[column], value, None, f"needs the benchmark and the weights of {model}")
                for column, value in zip(table["columns"], values, strict=True)
            ]
            ours = m.results.estimate(base, method, "questions", "accuracy")
            rows.append(_cell(model, name, "mean", float(np.mean(values)), ours, f"“{base}”, questions about drawn pictures"))
            rows += [
                _cell(
                    model,
                    name,
                    f"questions: {kind.replace('_', ' ')}",
                    None,
                    m.find_set(base, method, kind, "accuracy"),
                    f"“{base}”",
                )
                for kind in kinds
            ]
    return rows


# --- files ---------------------------------------------------------------------------------------------------------------


def write_tables(run: str, folder: Path) -> list[Path]:
    """Every table as NAME.md, NAME.tex and NAME.csv. Run and commit stand in each; in the CSV as columns."""
    commit, written, paper = Measured(open_run(run)).commit, [], read_paper()
    note = f"vr1kit, run {run}, commit {commit}; paper: arXiv 2503.18013"
    for name, rows in build_tables(run, paper).items():
        number = name.removeprefix("table").split("_")[0]
        doubts = [line for line in paper["inconsistencies"] if re.search(rf"Table {number}\b", line)]
        footer = f"\nThe paper contradicts itself: {'; '.join(doubts)}.\n" if doubts else ""
        shown = [{column: row[column] for column in COLUMNS} for row in rows]
        texts = {
            "md": f"<!-- {note} -->\n\n## {TITLES[name]}\n\n{to_markdown(shown)}{footer}",
            "tex": f"% {TITLES[name]}; {note}\n{to_latex(shown)}",
            "csv": to_csv([{**row, "run": run, "commit": commit} for row in rows]),
        }
        for ending, content in texts.items():
            written.append(folder / f"{name}.{ending}")
            write_text_atomic(written[-1], content)
    return written
