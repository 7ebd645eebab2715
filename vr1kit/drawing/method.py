"""Figures of the method itself: equation 8, schedules, and what cheats earn. Reachable from `figures`, as all figures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from vr1kit.criteria import ADVANCED, BEGINNER, Criteria, Schedule
from vr1kit.drawing.style import BLUE, FAINT, GREY, INK, LINES, PAPER, RED, Chart, halo, label_stage, new_chart, styled
from vr1kit.results import Row

TWO_STAGES = {"beginner stage": BEGINNER, "advanced stage": ADVANCED}
THRESHOLDS = {
    "ξ₀  IoU from which a box is valid": ("xi0", FAINT, "-", 7.0),
    "ξ₁  below it, nothing": ("xi1", BLUE, LINES[1], 2.2),
    "ξ₂  from it on, everything": ("xi2", RED, "-", 2.2),
}


@styled
def plot_differentiation(criteria: Mapping[str, Criteria] | Sequence[Criteria] = TWO_STAGES) -> Chart:
    """f(x) of equation 8, one panel per stage; a filled dot belongs to the line, a ring does not."""
    if not isinstance(criteria, Mapping):
        known = {c: name for name, c in TWO_STAGES.items()}
        criteria = {known.get(c, f"stage {k}"): c for k, c in enumerate(criteria, 1)}
    figure = new_chart(3.9 * len(criteria), 3.5)
    panels = np.atleast_1d(figure.subplots(1, len(criteria), sharey=True))
    for k, (axes, (name, c)) in enumerate(zip(panels, criteria.items(), strict=True)):
        colour = (BLUE, RED)[k % 2]
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls=LINES[1], zorder=1)
        for x, y in (([0, c.xi1], [0, 0]), ([c.xi1, c.xi2], [c.xi1, c.xi2]), ([c.xi2, 1], [1, 1])):
            axes.plot(x, y, color=colour, lw=2.6, solid_capstyle="butt", zorder=2)
        for x, y, filled in ((c.xi1, 0, False), (c.xi1, c.xi1, True), (c.xi2, c.xi2, False), (c.xi2, 1, True)):
            axes.plot(x, y, "o", ms=6.5, mec=colour, mew=1.6, mfc=colour if filled else PAPER, zorder=3)
        axes.set(title=name, xlabel="x: an instance's IoU, or the share found", xlim=(0, 1), ylim=(-0.05, 1.08))
        axes.set_xticks([0, c.xi1, c.xi2, 1], ["0", f"ξ₁\n{c.xi1:g}", f"ξ₂\n{c.xi2:g}", "1"])
        notes = (
            (c.xi1 / 2, 0.05, "below ξ₁: nothing"),
            (c.xi1 - 0.03, (c.xi1 + c.xi2) / 2, "between: x itself"),
            (c.xi2 - 0.03, 1.0, "from ξ₂: everything"),
        )
        for i, (x, y, text) in enumerate(notes):
            axes.text(
                x,
                y,
                text,
                fontsize=8.5,
                ha="center" if i == 0 else "right",
                va="bottom" if i == 0 else "center",
                bbox=halo(),
            )
    panels[0].set_ylabel("f(x): the reward")
    return figure


@styled
def plot_schedule(schedule: Schedule) -> Chart:
    """The thresholds over the progress of training."""
    figure = new_chart(6.4, 3.1)
    _draw_schedule(figure.add_subplot(), schedule)
    figure.axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=3, fontsize=8.5, columnspacing=1.4)
    return figure


@styled
def plot_schedules(schedules: Mapping[str, Schedule]) -> Chart:
    """Several schedules side by side on one scale, by name."""
    figure = new_chart(3.1 * len(schedules), 3.0)
    for k, (name, schedule) in enumerate(schedules.items()):
        axes = figure.add_subplot(1, len(schedules), k + 1)
        _draw_schedule(axes, schedule)
        axes.set(ylim=(-0.05, 1.05))
        axes.set_title(name, pad=17)
        if k:
            axes.set_ylabel("")
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _draw_schedule(axes: Axes, schedule: Schedule) -> None:
    starts = [0.0, *(stage.until for stage in schedule.stages)]
    for name, (key, colour, line, width) in THRESHOLDS.items():
        x, y = [], []
        for start, stage in zip(starts, schedule.stages, strict=False):
            x += [start, stage.until]
            y += [getattr(stage.criteria, key), getattr(stage.end or stage.criteria, key)]
            if key != "xi0" and stage.end is None:
                middle = ((start + stage.until) / 2, y[-1])
                axes.annotate(f"{y[-1]:g}", middle, (0, 6), textcoords="offset points", ha="center", fontsize=8.5)
        axes.plot(x, y, color=colour, ls=line, lw=width, label=name)
    for start, stage in zip(starts, schedule.stages, strict=False):
        if stage.until < 1:
            label_stage(axes, stage.until)
        if len(schedule.stages) > 1:
            middle = ((start + stage.until) / 2, 1.0)
            axes.annotate(stage.name, middle, xycoords=("data", "axes fraction"), va="bottom", ha="center", fontsize=8.5,
                          color=GREY, style="italic")  # fmt: skip
    if len(schedule.stages) == 1:
        axes.set_title(f"{schedule.stages[0].name} stage throughout")
    lowest = min(min(c.xi0, c.xi1) for stage in schedule.stages for c in (stage.criteria, stage.end or stage.criteria))
    axes.set(xlabel="progress of training", ylabel="threshold", xlim=(0, 1), ylim=(min(0.4, lowest - 0.05), 1.02))


@styled
def plot_probes(rows: Sequence[Row]) -> Chart:
    """What each cheat earns under each reward, in percent of the honest answer; framed and red where it pays.

    rows: `probes.probe_all`: {reward, cheat, mean, honest, modest, pays}.
    """
    rewards, cheats = list(dict.fromkeys(r["reward"] for r in rows)), list(dict.fromkeys(r["cheat"] for r in rows))
    figure = new_chart(1.6 + 0.78 * len(cheats), 1.9 + 0.36 * len(rewards))
    axes = figure.add_subplot()
    for r in rows:
        x, y = cheats.index(r["cheat"]), rewards.index(r["reward"])
        share = r["mean"] / r["honest"] if r["honest"] else float(r["mean"] > 0)
        text = f"{100 * share:.0f}" if r["honest"] else "free"
        axes.add_patch(_cell(x, y, r["pays"]))
        axes.text(
            x,
            y,
            text,
            ha="center",
            va="center",
            fontsize=9,
            color=PAPER if r["pays"] else INK,
            weight="bold" if r["pays"] else "normal",
        )
    axes.set_xticks(range(len(cheats)), [c.replace(" ", "\n") for c in cheats])
    axes.set_yticks(range(len(rewards)), [name.replace("_", " ") for name in rewards])
    axes.set(
        xlim=(-0.5, len(cheats) - 0.5),
        ylim=(len(rewards) - 0.5, -0.5),
        title="What a cheat earns, in percent of the honest answer",
    )
    axes.grid(False)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def _cell(x: int, y: int, pays: bool):

    return Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, fc=RED if pays else "#f3f3f3", ec=GREY if pays else "none", lw=1)
