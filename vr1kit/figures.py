"""Figures: one function each, a tidy table (list of dicts) in, a matplotlib figure out. No torch, no files.

    figures.save_figure(figures.plot_main(read_csv("main.csv"), read_paper()), "main")

Those made of pictures (`sheet`, `draw_boxes`, `plot_before_after`) are in `pictures`, those of the method (equation 8, schedules,
probes) in `method_figures`, those of evaluation (sets, calibration, errors) in `evaluation_figures`, the common look in `style`; all are reachable from here. An interval is drawn as a bar and is a 95 % interval; a small ring is one seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from vr1kit.drawing.evaluation import (
    paper_gains_of_all,
    paper_set_gains,
    plot_annotators,
    plot_calibration,
    plot_errors,
    plot_set_gains,
)  # fmt: skip
from vr1kit.drawing.method import plot_differentiation, plot_probes, plot_schedule, plot_schedules
from vr1kit.drawing.pictures import draw_boxes, judge_answer, plot_before_after, sheet
from vr1kit.drawing.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    PAPER,
    RED,
    Chart,
    halo,
    label_stage,
    look_of,
    new_chart,
    save_figure,
    styled,
)
from vr1kit.reporting.tables import ablation_changes, ablation_table, widen
from vr1kit.results import PAPER_MODELS, SUITE_NAMES, Results, Row, paper_value, policy_name

__all__ = [
    "draw_boxes", "judge_answer", "paper_gains_of_all", "paper_set_gains", "plot_ablation", "plot_annotators", "plot_before_after", "plot_calibration",
    "plot_differentiation", "plot_domains", "plot_errors", "plot_main", "plot_probes", "plot_rewards", "plot_schedule",
    "plot_schedules", "plot_set_gains", "save_figure", "sheet",
]  # fmt: skip

SUITES = (("in_domain", "AP"), ("shifted13", "AP"), ("unseen4", "AP"), ("questions", "accuracy"))
CURVES = (
    ("dual_format", "dual format reward"), ("recall", "recall reward"),
    ("precision", "precision reward"), ("tokens", "tokens in an answer"),
)  # fmt: skip


# --- training ----------------------------------------------------------------------------------------------------------


def smooth(values: Sequence[float], stages: Sequence[str], window: int) -> NDArray[np.float64]:
    """Centred running mean that never looks across a change of stage."""
    x, out = np.asarray(values, float), np.empty(len(values))  # (T,), (T,)
    half = max(window // 2, 0)
    for t in range(len(x)):
        near = [s for s in range(max(t - half, 0), min(t + half + 1, len(x))) if stages[s] == stages[t]]
        out[t] = np.nanmean(x[near]) if np.isfinite(x[near]).any() else np.nan
    return out


@styled
def plot_rewards(logs: Mapping[str, Sequence[Row]], window: int | None = None) -> Chart:
    """Rewards and answer length over steps, for each log raw (thin) and smoothed; a line where the stage changes.

    At the change the criteria get stricter, so the same answers earn less.
    """
    figure = new_chart(9.6, 6.0)
    panels = figure.subplots(2, 2, sharex=True)
    for axes, (key, title) in zip(panels.flat, CURVES, strict=True):
        for place, (name, rows) in enumerate(logs.items()):
            look = look_of(name, place)
            known = [r for r in rows if r.get(key) is not None]
            steps, values = [r["step"] for r in known], [float(r[key]) for r in known]
            stages = [str(r.get("stage", "")) for r in known]
            axes.plot(steps, values, color=look.colour, lw=0.7, alpha=0.35)
            line = smooth(values, stages, window or max(len(values) // 12, 3))
            for stage in dict.fromkeys(stages):
                at = [t for t, s in enumerate(stages) if s == stage]
                label = policy_name(name) if at and at[0] == 0 else None
                axes.plot([steps[t] for t in at], line[at], color=look.colour, ls=look.line, lw=2.2, label=label)
        if change := find_stage_change(logs):
            where, *names = change
            label_stage(axes, where, *(names if key == "dual_format" else ()), low=True)
        axes.set_title(title)
        axes.margins(x=0.01)
    for axes in panels.flat[:3]:
        axes.set_ylim(-0.02, 1.02)
    for axes in panels[1]:
        axes.set_xlabel("step")
    if len(logs) > 1 or next(iter(logs), ""):
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 4) or 1, handlelength=3)
    return figure


def find_stage_change(logs: Mapping[str, Sequence[Row]]) -> tuple[float, str, str] | None:
    """Half a step before the first row of another stage than the row before it, and the names of both stages."""
    for rows in logs.values():
        for before, after in zip(rows, rows[1:], strict=False):
            if before.get("stage") != after.get("stage"):
                return after["step"] - 0.5, str(before["stage"]), str(after["stage"])
    return None


# --- what came of it ---------------------------------------------------------------------------------------------------


@styled
def plot_main(rows: Sequence[Row], paper: Mapping[str, Any], intervals: Sequence[Row] | None = None) -> Chart:
    """Every policy on every suite, and below, on axes of their own, the paper's numbers (hollow): the worlds differ.

    The number after each mark is its ratio to the base, whose value is the dotted line.
    """
    results = Results(rows, intervals)
    bases = results.base_policies()
    sizes = [len(results.policies(base)) + 1.4 for base in bases]
    heights = [h for n in sizes for h in (n, 3.6)]
    figure = new_chart(11.4, 0.3 * sum(heights) + 0.62 * len(heights))
    figure.get_layout_engine().set(h_pad=0.09, w_pad=0.06)
    panels = figure.subplots(2 * len(bases), len(SUITES), gridspec_kw={"height_ratios": heights}, squeeze=False)
    for b, base in enumerate(bases):
        for s, (suite, metric) in enumerate(SUITES):
            ours, theirs = panels[2 * b, s], panels[2 * b + 1, s]
            _plot_ours(ours, results, base, suite, metric)
            _plot_theirs(theirs, paper, base, suite, metric)
            unit = "accuracy, %" if metric == "accuracy" else metric
            ours.set_title(f"{SUITE_NAMES[suite]}, {unit}", fontsize=9.5)
            for axes in (ours, theirs):
                axes.grid(axis="y", visible=False)
                axes.tick_params(axis="y", length=0, labelleft=s == 0)
                axes.spines["left"].set_visible(False)
        panels[2 * b, 0].set_ylabel(f"base policy\n“{base}”", weight="bold")
        model = PAPER_MODELS.get(base, ("", "none"))[1]
        panels[2 * b + 1, 0].set_ylabel(f"paper\n{model}", color=GREY)
    many = any(len(seeds) > 1 for (_, policy, *_), seeds in results.values.items() if policy != "base")
    marks = [Line2D([], [], ls="", marker="o", color=GREY, label="mean over seeds" if many else "measured, one seed")]
    marks += [Line2D([], [], ls="", marker="o", ms=3.5, mfc="none", color=GREY, label="one seed")] if many else []
    marks += [Line2D([], [], color=GREY, label="95 % interval")] if many or intervals else []
    marks += [
        Line2D([], [], ls="", marker="o", mfc=PAPER, mew=1.6, color=GREY, label="the paper's number, another world"),
        Line2D([], [], ls=":", color=GREY, label="base;  ×: ratio to it"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize=8.5)
    return figure


def _finish_rows(axes: Axes, names: Sequence[str], xs: Sequence[float]) -> None:
    """Names from top to bottom, and room on the right for the ratios."""
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    low, high = (min(xs), max(xs)) if xs else (0.0, 1.0)
    span = max(high - low, 0.08 * abs(high), 1.0)
    axes.set_xlim(max(low - 0.12 * span, 0 if low >= 0 else low - 0.12 * span), high + 0.42 * span)


def _plot_ours(axes: Axes, results: Results, base: str, suite: str, metric: str) -> None:
    policies, xs = results.policies(base), []
    for y, policy in enumerate(policies):
        found, look = results.estimate(base, policy, suite, metric), look_of(policy)
        if found is None:
            continue
        seeds = list(results.seeds(base, policy, suite, metric).values())
        ends = [v for v in (found.low, found.high) if v is not None]
        if ends:
            axes.plot(ends, [y, y], color=look.colour, lw=2.4, solid_capstyle="round", zorder=2)
        if len(seeds) > 1:
            axes.plot(seeds, [y + 0.27] * len(seeds), "o", ms=3.5, mfc="none", mec=look.colour, mew=0.9, zorder=2)
        axes.plot(found.mean, y, look.marker, color=look.colour, mec=PAPER, mew=0.7, ms=8, zorder=3, gid="mean")
        xs += [found.mean, *ends, *seeds]
        if policy == "base":
            axes.axvline(found.mean, color=GREY, lw=1, ls=":", zorder=1)
        elif ratio := results.contrast(base, policy, "base", suite, metric, "ratio"):
            right = max([found.mean, *ends])
            axes.annotate(
                f"×{ratio.mean:.2f}",
                (right, y),
                (7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                bbox=halo(),
            )
    _finish_rows(axes, [policy_name(p) for p in policies], xs)


def _plot_theirs(axes: Axes, paper: Mapping[str, Any], base: str, suite: str, metric: str) -> None:
    policies = ("base", "sft", "vision_r1")
    values = [paper_value(paper, base, p, suite, metric) for p in policies]
    for y, (policy, value) in enumerate(zip(policies, values, strict=True)):
        if value is None:
            continue
        look = look_of(policy)
        axes.plot(value, y, look.marker, mfc=PAPER, mec=look.colour, mew=1.6, ms=7, zorder=3, gid="paper")
        if policy == "base":
            axes.axvline(value, color=GREY, lw=1, ls=":", zorder=1)
        elif values[0]:
            text = f"×{value / values[0]:.2f}"
            axes.annotate(text, (value, y), (8, 0), textcoords="offset points", va="center", fontsize=8, bbox=halo(0.7))
    _finish_rows(axes, [policy_name(p) for p in policies], [v for v in values if v is not None])
    axes.set_facecolor("#f7f7f5")


@styled
def plot_domains(rows: Sequence[Row], policies: Sequence[str] = ("base", "sft", "vision_r1_object"), metric: str = "AP") -> Chart:
    """AP of each shifted and unseen domain, from base to SFT and Vision-R1; rows have `set`; largest gain on top."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for r in rows:
        if r["metric"] == metric and r["set"] != "mean" and r["suite"] in ("shifted13", "unseen4"):
            values.setdefault((r["base_policy"], r["suite"], r["set"], r["policy"]), []).append(float(r["value"]))
    means = {place: float(np.mean(v)) for place, v in values.items()}
    bases, shown = list(dict.fromkeys(b for b, *_ in means)), [p for p in policies if any(p == q for *_, q in means)]

    def gain(suite: str, name: str) -> float:
        ends = [means.get((bases[0], suite, name, p)) for p in (shown[0], shown[-1])]
        return 0.0 if None in ends else ends[1] - ends[0]

    order = {
        suite: sorted({d for _, s, d, _ in means if s == suite}, key=lambda d, s=suite: (-gain(s, d), d))
        for suite in ("shifted13", "unseen4")
    }
    counts = [max(len(names), 1) for names in order.values()]
    figure = new_chart(4.4 * len(bases) + 1.0, 0.31 * sum(counts) + 1.7)
    panels = figure.subplots(2, len(bases), sharex="col", squeeze=False, gridspec_kw={"height_ratios": [n + 0.6 for n in counts]})
    for b, base in enumerate(bases):
        for line, (suite, names) in enumerate(order.items()):
            axes = panels[line, b]
            for y, name in enumerate(names):
                found = {p: means[base, suite, name, p] for p in shown if (base, suite, name, p) in means}
                axes.plot(
                    [min(found.values(), default=0), max(found.values(), default=0)],
                    [y, y],
                    color=FAINT,
                    lw=3,
                    zorder=1,
                )
                for p, value in found.items():
                    look = look_of(p)
                    axes.plot(value, y, look.marker, color=look.colour, mec=PAPER, mew=0.6, ms=7.5, zorder=3)
                if shown[0] in found and shown[-1] in found and len(shown) > 1:
                    axes.text(
                        1.01,
                        y,
                        f"{found[shown[-1]] - found[shown[0]]:+.1f}",
                        transform=axes.get_yaxis_transform(),
                        va="center",
                        fontsize=8,
                    )
            axes.set_yticks(range(len(names)), names, parse_math=False)
            axes.set_ylim(len(names) - 0.4, -0.6)
            axes.tick_params(axis="y", length=0, labelleft=b == 0)
            axes.set_title(f"“{base}”, {SUITE_NAMES[suite]}", fontsize=9.5)
            if line == 0 and len(shown) > 1:
                axes.text(1.01, 1.0, "gain", transform=axes.transAxes, va="bottom", fontsize=8, color=GREY)
        panels[1, b].set_xlabel(metric)
    looks = {p: look_of(p) for p in shown}
    handles = [Line2D([], [], ls="", marker=k.marker, color=k.colour, ms=7.5, label=policy_name(p)) for p, k in looks.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles) or 1)
    return figure


