"""One look for every figure: colours for the colour-blind, markers and lines for grey print, letters that survive a notebook.

A figure is a `Chart`: it shows itself in a notebook once, whatever the backend, and touches no global state of matplotlib.
Colours are Okabe and Ito's (2008); what has a colour also has a marker, a line or a hatch of its own.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vr1kit.results import policy_name
from vr1kit.runs import check_name, project_root

INK, GREY, FAINT, PAPER = "#1a1a1a", "#6b6b6b", "#d9d9d9", "#ffffff"
BLUE, SKY, GREEN, ORANGE, RED, PURPLE = "#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
CYCLE = (BLUE, RED, GREEN, PURPLE, ORANGE, SKY, INK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (5, 1.6)), (0, (1, 1.2)), (0, (5, 1.4, 1, 1.4)), (0, (3, 1, 1, 1, 1, 1)))
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "++++")

STYLE: dict[str, object] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same letters everywhere
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.5,
    "hatch.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "savefig.facecolor": PAPER,
    "savefig.bbox": None,
    "pdf.fonttype": 42,  # letters stay letters: searchable, and editable in print
    "svg.hashsalt": "vr1kit",
}


@dataclass(frozen=True)
class Look:
    """How one thing is drawn, in every figure."""

    colour: str
    marker: str = "o"
    line: str | tuple = "-"
    hatch: str = ""


POLICY_LOOKS = {
    "base": Look(GREY, "o", LINES[4]),
    "sft": Look(ORANGE, "s", LINES[2], HATCHES[1]),
    "sft_equal_compute": Look(RED, "D", LINES[3], HATCHES[3]),
    "vision_r1": Look(SKY, "^", LINES[1], HATCHES[2]),
    "vision_r1_object": Look(BLUE, "v", "-", ""),
    "sft_vision_r1": Look(GREEN, "P", LINES[4], HATCHES[4]),
}


def look_of(name: str, place: int = 0) -> Look:
    """The look of a policy, under its own or its readable name; of anything else, by its place in the figure."""
    for policy, look in POLICY_LOOKS.items():
        if name in (policy, policy_name(policy)):
            return look
    return Look(*(kinds[place % len(kinds)] for kinds in (CYCLE, MARKERS, LINES, HATCHES)))


class Chart(Figure):
    """A matplotlib Figure that shows itself in a notebook, without pyplot."""

    def _repr_png_(self) -> bytes:
        return self.to_png(dpi=100)

    def to_png(self, dpi: int = 150, metadata: Mapping[str, str] | None = None) -> bytes:
        buffer = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            self.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None, **(metadata or {})})
        return buffer.getvalue()


P = ParamSpec("P")


def styled(draw: Callable[P, Chart]) -> Callable[P, Chart]:
    """The decorated function draws in STYLE, and leaves the caller's settings as they were."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Chart:
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inner


def new_chart(width: float, height: float, layout: str | None = "constrained") -> Chart:
    """An empty figure, inches."""
    figure = Chart(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def label_stage(axes: Axes, step: float, before: str = "", after: str = "", low: bool = False) -> None:
    """The vertical line where the stage changes; the stages' names on either side of its top, or of its foot."""
    axes.axvline(step, color=INK, lw=1, ls=(0, (4, 2)), zorder=1.5, gid="stage")
    for text, side, shift in ((before, "right", -4), (after, "left", 4)):
        if text:
            axes.annotate(
                text, (step, 0 if low else 1), (shift, 4 if low else -3), xycoords=("data", "axes fraction"),
                textcoords="offset points", ha=side, va="bottom" if low else "top", fontsize=8.5, color=GREY, style="italic",
            )  # fmt: skip


def halo(alpha: float = 0.85) -> dict[str, object]:
    """A white ground for letters that may lie on lines."""
    return {"fc": PAPER, "ec": "none", "pad": 0.8, "alpha": alpha}


def save_figure(
    figure: Chart, name: str, folder: Path | str | None = None, metadata: Mapping[str, str] | None = None
) -> tuple[Path, Path]:
    """Write NAME.png (150 dpi) and NAME.pdf to `folder`, by default paper_figures/; the same figure gives the same bytes.

    `metadata`, such as {"run": "tiny", "commit": "1a2b3c4"}, is written into both files. Returns their paths.
    """
    folder = Path(folder) if folder is not None else project_root() / "paper_figures"
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{check_name(name, 'figure name')}.png", folder / f"{name}.pdf"
    note = ", ".join(f"{key} {value}" for key, value in (metadata or {}).items())
    with matplotlib.rc_context(STYLE):
        paths[0].write_bytes(figure.to_png(150, {"Title": name, "Description": note}))
        about = {"Title": name, "Subject": note, "Creator": "vr1kit", "Producer": None, "CreationDate": None}
        figure.savefig(paths[1], format="pdf", metadata=about)
    return paths
