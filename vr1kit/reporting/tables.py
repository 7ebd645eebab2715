"""Tables: rows in, rows out, and four ways to print them. What was measured stands beside what the paper printed.

    rows = main_table(read_csv("main.csv"), read_paper())      # one row per base policy and policy, the paper's below it
    print(to_markdown(rows))                                   # also to_html, to_latex, to_csv

In printing, columns K, K_low, K_high and K_ratio are one cell: `45.3 ± 1.2 (×1.51)`. The ± is half the interval's width;
`to_csv` keeps both ends. A cell without an interval has none known.
"""

from __future__ import annotations

import csv
import html
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vr1kit.results import (
    ABLATED,
    ABLATION_METRICS,
    COLUMNS,
    PAPER_MODELS,
    Estimate,
    Results,
    Row,
    paper_value,
    policy_name,
    read_paper,
    t_interval,
)

__all__ = [
    "ablation_changes",
    "ablation_table",
    "best_credit",
    "error_table",
    "main_table",
    "read_paper",
    "show_verdicts",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "verdicts",
    "widen",
]

PARTS = ("low", "high", "ratio")  # what may follow a column's name
HEADINGS = {
    "base_policy": "base policy", "name": "policy", "in_domain_AP": "in-domain AP", "in_domain_AP50": "in-domain AP50",
    "in_domain_AP75": "in-domain AP75", "shifted13_AP": "13 shifted, AP", "unseen4_AP": "4 unseen, AP",
    "questions_accuracy": "questions, %",
}  # fmt: skip
HIDDEN = ("policy", "source", "unit", "holds")  # for programs; their readable twins are printed
SUITES_SHORT = {"in_domain": "in-domain", "shifted13": "13 shifted", "unseen4": "4 unseen"}


# --- tables ------------------------------------------------------------------------------------------------------------


def main_table(rows: Sequence[Row], paper: Mapping[str, Any], intervals: Sequence[Row] | None = None) -> list[Row]:
    """One row per base policy and policy, followed by the paper's row of the same role where there is one.

    Columns: base_policy, policy, name, source ("ours" or "paper"), seeds, and for each of COLUMNS its value, low, high
    and ratio to the base of the same source. What was not measured is None.
    """
    results, table = Results(rows, intervals), []
    for base in results.base_policies():
        for policy in results.policies(base):
            n = max((len(results.seeds(base, policy, *place)) for place in COLUMNS), default=0)
            table.append({"base_policy": base, "policy": policy, "name": policy_name(policy), "source": "ours",
                          "seeds": None if policy == "base" else n})  # fmt: skip
            for suite, metric in COLUMNS:
                key, found = f"{suite}_{metric}", results.estimate(base, policy, suite, metric)
                ratio = None
                if policy != "base" and found is not None:
                    ratio = results.contrast(base, policy, "base", suite, metric, "ratio")
                table[-1] |= {
                    key: found and found.mean, f"{key}_low": found and found.low, f"{key}_high": found and found.high,
                    f"{key}_ratio": ratio and ratio.mean,
                }  # fmt: skip
            if paper_value(paper, base, policy, "in_domain", "AP") is not None:
                table.append(_paper_row(paper, base, policy))
    return table


def _paper_row(paper: Mapping[str, Any], base: str, policy: str) -> Row:
    name = f"paper: {PAPER_MODELS[base][1]}" + (f", {policy_name(policy)}" if policy != "base" else "")
    row: Row = {"base_policy": base, "policy": policy, "name": name, "source": "paper", "seeds": None}
    for suite, metric in COLUMNS:
        key, value = f"{suite}_{metric}", paper_value(paper, base, policy, suite, metric)
        start = paper_value(paper, base, "base", suite, metric)
        ratio = value / start if policy != "base" and value is not None and start else None
        row |= {key: value, f"{key}_low": None, f"{key}_high": None, f"{key}_ratio": ratio}
    return row


def widen(rows: Sequence[Row], suite: str = "in_domain") -> list[Row]:
    """Rows {ablation, seed, suite, metric, value} of one suite -> {name, seed, AP, …}; rows that are so already, as they are."""
    if not any("metric" in r for r in rows):
        return list(rows)
    wide: dict[tuple[str, Any], Row] = {}
    for r in rows:
        if r.get("suite", suite) == suite:
            name = str(r.get("name", r.get("ablation")))
            wide.setdefault((name, r["seed"]), {"name": name, "seed": r["seed"]})[r["metric"]] = r["value"]
    return list(wide.values())


def ablation_table(rows: Sequence[Row], metrics: Sequence[str] = ("AP", "AP50", "AP75", "AR100")) -> list[Row]:
    """One row per ablation in the order they came: seeds, and each metric with its t-interval. Rows as for `widen`."""
    rows = widen(rows)
    groups: dict[str, list[Row]] = {}
    for r in rows:
        groups.setdefault(str(r["name"]), []).append(r)
    table = []
    for name, group in groups.items():
        table.append({"name": name, "seeds": len({r.get("seed", 0) for r in group})})
        for metric in (m for m in metrics if any(m in r for r in rows)):
            values = [float(r[metric]) for r in group if r.get(metric) is not None]
            e = t_interval(values) if values else None
            table[-1] |= {metric: e and e.mean, f"{metric}_low": e and e.low, f"{metric}_high": e and e.high}
    return table


def ablation_changes(
    rows: Sequence[Row],
    paper: Mapping[str, Any],
    reference: str = "all_rewards",
    metrics: Sequence[str] = ("AP", "AP50", "AP75", "AR100"),
) -> list[Row]:
    """What each ablation changes against the `reference`: seed by seed, so that what the seeds have in common cancels.

    Rows as for `widen` -> {name, seeds, and for each metric its change, t-interval and `paper K`: the paper's own change, where it
    tried the same}. A seed that only one of the two has is left out; the untouched base was run once and is taken for every seed.
    Raises ValueError if the reference is not among the rows.
    """
    groups: dict[str, dict[int, Row]] = {}
    for r in widen(rows):
        groups.setdefault(str(r["name"]), {})[r.get("seed", 0)] = r
    if reference not in groups:
        raise ValueError(f"the reference {reference!r} is not among the ablations: {', '.join(groups) or 'there are none'}")
    known, table = groups[reference], []
    for name, group in groups.items():
        if name == reference:
            continue
        pairs = [(next(iter(group.values())) if name == "base" else group.get(seed), row) for seed, row in known.items()]
        pairs = [(changed, row) for changed, row in pairs if changed]
        table.append({"name": name, "seeds": len(pairs)})
        for metric in metrics:
            changes = [float(a[metric]) - float(b[metric]) for a, b in pairs if metric in a and metric in b]
            e = t_interval(changes) if changes else None
            table[-1] |= {metric: e and e.mean, f"{metric}_low": e and e.low, f"{metric}_high": e and e.high}
        for metric in metrics:
            table[-1][f"paper {metric}"] = paper_change(paper, name, metric)
    return table


def paper_change(paper: Mapping[str, Any], name: str, metric: str, base: str = "mixed") -> float | None:
    """What the paper changed by the same, against the row of its full method; None where it did not. Of several tables that of the
    base policy's role counts. Table 4's full method is its last row: it leaves the format reward out.
    """
    for key, _, rows in sorted(ABLATED.values(), key=lambda table: table[1] != base):
        row_of = {ours: row for row, (_, ours) in rows.items()}
        full = row_of.get("all_rewards", list(rows)[-1])
        columns = {ABLATION_METRICS[column]: at for at, column in enumerate(paper[key]["columns"])}
        if metric in columns and row_of.get(name, full) != full:
            return paper[key][row_of[name]][columns[metric]] - paper[key][full][columns[metric]]
    return None


def error_table(rows: Sequence[Row]) -> list[Row]:
    """Errors per 100 objects, a row per policy and a column per kind: means over seeds. rows: errors.csv."""
    groups: dict[str, dict[str, list[float]]] = {}
    for r in rows:
        group = groups.setdefault(str(r["policy"]).removeprefix("ablation-"), {})
        group.setdefault("boxes", []).append(100 * r["detections"] / r["objects"])
        group.setdefault(str(r["kind"]), []).append(100 * r["count"] / r["objects"])
    return [{"name": name} | {kind: sum(v) / len(v) for kind, v in found.items()} for name, found in groups.items()]


