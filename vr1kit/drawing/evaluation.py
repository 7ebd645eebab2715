"""Figures of evaluation: which sets carry a gain, do scores keep their word, which errors went away. Tidy rows in, a figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vr1kit.drawing.style import (
    BLUE,
    FAINT,
    GREY,
    HATCHES,
    INK,
    ORANGE,
    PAPER,
    POLICY_LOOKS,
    RED,
    SKY,
    Chart,
    look_of,
    new_chart,
    styled,
)  # fmt: skip
from vr1kit.measures.confidence import Calibration
from vr1kit.measures.protocols import set_gains
from vr1kit.results import PAPER_MODELS, SUITE_NAMES, Row, policy_name

KIND_NAMES = {"badly_placed": "badly placed"}


def paper_set_gains(paper: Mapping[str, Any], model: str = "qwen2_5_vl_7b", after: str = "vision_r1") -> list[Row]:
    """Table 9 as `protocols.set_gains` gives it: what each of the thirteen sets gained over the base, largest first."""
    table = paper["table9_odinw13_map"]
    rows = {
        policy: [
            {"set": name, "protocol": "present", "score": "constant", "metric": "AP", "value": value, "n_images": 0}
            for name, value in zip(table["columns"], table[model][policy], strict=True)
        ]
        for policy in ("base", after)
    }
    return set_gains(rows["base"], rows[after])


@styled
def plot_set_gains(gains: Mapping[str, Sequence[Row]], metric: str = "AP") -> Chart:
    """Gain of each set, largest on top, and which share of the summed gain the sets down to it carry. name -> `set_gains` rows.

    Bars below 0 are hatched. The two largest are named in the title with their share.
    """
    figure = new_chart(5.0 * len(gains) + 0.6, 0.3 * max(len(rows) for rows in gains.values()) + 1.3)
    panels = figure.subplots(1, len(gains), squeeze=False)[0]
    for axes, (name, rows) in zip(panels, gains.items(), strict=True):
        values = np.array([row["gain"] for row in rows])
        total, reach = values.sum(), max(values.max(), 0.1)
        for y, value in enumerate(values):
            first = y < 2 and value > 0
            axes.barh(y, value, 0.68, color=BLUE if first else SKY if value > 0 else ORANGE, ec=INK, lw=0.5,
                      hatch=HATCHES[1] if value < 0 else "", gid="gain")  # fmt: skip
            share = f"   {100 * values[: y + 1].sum() / total:.0f} %" if total > 0 else ""
            axes.annotate(f"{value:+.1f}{share}", (max(value, 0), y), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), [row["set"] for row in rows], parse_math=False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(min(values.min(), 0) * 1.15, reach * 1.5)
        axes.axvline(0, color=GREY, lw=1)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        two = f": two of {len(rows)} carry {100 * values[:2].sum() / total:.0f} %" if total > 0 else ""
        axes.set_title(f"{name}{two}", fontsize=9.5, parse_math=False)
        axes.set_xlabel(f"{metric} gained;  %: share of the sum, down to this set")
    return figure


@styled
def plot_calibration(calibrations: Mapping[str, Calibration]) -> Chart:
    """Share of hits over mean score, one panel each; on the dashed line a score keeps its word. Grey bars: how many boxes."""
    figure = new_chart(2.9 * len(calibrations) + 0.4, 3.3)
    panels = figure.subplots(1, len(calibrations), sharey=True, squeeze=False)[0]
    for place, (axes, (name, c)) in enumerate(zip(panels, calibrations.items(), strict=True)):
        look, some = look_of(name, place), c.count > 0
        width = np.diff(c.edges)
        axes.bar(c.edges[:-1], c.count / max(c.count.max(), 1), width, align="edge", color=FAINT, ec=PAPER, lw=0.8, zorder=1)
        axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=(0, (4, 2)), zorder=2)
        axes.plot(c.confidence[some], c.accuracy[some], look.marker, ls=look.line, color=look.colour, lw=1.6, mec=PAPER, mew=0.7,
                  ms=7, zorder=3, gid="reliability")  # fmt: skip
        error = f"{100 * c.error:.1f} %" if np.isfinite(c.error) else "none"
        axes.set_title(f"{name}\nECE {error}, {int(c.count.sum())} boxes", fontsize=9, parse_math=False)
        axes.set(xlim=(0, 1), ylim=(0, 1.03), xlabel="score")
    panels[0].set_ylabel("share of boxes that hit (IoU ≥ 0.5)")
    return figure


@styled
def plot_errors(tables: Mapping[str, Sequence[Row]], names: tuple[str, str] = ("before", "after")) -> Chart:
    """Errors of each kind, before and after. title -> rows of `errors.compare_errors`; groups within a table are set apart."""
    kinds = [
        list(dict.fromkeys((row["group"], row["kind"]) for row in rows if row["before"] or row["after"]))
        for rows in tables.values()
    ]
    figure = new_chart(4.6 * len(tables) + 0.6, 0.42 * max((len(k) for k in kinds), default=1) + 1.3)
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for axes, (title, rows), shown in zip(panels, tables.items(), kinds, strict=True):
        found = {(row["group"], row["kind"]): row for row in rows}
        labels = []
        for y, (group, kind) in enumerate(shown):
            row, word = found[group, kind], KIND_NAMES.get(kind, kind)
            labels.append(word if group == "all" else f"{group}: {word}")
            for shift, when, colour, hatch in ((-0.19, "before", GREY, ""), (0.19, "after", BLUE, HATCHES[1])):
                axes.barh(y + shift, row[when], 0.36, color=colour, ec=INK, lw=0.5, hatch=hatch, gid=when,
                          label=names[when == "after"] if y == 0 else None)  # fmt: skip
            end = max(row["before"], row["after"])
            colour = RED if row["difference"] > 0 else INK
            axes.annotate(
                f"{row['difference']:+d}", (end, y), (4, 0), textcoords="offset points", va="center", fontsize=8, color=colour
            )
        axes.set_yticks(range(len(shown)), labels, parse_math=False)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.14)
        axes.set_title(title, fontsize=9.5)
        axes.set_xlabel("errors")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def paper_gains_of_all(paper: Mapping[str, Any]) -> dict[str, list[Row]]:
    """`paper_set_gains` of both of the paper's models, by name."""
    return {name: paper_set_gains(paper, key) for key, name in PAPER_MODELS.values()}