@styled
def plot_ablation(
    rows: Sequence[Row],
    paper: Mapping[str, Any],
    reference: str = "all_rewards",
    metrics: Sequence[str] = ("AP", "AP50", "AP75", "AR100"),
) -> Chart:
    """What each ablation changes against the `reference`, with its interval over seeds; hollow: what the paper's own changed.

    rows: {name, seed, AP, AP50, …}, or as in ablations.csv (see `tables.ablation_changes`). The untouched base is left out. A
    filled mark is a change whose interval is off zero; without an interval (one seed) none is.
    """
    rows = [r for r in widen(rows) if str(r["name"]) != "base"]
    metrics = [m for m in metrics if any(r.get(m) is not None for r in rows)]
    table = ablation_changes(rows, paper, reference, metrics)
    means = ablation_table([r for r in rows if str(r["name"]) == reference], metrics)[0]
    figure = new_chart(2.3 * max(len(metrics), 1) + 2.2, 0.3 * len(table) + 1.4)
    panels = figure.subplots(1, max(len(metrics), 1), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for y, row in enumerate(table):
            if y % 2:
                axes.axhspan(y - 0.5, y + 0.5, color=GREY, alpha=0.08, lw=0)
            low, high, change = row[f"{metric}_low"], row[f"{metric}_high"], row[metric]
            if change is None:
                continue
            clear = low is not None and (low > 0 or high < 0)
            colour = (BLUE if change > 0 else RED) if clear else INK
            if low is not None:
                axes.plot([low, high], [y, y], color=colour, lw=1.8, solid_capstyle="butt")
            axes.plot([change], [y], "o", ms=6, color=colour, mfc=colour if clear else PAPER, gid="ours")
            if row[f"paper {metric}"] is not None:
                axes.plot([row[f"paper {metric}"]], [y], "D", ms=6, mfc="none", mec=INK, mew=1.2, gid="paper")
            axes.text(1.0, y, f"{change:+.1f}", transform=axes.get_yaxis_transform(), va="center", ha="right", fontsize=8,
                      bbox={"fc": PAPER, "ec": "none", "pad": 0.8, "alpha": 0.85})  # fmt: skip
        axes.axvline(0, color=INK, lw=1)
        axes.set_title(f"{metric} ({means[metric]:.1f})")
        axes.set_ylim(len(table) - 0.4, -0.6)
        axes.margins(x=0.25)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(table)), [str(r["name"]) for r in table], parse_math=False)
    for axes in panels:
        axes.set_xlabel("points")
    marks = {"ours, interval off zero": ("o", BLUE, BLUE), "ours": ("o", PAPER, INK), "the paper's": ("D", "none", INK)}
    handles = [Line2D([], [], ls="", marker=m, mfc=fill, mec=edge, ms=6, label=name) for name, (m, fill, edge) in marks.items()]
    words = f"change against {reference}, whose value is in brackets"
    figure.legend(handles=handles, loc="outside lower center", ncols=3, title=words, title_fontsize=9)
    return figure