# --- verdicts ----------------------------------------------------------------------------------------------------------

CREDITS = ("vision_r1", "vision_r1_object")


def best_credit(results: Results, base: str) -> str | None:
    """The credit with the higher in-domain AP: it stands for the method in every goal of this base policy."""
    found = {p: results.estimate(base, p, "in_domain", "AP") for p in CREDITS}
    return max((p for p in CREDITS if found[p]), key=lambda p: found[p].mean, default=None)


def verdicts(rows: Sequence[Row], intervals: Sequence[Row] | None, paper: Mapping[str, Any]) -> list[Row]:
    """The goals: {goal, target, value, low, high, unit, paper, verdict, holds, interval}.

    holds is None where nothing was measured or the question needs an interval and there is none. A ratio holds if its
    mean reaches the paper's (rounded down to two digits); a gain if its interval is above zero; "no loss" unless its
    interval is below zero; against SFT it is a win or a loss if the interval is off zero, else a tie.
    """
    results, table = Results(rows, intervals), []
    for base, suite in (("mixed", "in_domain"), ("mixed", "shifted13")):
        theirs = paper_value(paper, base, "vision_r1", suite, "AP") / paper_value(paper, base, "base", suite, "AP")
        target = math.floor(100 * theirs) / 100
        table.append(_judge(results, paper, base, suite, "base", "ratio", target))
    table.append(_judge(results, paper, "converged", "in_domain", "base", "gain", 0.0))
    for base in PAPER_MODELS:
        table.append(_judge(results, paper, base, "questions", "base", "no loss", 0.0))
    for other in ("sft", "sft_equal_compute"):
        for base in PAPER_MODELS:
            for suite in ("in_domain", "shifted13", "unseen4"):
                table.append(_judge(results, paper, base, suite, other, "contest", 0.0))
    return table


def _judge(results: Results, paper: Mapping[str, Any], base: str, suite: str, against: str, test: str, target: float) -> Row:
    kind, metric = "ratio" if test == "ratio" else "difference", "accuracy" if suite == "questions" else "AP"
    policy = best_credit(results, base)
    found = results.contrast(base, policy, against, suite, metric, kind) if policy else None
    pair = [paper_value(paper, base, p, suite, metric) for p in ("vision_r1", against)]
    theirs = None if None in pair else pair[0] / pair[1] if kind == "ratio" else pair[0] - pair[1]
    what = "questions" if suite == "questions" else f"{SUITES_SHORT[suite]} AP"
    ask = {"ratio": "over the base", "gain": "gains over the base", "no loss": "loses nothing to the base",
           "contest": f"against {policy_name(against)}"}[test]  # fmt: skip
    verdict, holds = _decide(found, test, target)
    return {
        "goal": f"{base}, {what}: {policy_name(policy or 'vision_r1')} {ask}",
        "target": target, "value": found and found.mean, "low": found and found.low, "high": found and found.high,
        "unit": "×" if kind == "ratio" else "points", "paper": theirs, "verdict": verdict, "holds": holds,
        "interval": found.how if found else None,
    }  # fmt: skip


def _decide(found: Estimate | None, test: str, target: float) -> tuple[str, bool | None]:
    if found is None:
        return "no result", None
    if test == "ratio":
        return ("holds", True) if found.mean >= target else ("missed", False)
    if found.low is None or found.high is None:
        return "open: no interval", None
    above, below = found.low > 0, found.high < 0
    if test == "contest":
        return ("win", True) if above else ("loss", False) if below else ("tie", None)
    if test == "gain":
        return ("holds", True) if above else ("missed", False)
    return ("missed", False) if below else ("holds", True)