@styled
def plot_annotators(rows: Sequence[Row], suites: Sequence[str] = ("in_domain", "shifted13"), metric: str = "AP") -> Chart:
    """The same policies taught by different annotators, a panel per suite; a dot is a seed, the number the mean over seeds.

    rows: annotators.csv, {annotator, policy, seed, suite, metric, value}. The base was taught by none of them: the dashed line.
    """
    rows = [r for r in rows if r["metric"] == metric]
    annotators = list(dict.fromkeys(r["annotator"] for r in rows if r["policy"] != "base"))
    policies = [p for p in POLICY_LOOKS if p != "base" and any(r["policy"] == p for r in rows)]
    figure = new_chart(4.4 * len(suites) + 0.8, 0.26 * len(policies) * len(annotators) + 1.5)
    panels = figure.subplots(1, len(suites), sharey=True, squeeze=False)[0]
    high = 0.82 / max(len(policies), 1)
    for axes, suite in zip(panels, suites, strict=True):
        found: dict[tuple[str, str], list[float]] = {}
        for r in rows:
            if r["suite"] == suite:
                found.setdefault((r["annotator"], r["policy"]), []).append(r["value"])
        for k, policy in enumerate(policies):
            look = look_of(policy)
            for y, annotator in enumerate(annotators):
                values = found.get((annotator, policy), [])
                if not values:
                    continue
                place, mean = y + (k - (len(policies) - 1) / 2) * high, float(np.mean(values))
                axes.barh(place, mean, 0.92 * high, color=look.colour, ec=INK, lw=0.5, hatch=look.hatch, gid=policy,
                          label=policy_name(policy) if y == 0 else None)  # fmt: skip
                axes.plot(values, [place] * len(values), "o", ms=3, mfc=PAPER, mec=INK, mew=0.6)
                axes.annotate(f"{mean:.1f}", (max(values), place), (6, 0), textcoords="offset points", va="center", fontsize=8)
        for values in (found[key] for key in found if key[1] == "base"):
            axes.axvline(float(np.mean(values)), color=GREY, lw=1, ls=(0, (4, 2)))
        axes.set_yticks(range(len(annotators)), annotators, parse_math=False)
        axes.set_ylim(len(annotators) - 0.45, -0.55)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.set_title(SUITE_NAMES.get(suite, suite), fontsize=9.5)
        axes.set_xlabel(f"{metric}; dashed: the base")
        axes.margins(x=0.1)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure
