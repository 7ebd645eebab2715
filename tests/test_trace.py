"""Every number of README's and of the report's main table, traced to the run file that it came from; nothing is typed."""

import html
import re
import shutil

import numpy as np
import pytest

from vr1kit.reporting.report import build_report
from vr1kit.results import COLUMNS, PAPER_MODELS, POLICY_NAMES, read_paper
from vr1kit.runs import project_root, runs_root
from vr1kit.safekeeping.files import read_csv

PUBLISHED = runs_root() / "published"
CELL = re.compile(r"(?P<value>-?\d+\.\d)(?: ± (?P<half>\d+\.\d))?(?: \(×(?P<ratio>\d+\.\d\d)\))?")
HEADINGS = {
    "in-domain AP": ("in_domain", "AP"), "in-domain AP50": ("in_domain", "AP50"), "in-domain AP75": ("in_domain", "AP75"),
    "13 shifted, AP": ("shifted13", "AP"), "4 unseen, AP": ("unseen4", "AP"), "questions, %": ("questions", "accuracy"),
}  # fmt: skip
PAPER_CELLS = {  # looked up in paper_tables.json by hand: table, column
    ("in_domain", "AP"): ("table1_main", 2), ("in_domain", "AP50"): ("table1_main", 0), ("in_domain", "AP75"): ("table1_main", 1),
    ("shifted13", "AP"): ("table1_main", 6), ("unseen4", "AP"): ("table2_out_of_domain", 4),
}  # fmt: skip


def measured(base, policy, suite, metric):
    """(mean over seeds of the evaluations' own rows.csv, half of the interval in intervals.csv)."""
    folders = [PUBLISHED / "evaluation" / f"{base}-base"]
    if policy != "base":
        folders = sorted((PUBLISHED / "evaluation").glob(f"{base}-seed[0-9]-{policy}"))
    values = [
        r["value"]
        for folder in folders
        for r in read_csv(folder / "rows.csv")
        if (r["suite"], r["set"], r["metric"]) == (suite, "mean", metric)
    ]
    assert len(values) == len(folders) > 0, (base, policy)
    place = {"base_policy": base, "policy": policy, "suite": suite, "metric": metric, "kind": "value"}
    (row,) = [r for r in read_csv(PUBLISHED / "results" / "intervals.csv") if place.items() <= r.items()]
    return float(np.mean(values)), (row["high"] - row["low"]) / 2


def printed(base, policy, suite, metric):
    """What the paper printed."""
    paper, model = read_paper(), PAPER_MODELS[base][0]
    if suite == "questions":
        return float(np.mean(paper["table6_11_general_qa"][model][policy]))
    table, column = PAPER_CELLS[suite, metric]
    return paper[table][model][policy][column]


def trace(rows, headings):
    """Check every number of rows (base policy, name, cells); returns how many were traced."""
    policies, traced = {name: policy for policy, name in POLICY_NAMES.items()}, 0
    for base, name, cells in rows:
        theirs = name.startswith("paper: ")
        policy = policies[name.split(", ", 1)[1]] if theirs and ", " in name else "base" if theirs else policies[name]
        for heading, text in zip(headings, cells, strict=True):
            if not text:
                continue
            cell, place = CELL.fullmatch(text), HEADINGS[heading]
            assert cell, f"{base}, {name}: {text!r} is not a number of the table"
            value, half = (printed(base, policy, *place), None) if theirs else measured(base, policy, *place)
            start = printed(base, "base", *place) if theirs else measured(base, "base", *place)[0]
            assert cell["value"] == f"{value:.1f}", (base, name, heading)
            assert cell["half"] == (None if half is None else f"{half:.1f}"), (base, name, heading)
            assert cell["ratio"] == (None if policy == "base" else f"{value / start:.2f}"), (base, name, heading)
            traced += 1
    return traced


def test_every_number_of_the_readmes_main_table():
    text = (project_root() / "README.md").read_text(encoding="utf-8")
    lines = text[text.index("<!-- main-table") : text.index("<!-- /main-table")].splitlines()
    table = [
        [cell.strip(" *").replace("\\", "") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")
    ]
    head, rows = table[0], table[2:]
    assert head[:2] == ["base policy", "policy"] and len(rows) >= 12
    assert trace([(r[0], r[1], r[2:]) for r in rows], head[2:]) >= 4 * len(rows) - 4


def test_the_readmes_gains_over_sft_under_sloppy_annotators():
    said = " ".join((project_root() / "README.md").read_text(encoding="utf-8").split())
    gains = {
        g["annotator"]: f"{g['change']:.1f}{' AP' * (g['annotator'] == 'loose')} [{g['low']:.1f}, {g['high']:.1f}] where"
        for g in read_csv(PUBLISHED / "annotators" / "gains.csv")
        if (g["policy"], g["suite"], g["metric"]) == ("vision_r1_object", "in_domain", "AP")
    }
    assert all(gains[annotator] in said for annotator in ("loose", "missing", "unsorted")), gains


def test_every_number_of_the_reports_main_table(tmp_path):
    shutil.copytree(PUBLISHED, tmp_path / "demo", ignore=shutil.ignore_patterns("evaluation*", "gallery", "policies"))
    shown = build_report(tmp_path / "demo").read_text()
    parts = re.findall(r"<h3>Base policy “(\w+)”.*?</h3>\s*<div class=\"scroll\"[^>]*>(.*?)</div>", shown, re.DOTALL)
    assert [base for base, _ in parts] == ["mixed", "converged"]
    for base, inner in parts:
        head, *rows = [
            [html.unescape(c) for c in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
            for row in re.findall(r"<tr.*?</tr>", inner, re.DOTALL)
        ]
        first = 1 + ("seeds" in head)
        assert len(head) - first == len(COLUMNS)
        assert trace([(base, r[0], r[first:]) for r in rows], head[first:]) >= 4 * len(rows)


def test_the_trace_can_fail():
    value, half = measured("mixed", "base", "in_domain", "AP")
    right = f"{value:.1f} ± {half:.1f}"
    assert trace([("mixed", "Base", [right])], ["in-domain AP"]) == 1
    for wrong in (f"{value + 0.1:.1f} ± {half:.1f}", f"{value:.1f}", f"{value:.1f} ± {half + 0.1:.1f}", "about 40"):
        with pytest.raises(AssertionError):
            trace([("mixed", "Base", [wrong])], ["in-domain AP"])