def show_verdicts(rows: Sequence[Row]) -> list[Row]:
    """The verdicts as a reader wants them: goal, wanted, measured with both ends of its interval, paper, verdict."""
    shown = []
    for r in rows:
        sign, unit = ("", "×") if r["unit"] == "×" else ("+", "")
        digits = 2 if r["unit"] == "×" else 1
        wanted = f"at least {r['target']:.2f}×" if r["unit"] == "×" else f"above {r['target']:.0f}"
        wanted = "not below 0" if "loses nothing" in r["goal"] else wanted
        measured = "" if r["value"] is None else f"{r['value']:{sign}.{digits}f}{unit}"
        if r["low"] is not None:
            measured += f" [{r['low']:{sign}.{digits}f}, {r['high']:{sign}.{digits}f}]"
        theirs = "" if r["paper"] is None else f"{r['paper']:{sign}.{digits}f}{unit}"
        shown.append({"goal": r["goal"], "wanted": wanted, "measured": measured, "paper": theirs, "verdict": r["verdict"]})
    return shown


# --- printing ----------------------------------------------------------------------------------------------------------


def printed_columns(rows: Sequence[Row]) -> list[str]:
    """Columns that get a place of their own: no parts of others, none that only programs read."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    parts = {f"{column}_{part}" for column in columns for part in PARTS}
    return [c for c in columns if c not in parts and c not in HIDDEN and any(row.get(c) is not None for row in rows)]


def heading(column: str) -> str:
    return HEADINGS.get(column, column.replace("_", " "))


def print_cell(row: Row, column: str, digits: int = 1) -> str:
    """`45.3 ± 1.2 (×1.51)`, or as much of it as is known; an empty string for None."""
    value = row.get(column)
    if not isinstance(value, float):
        return "" if value is None else str(value)
    low, high, ratio = (row.get(f"{column}_{part}") for part in PARTS)
    text = f"{value:.{digits}f}"
    if low is not None and high is not None:
        text += f" ± {(high - low) / 2:.{digits}f}"
    return text + (f" (×{ratio:.2f})" if ratio is not None else "")


def _is_number(rows: Sequence[Row], column: str) -> bool:
    return any(isinstance(row.get(column), int | float) for row in rows)


def to_markdown(rows: Sequence[Row], digits: int = 1) -> str:
    """A GitHub table; the paper's rows in italics."""
    columns = printed_columns(rows)
    lines = ["| " + " | ".join(heading(c) for c in columns) + " |"]
    lines += ["|" + "|".join("---:" if _is_number(rows, c) else "---" for c in columns) + "|"]
    for row in rows:
        cells = [print_cell(row, c, digits) for c in columns]
        cells = [_escape_markdown(cell) for cell in cells]
        if row.get("source") == "paper":
            cells = [cell and f"*{cell}*" for cell in cells]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _escape_markdown(cell: str) -> str:
    cell = html.escape(cell, quote=False)
    return "".join("\\" + c if c in "\\|`*[]" else c for c in " ".join(cell.split()))


def to_html(rows: Sequence[Row], digits: int = 1) -> str:
    """A bare <table>; numbers are right-aligned by class `n`, the paper's rows have class `paper`."""
    columns = printed_columns(rows)
    mark = {c: ' class="n"' if _is_number(rows, c) else "" for c in columns}
    head = "".join(f"<th{mark[c]}>{html.escape(heading(c))}</th>" for c in columns)
    kind = {"paper": ' class="paper"'}
    body = "".join(
        f"<tr{kind.get(row.get('source'), '')}>"
        + "".join(f"<td{mark[c]}>{html.escape(print_cell(row, c, digits))}</td>" for c in columns)
        + "</tr>\n"
        for row in rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "×": r"$\times$",
          "≥": r"$\ge$", "−": "--"} | {c: "\\" + c for c in "&%$#_{}"}  # fmt: skip


def to_latex(rows: Sequence[Row], digits: int = 1) -> str:
    """A booktabs tabular; the paper's rows in italics."""
    columns = printed_columns(rows)
    lines = [r"\begin{tabular}{" + "".join("r" if _is_number(rows, c) else "l" for c in columns) + "}", r"\toprule"]
    lines += [" & ".join(_escape_latex(heading(c)) for c in columns) + r" \\", r"\midrule"]
    for row in rows:
        cells = [_escape_latex(print_cell(row, c, digits)) for c in columns]
        if row.get("source") == "paper":
            cells = [cell and rf"\textit{{{cell}}}" for cell in cells]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _escape_latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)


def to_csv(rows: Sequence[Row]) -> str:
    """All columns, unrounded."""
    out = io.StringIO()
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
