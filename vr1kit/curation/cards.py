"""The card of a curated set: what is in it, what was left out and why, histograms, and a sheet of pictures with their boxes.

`card.json` has the numbers, `README.md` says them to people and to the hub, `histograms.png` and `contact_sheet.png` show them.
Counts are taken batch by batch, while the set is written.
"""

from __future__ import annotations

import heapq
import math
import os
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw

from vr1kit.filters import HARD_ABOVE
from vr1kit.formats.columns import to_records, unpack_boxes
from vr1kit.formats.images import open_image
from vr1kit.records import BadRecord, Record, describe_counts
from vr1kit.safekeeping.files import write_json_atomic, write_text_atomic

SHEET, TILE_PX = 24, 240  # pictures of a contact sheet, their longer side; ours
CHART_PX = (420, 240)  # width, height of each histogram; ours
SHOWN = 40  # categories in the table of README.md; card.json has all
SIDES = tuple(2.0**k for k in range(2, 12))  # px; bins of the square root of a box's area, COCO's small is below 32
COLOURS = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6", "#bcf60c")


@dataclass
class Statistics:
    """Counts over batches of `shards.CURATED`."""

    pictures: int = 0
    boxes: int = 0
    tasks: Counter = field(default_factory=Counter)
    sources: Counter = field(default_factory=Counter)
    labels: Counter = field(default_factory=Counter)  # boxes
    instances: Counter = field(default_factory=Counter)  # boxes in a picture -> pictures
    sides: np.ndarray = field(default_factory=lambda: np.zeros(len(SIDES) + 1, int))  # boxes, by the square root of their area
    _sheet: list[tuple[int, int, Record]] = field(default_factory=list)  # a heap of the SHEET smallest hashes

    def add(self, batch: pa.RecordBatch) -> None:
        boxes, offsets = unpack_boxes(batch)
        self.pictures += batch.num_rows
        self.boxes += len(boxes)
        for counter, column in ((self.tasks, "task"), (self.sources, "source"), (self.labels, "labels")):
            values = batch.column(column)
            counts = pc.value_counts(values.flatten() if column == "labels" else values).to_pylist()
            counter.update({each["values"]: each["counts"] for each in counts})
        numbers, times = np.unique(np.diff(offsets), return_counts=True)
        self.instances.update(dict(zip(numbers.tolist(), times.tolist(), strict=True)))
        side = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
        self.sides += np.bincount(np.searchsorted(SIDES, side, side="right"), minlength=len(SIDES) + 1)
        self._choose(batch)

    def _choose(self, batch: pa.RecordBatch) -> None:
        """Keep the pictures whose names have the smallest hashes: a sample that depends on the set alone."""
        hashes = [zlib.crc32(path.encode()) for path in batch.column("image_path").to_pylist()]
        bound = -self._sheet[0][0] if len(self._sheet) == SHEET else math.inf
        for place in heapq.nsmallest(SHEET, range(len(hashes)), key=hashes.__getitem__):
            if hashes[place] >= bound and len(self._sheet) == SHEET:
                continue
            (record,) = to_records(batch.slice(place, 1))
            entry = (-hashes[place], -self.pictures - place, record)
            (heapq.heappushpop if len(self._sheet) == SHEET else heapq.heappush)(self._sheet, entry)

    @property
    def sample(self) -> list[Record]:
        return [record for *_, record in sorted(self._sheet, key=lambda entry: (-entry[0], -entry[1]))]

    def share(self, hard: bool) -> float:
        """The share of pictures with more than HARD_ABOVE boxes, or with none."""
        chosen = sum(n for k, n in self.instances.items() if (k > HARD_ABOVE if hard else k == 0))
        return chosen / self.pictures if self.pictures else 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures, "boxes": self.boxes, "hard": self.share(True), "negatives": self.share(False),
            "tasks": dict(sorted(self.tasks.items())), "sources": dict(sorted(self.sources.items())),
            "labels": dict(sorted(self.labels.items(), key=lambda item: (-item[1], item[0]))),
            "instances": {str(k): n for k, n in sorted(self.instances.items())},
            "box_side_px": {"from": [0.0, *SIDES], "boxes": self.sides.tolist()},
        }  # fmt: skip


def write_card(
    folder: str | os.PathLike,
    statistics: Statistics,
    about: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    root: str | os.PathLike | None = None,
) -> Path:
    """Write the card beside a curated set. `about` is how it was made (settings, seed, command); `sources` has for each set what
    `columns.describe_set` says, with "dropped", the filters' counts by reason. Returns the path of README.md.
    """
    folder, numbers = Path(folder), statistics.to_json()
    write_json_atomic(folder / "card.json", {"made": about, "sources": list(sources), "curated": numbers})
    _draw_histograms(statistics).save(folder / "histograms.png")
    sheet, missing = draw_sheet(statistics.sample, root)
    sheet.save(folder / "contact_sheet.png")
    write_text_atomic(folder / "README.md", _describe(numbers, about, sources, missing))
    return folder / "README.md"


