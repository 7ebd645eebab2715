"""Figures made of pictures: boxes over scenes, sample sheets, and the same pictures before and after training.

Pictures are not stored with results: a scene is drawn again from its domain and seed. They are enlarged smoothly, and boxes
and letters are drawn over them at full resolution. Labels come from models and files, so none is read as mathematics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike
from PIL import Image

from vr1kit.boxes import as_boxes, iou_matrix
from vr1kit.drawing.style import BLUE, CYCLE, GREEN, GREY, INK, ORANGE, PAPER, PURPLE, RED, SKY, Chart, Look, new_chart, styled
from vr1kit.formats.images import open_image
from vr1kit.matching import match_boxes
from vr1kit.results import policy_name
from vr1kit.scenes import draw_scene

ENLARGE = 3  # ours: 192 px become 576, enough for print at 2.5 inches
LONGEST_LABEL = 22
LIGHT = (SKY, ORANGE, PURPLE)  # letters on these are dark
RIGHT_IOU, LOOSE_IOU = 0.5, 0.1  # ours: below the second, a box shows no object
JUDGED = {
    "right": Look(GREEN, line="-"),
    "loose": Look(ORANGE, line=(0, (6, 1.5, 1, 1.5))),
    "wrong": Look(RED, line=(0, (1.2, 1))),
    "missed": Look(PAPER, line=(0, (3, 2))),
}
MEANINGS = {
    "right": "right: label right, IoU ≥ 0.5",
    "loose": "loose: label right, IoU < 0.5",
    "wrong": "wrong: label wrong, or nothing there",
    "missed": "missed object",
}
ANSWER_NAMES = {"truth": "Ground truth", "base": "Before", "beginner": "After the beginner stage",
                "vision_r1": "After Vision-R1", "vision_r1_object": "After Vision-R1, object credit"}  # fmt: skip


def plain(text: Any) -> str:
    """A label as one short printable line."""
    line = "".join(c if c.isprintable() else " " for c in str(text)).strip()
    return line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1] + "…"


def show_picture(axes: Axes, image: Image.Image) -> None:
    """The picture, enlarged; the axes are in its pixels."""
    big = image.convert("RGB").resize((image.width * ENLARGE, image.height * ENLARGE), Image.Resampling.LANCZOS)
    axes.imshow(np.asarray(big), extent=(0, image.width, image.height, 0), interpolation="antialiased")
    axes.set(xlim=(0, image.width), ylim=(image.height, 0), xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def add_boxes(
    axes: Axes, boxes_xyxy_px: ArrayLike, labels: Sequence[str], looks: Sequence[Look], width: float = 1.8, letters: float = 6.5
) -> None:  # fmt: skip
    """Boxes with a contrasting rim, so that they show on any background, and a tag for each label that is not empty."""
    for (x1, y1, x2, y2), label, look in zip(as_boxes(boxes_xyxy_px), labels, looks, strict=True):
        rim = INK if look.colour == PAPER else PAPER
        halo = [withStroke(linewidth=width + 1.6, foreground=rim, alpha=0.75)]
        axes.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=look.colour, lw=width, ls=look.line, path_effects=halo)
        )
        if label:
            above = y1 > 14  # px: is there room over the box?
            axes.annotate(
                plain(label), (x1, y1), (0, 1 if above else -1), textcoords="offset points", fontsize=letters,
                va="bottom" if above else "top", ha="left", color=INK if look.colour in LIGHT else PAPER, parse_math=False, annotation_clip=True,
                bbox={"boxstyle": "square,pad=0.12", "fc": look.colour, "ec": "none", "alpha": 0.9},
            )  # fmt: skip


def label_looks(labels: Sequence[str]) -> dict[str, Look]:
    """A colour for each label, in alphabetical order; the name beside the box says the rest."""
    return {label: Look(CYCLE[i % len(CYCLE)]) for i, label in enumerate(sorted(set(labels)))}


@styled
def draw_boxes(
    image: Image.Image, boxes_xyxy_px: ArrayLike, labels: Sequence[str] | None = None, *, axes: Axes | None = None,
    looks: Sequence[Look] | None = None, title: str = "",
) -> Chart:  # fmt: skip
    """One picture with its boxes, on `axes` if given, else in a figure of its own."""
    boxes = as_boxes(boxes_xyxy_px, "boxes_xyxy_px")  # (N, 4)
    names = list(labels) if labels is not None else [""] * len(boxes)
    if axes is None:
        side = 4.2
        axes = new_chart(side, side * image.height / image.width + (0.25 if title else 0)).add_subplot()
    of = label_looks(names)
    show_picture(axes, image)
    add_boxes(axes, boxes, names, looks or [of[name] for name in names])
    axes.set_title(title, parse_math=False)
    return axes.figure


def _redraw(item: Any) -> tuple[Image.Image, Any, list[str], str]:
    """(picture, boxes, labels, caption) of a Scene, of an Example, or of a row with domain, seed, boxes and labels."""
    if isinstance(item, Mapping):
        task = f", {item['task']}" if "task" in item else ""
        scene = draw_scene(item["domain"], item["seed"])
        return scene.image, item["boxes_xyxy_px"], list(item["labels"]), f"{item['domain']}{task}"
    if hasattr(item, "objects"):
        boxes = [o.box_xyxy_px for o in item.objects]
        return item.image, boxes, [o.label for o in item.objects], item.domain
    with open_image(item.record.image_path) as file:
        image = file.convert("RGB")
    return image, item.boxes_xyxy_px, list(item.labels), f"{item.record.source}, {item.task}"


def _grid(
    rows: int, columns: int, side: float, caption: float, top: float = 0.0, bottom: float = 0.0
) -> tuple[Chart, np.ndarray]:
    """Square axes of `side` inches, each with `caption` inches over it; nothing moves when captions change."""
    gap = 0.12
    width, height = columns * (side + gap) + gap, rows * (side + caption + gap) + top + bottom
    figure = new_chart(width, height, layout=None)
    axes = np.empty((rows, columns), object)
    for r in range(rows):
        for c in range(columns):
            y = height - top - (r + 1) * (side + caption) - r * gap
            place = ((gap + c * (side + gap)) / width, y / height, side / width, side / height)
            axes[r, c] = figure.add_axes(place)
            axes[r, c].axis("off")
    return figure, axes


@styled
def sheet(items: Sequence[Any], columns: int = 4, side: float = 2.35) -> Chart:
    """A sample sheet: scenes, examples, or rows {domain, seed, labels, boxes_xyxy_px}, each with its boxes and a caption."""
    drawn = [_redraw(item) for item in items]
    of = label_looks([label for *_, labels, _ in drawn for label in labels])
    figure, grid = _grid(-(-len(drawn) // columns), columns, side, 0.24)
    for axes, (image, boxes, labels, caption) in zip(grid.flat, drawn, strict=False):
        show_picture(axes, image)
        add_boxes(axes, boxes, labels, [of[label] for label in labels], width=1.4, letters=5.8)
        count = f"{len(labels)} object{'' if len(labels) == 1 else 's'}"
        axes.set_title(f"{plain(caption)}, {count}", fontsize=8.5, weight="normal", pad=4, parse_math=False)
    return figure


# --- before and after --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgement:
    """An answer against the truth: a word for each of its boxes, and what was missed."""

    kinds: tuple[str, ...]  # of each predicted box: right | loose | wrong
    missed: tuple[int, ...]  # objects with neither a right nor a loose box
    objects: int
    mean_iou: float  # over objects, with the box of the same label; 0 for a missed one
    ious: tuple[float, ...]  # of each predicted box with its object; 0 for a wrong one

    @property
    def right(self) -> int:
        return self.kinds.count("right")

    @property
    def quality(self) -> float:
        """Panoptic quality of boxes (Kirillov et al. 2019), labels together: twice the right boxes' IoU by boxes and objects, 0 to 1.

        Nothing said where nothing is counts as 1.
        """
        right = sum(iou for iou, kind in zip(self.ious, self.kinds, strict=True) if kind == "right")
        return 2 * right / (len(self.kinds) + self.objects) if self.kinds or self.objects else 1.0


def judge_answer(
    boxes_xyxy_px: ArrayLike, labels: Sequence[str], truth_xyxy_px: ArrayLike, truth_labels: Sequence[str]
) -> Judgement:
    """One to one, by IoU, among boxes and objects of the same label."""
    iou = iou_matrix(boxes_xyxy_px, truth_xyxy_px)  # (P, G)
    same = np.array([[p == g for g in truth_labels] for p in labels], bool).reshape(iou.shape)  # (P, G)
    p_idx, g_idx = match_boxes(iou * same)
    kinds, ious, best = ["wrong"] * len(labels), [0.0] * len(labels), np.zeros(len(truth_labels))
    for p, g in zip(p_idx.tolist(), g_idx.tolist(), strict=True):
        if same[p, g] and iou[p, g] >= LOOSE_IOU:
            kinds[p], best[g] = "right" if iou[p, g] >= RIGHT_IOU else "loose", iou[p, g]
            ious[p] = float(iou[p, g])
    mean = float(best.mean()) if len(best) else 0.0
    return Judgement(tuple(kinds), tuple(np.flatnonzero(best == 0).tolist()), len(truth_labels), mean, tuple(ious))


@styled
def plot_before_after(
    gallery_rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ("truth", "base", "beginner", "vision_r1_object"),
    side: float = 2.35,
) -> Chart:  # fmt: skip
    """Each row one picture, each column one policy's answer, its boxes coloured by `judge_answer`.

    A column that no row has an answer for is left out. Captions: right boxes of objects, and the mean IoU over objects.
    """
    has = [c for c in columns if c == "truth" or any(c in row["answers"] for row in gallery_rows)]
    figure, grid = _grid(len(gallery_rows), len(has), side, 0.24, top=0.3, bottom=0.5 if len(has) > 3 else 0.75)
    for axes, column in zip(grid[0], has, strict=True):
        name = ANSWER_NAMES.get(column) or policy_name(column)
        place = axes.get_position()
        figure.text(place.x0, 1 - 0.06 / figure.get_figheight(), name, va="top", weight="bold", fontsize=10)
    for row, line in zip(gallery_rows, grid, strict=True):
        picture = draw_scene(row["domain"], row["seed"]).image
        truth = as_boxes(row["boxes_xyxy_px"])
        for axes, column in zip(line, has, strict=True):
            show_picture(axes, picture)
            if column == "truth":
                add_boxes(axes, truth, [""] * len(truth), [Look(BLUE)] * len(truth), width=1.5)
                caption = f"{row['domain']}: {len(truth)} object{'' if len(truth) == 1 else 's'}"
            elif column in row["answers"]:
                caption = _draw_answer(axes, row["answers"][column], truth, row["labels"])
            else:
                caption = "no answer kept"
            axes.set_title(caption, fontsize=8.5, weight="normal", pad=4, parse_math=False)
    _explain(figure)
    return figure


def _draw_answer(axes: Axes, answer: Mapping[str, Any], truth: np.ndarray, truth_labels: Sequence[str]) -> str:
    boxes, labels = as_boxes(answer["boxes_xyxy_px"]), list(answer["labels"])
    judged = judge_answer(boxes, labels, truth, truth_labels)
    missed = truth[list(judged.missed)]
    add_boxes(axes, missed, [""] * len(missed), [JUDGED["missed"]] * len(missed), width=1.2)
    tags = [label if kind == "wrong" else "" for label, kind in zip(labels, judged.kinds, strict=True)]
    add_boxes(axes, boxes, tags, [JUDGED[kind] for kind in judged.kinds], width=1.7)
    return f"{judged.right}/{judged.objects} right, mean IoU {judged.mean_iou:.2f}"


def _explain(figure: Chart) -> None:
    lines = [
        Line2D([], [], color=GREY if kind == "missed" else look.colour, lw=2, ls=look.line, label=MEANINGS[kind])
        for kind, look in JUDGED.items()
    ]
    columns = 4 if figure.get_figwidth() > 9 else 2
    note, up = "Mean IoU is over all objects of a picture; a missed one counts 0.", 1 / figure.get_figheight()
    figure.legend(handles=lines, loc="lower center", ncols=columns, bbox_to_anchor=(0.5, 0.14 * up), handlelength=3.2)
    figure.text(0.5, 0.06 * up, note, ha="center", fontsize=8.5, color=GREY)