def _describe(numbers: Mapping[str, Any], about: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], missing: int) -> str:
    lines = ["---", "configs:", "- config_name: default", "  data_files: data/*.parquet", "---", "", "# A curated set", ""]
    lines += [f"{numbers['pictures']:,} pictures, {numbers['boxes']:,} boxes; {numbers['hard']:.1%} hard (more than {HARD_ABOVE} boxes), "
              f"{numbers['negatives']:.1%} negatives (nothing to find).", ""]  # fmt: skip
    lines += ["| source | pictures here | bad records skipped | left out by filters | boxes clipped |", "|---|---:|---|---|---:|"]
    for each in sources:
        taken = numbers["sources"].get(each["name"], 0)
        skipped, dropped = describe_counts(each["skipped"]), describe_counts(each.get("dropped", {}))
        lines.append(f"| {_cell(each['name'])} | {taken:,} | {skipped} | {dropped} | {each['clipped']:,} |")
    lines += ["", "| task | pictures |", "|---|---:|", *(f"| {name} | {n:,} |" for name, n in numbers["tasks"].items())]
    lines += ["", "![histograms](histograms.png)", "", "![a sample of the pictures, with their boxes](contact_sheet.png)", ""]
    if missing:
        lines += [f"{missing} pictures of the sample could not be opened.", ""]
    shown = list(numbers["labels"].items())
    lines += ["| label | boxes |", "|---|---:|", *(f"| {_cell(name)} | {n:,} |" for name, n in shown[:SHOWN])]
    lines += (
        [f"| {len(shown) - SHOWN} more, see card.json | {sum(n for _, n in shown[SHOWN:]):,} |"] if len(shown) > SHOWN else []
    )
    lines += ["", "How it was made:", "", *(f"- {key}: `{value}`" for key, value in about.items())]
    return "\n".join([*lines, "", "Boxes are corners in pixels of the stored pictures, right and bottom edges exclusive.", ""])


def _cell(text: str) -> str:
    """A name from a file, for a table: no bars, no line breaks, no markup."""
    return " ".join(text.replace("|", "/").replace("<", "(").replace("`", "'").split())


def draw_sheet(records: Sequence[Record], root: str | os.PathLike | None = None, columns: int = 6) -> tuple[Image.Image, int]:
    """(the pictures in a grid, with their boxes in a colour for each label; how many could not be opened)."""
    rows = max(1, -(-len(records) // columns))
    sheet, missing = Image.new("RGB", (columns * TILE_PX, rows * TILE_PX), "white"), 0
    for place, record in enumerate(records):
        left, top = place % columns * TILE_PX, place // columns * TILE_PX
        try:
            with open_image(Path(root or "") / record.image_path) as image:
                tile = image.convert("RGB")
        except BadRecord as error:
            missing += 1
            ImageDraw.Draw(sheet).text((left + 8, top + 8), error.reason, fill="black")
            continue
        scale = (TILE_PX - 8) / max(tile.size)
        tile = tile.resize([max(1, round(side * scale)) for side in tile.size])
        draw = ImageDraw.Draw(tile)
        for box, label in zip(record.boxes_xyxy_px, record.labels, strict=True):
            colour = COLOURS[zlib.crc32(label.encode()) % len(COLOURS)]
            draw.rectangle((box * scale).tolist(), outline=colour, width=2)
        sheet.paste(tile, (left, top))
    return sheet, missing


def _draw_histograms(statistics: Statistics) -> Image.Image:
    """Three bar charts, drawn here: a plotting library would take more time and memory than the curation of a large set."""
    most = max(statistics.instances, default=0)
    instances = [statistics.instances[k] for k in range(most + 1)]
    names = ["0", *(f"{side:.0f}" for side in SIDES)]
    labels = [n for _, n in statistics.labels.most_common()]
    charts = (
        (
            f"pictures by number of boxes (hard: above {HARD_ABOVE})",
            instances,
            {0: "0", HARD_ABOVE: str(HARD_ABOVE), most: str(most)},
        ),
        ("boxes by square root of their area, px", statistics.sides.tolist(), dict(enumerate(names))),
        (f"boxes of each of {len(labels)} labels, by frequency", labels, {}),
    )
    width, height = CHART_PX
    picture = Image.new("RGB", (width * len(charts), height), "white")
    draw = ImageDraw.Draw(picture)
    for place, (title, values, ticks) in enumerate(charts):
        left, bottom, high = place * width + 20, height - 24, max([*values, 1])
        step = (width - 40) / max(len(values), 1)
        draw.text((left, 6), f"{title}; highest: {high:,}", fill="black")
        for k, value in enumerate(values):
            top = bottom - (height - 56) * value / high
            draw.rectangle((left + k * step, top, max(left + (k + 1) * step - 1, left + k * step), bottom), fill=COLOURS[2])
        for k, text in ticks.items():
            draw.text((left + k * step, bottom + 6), text, fill="black")
    return picture
