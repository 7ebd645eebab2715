"""From detection annotations to curated instructions: COCO files in, one record schema, `datasets.Dataset` out.

A `Record` is a picture and its boxes in picture pixels. An `Example` is a record and a task: what is asked of it. `to_dataset`
writes examples in the columns that trl's trainers hand to rewards, with boxes already in the space that the policy answers in.

Deviations from the paper's 49K mix: same three parts in the same proportions (61 % detection, 18 % grounding in other domains,
20 % referring), drawn from scenes; negatives and hard samples come with issue-scale data, see `Recipe`.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vr1kit.boxes import xywh_to_xyxy
from vr1kit.prompts import ask_detection, ask_grounding, sort_left_to_right


class DataError(ValueError):
    """Bad input data; the message names file, record and remedy in one line."""


@dataclass(frozen=True)
class Record:
    """One annotated picture. Boxes in picture pixels, (N, 4) float, right and bottom edges exclusive."""

    image_path: Path
    image_id: int
    width: int
    height: int
    boxes_xyxy_px: np.ndarray
    labels: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class DetectionSet:
    """A COCO file: records in file order, the category list in id order."""

    name: str
    annotations: Path
    records: tuple[Record, ...]
    categories: Mapping[str, int]  # label -> COCO category id


def read_coco(annotations: str | os.PathLike, images: str | os.PathLike | None = None, name: str | None = None) -> DetectionSet:
    """Read COCO instances. `images` defaults to the folder `images` beside the file; crowd regions are left out.

    Raises DataError for a file that is not COCO, unknown ids, boxes that are not boxes and file names that leave the folder.
    """
    path = Path(annotations)
    root = Path(images) if images is not None else path.parent / "images"
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; give the path of a COCO instances JSON") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}); give the path of a COCO instances JSON") from None
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco, dict) or not isinstance(coco.get(key), list):
            raise DataError(f"{path}: not a COCO instances file, it has no list '{key}'")
    try:
        return _read_parts(coco, path, root, name or path.parent.name)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"an entry has no {error}" if isinstance(error, KeyError) else f"an entry cannot be read: {error}"
        raise DataError(f"{path}: not a COCO instances file, {what}; give the path of a COCO instances JSON") from None


def _read_parts(coco: dict, path: Path, root: Path, name: str) -> DetectionSet:
    names = {c["id"]: str(c["name"]) for c in coco["categories"]}
    boxes: dict[int, list] = {i["id"]: [] for i in coco["images"]}
    labels: dict[int, list[str]] = {i: [] for i in boxes}
    for a in coco["annotations"]:
        if a.get("iscrowd"):
            continue
        if a["image_id"] not in boxes or a["category_id"] not in names:
            raise DataError(f"{path}: annotation {a.get('id')} names an unknown image or category; check the file's ids")
        x, y, w, h = (float(v) for v in a["bbox"])
        if not (np.isfinite([x, y, w, h]).all() and w > 0 and h > 0):
            raise DataError(f"{path}: annotation {a.get('id')} has the box {a['bbox']}; width and height must be positive")
        boxes[a["image_id"]].append((x, y, w, h))
        labels[a["image_id"]].append(names[a["category_id"]])
    records = []
    for image in coco["images"]:
        file_name = Path(str(image["file_name"]))
        if file_name.is_absolute() or ".." in file_name.parts:
            raise DataError(f"{path}: image {image['id']} has the file name {image['file_name']!r}, which leaves {root}")
        xyxy = xywh_to_xyxy(np.asarray(boxes[image["id"]], float).reshape(-1, 4))
        records.append(
            Record(
                root / file_name,
                image["id"],
                image["width"],
                image["height"],
                xyxy,
                tuple(labels[image["id"]]),
                name,
            )
        )
    return DetectionSet(name, path, tuple(records), {n: i for i, n in sorted(names.items())})


@functools.lru_cache(maxsize=8192)
def read_image(path: str) -> Image.Image:
    """Decode one picture to RGB; kept in memory, since training asks for each several times."""
    with Image.open(path) as image:
        return image.convert("RGB")


# --- curation --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Example:
    """A record, the task and the text that is asked. Grounding keeps the boxes of its one phrase only."""

    record: Record
    task: str  # detection | grounding
    prompt: str
    boxes_xyxy_px: np.ndarray  # (n, 4), left to right
    labels: tuple[str, ...]


def ask(record: Record, categories: Sequence[str], phrase: str | None = None) -> Example:
    """Make an example: detection of all categories, or grounding of one phrase."""
    keep = [i for i, label in enumerate(record.labels) if phrase is None or label == phrase]
    boxes = record.boxes_xyxy_px[keep]
    order = sort_left_to_right(boxes)
    prompt = ask_detection(categories) if phrase is None else ask_grounding(phrase)
    labels = tuple(record.labels[keep[i]] for i in order)
    return Example(record, "detection" if phrase is None else "grounding", prompt, boxes[order], labels)


@dataclass(frozen=True)
class Part:
    """A share of a mix. `sources` are set names; pictures are spread over them evenly."""

    name: str
    sources: tuple[str, ...]
    task: str
    n: int


def curate(
    sets: Mapping[str, DetectionSet],
    parts: Sequence[Part],
    seed: int,
    min_instances: int = 1,
    max_instances: int = 30,
    min_side_px: float = 4.0,
) -> tuple[list[Example], list[dict]]:
    """Choose examples for each part without using a picture twice. Returns (examples, shuffled; a table of what was dropped).

    `max_instances` 30 and at least one are the released code's; `min_side_px` is ours.
    Raises DataError if a source has too few pictures.
    """
    rng = np.random.default_rng(seed)
    usable: dict[str, list[Record]] = {}
    dropped = []
    for name, data in sets.items():
        kept = []
        for record in data.records:
            sides = record.boxes_xyxy_px[:, 2:] - record.boxes_xyxy_px[:, :2]
            reason = (
                "too few" if len(record.labels) < min_instances
                else "too many" if len(record.labels) > max_instances
                else "tiny" if (sides < min_side_px).any()
                else None
            )  # fmt: skip
            if reason is None:
                kept.append(record)
            else:
                dropped.append({"source": name, "image_id": record.image_id, "reason": reason})
        usable[name] = [kept[i] for i in rng.permutation(len(kept))]
    examples = []
    for part in parts:
        for k in range(part.n):
            source = part.sources[k % len(part.sources)]
            if not usable.get(source):
                raise DataError(
                    f"source '{source}' has too few pictures for part '{part.name}' ({part.n}); add pictures or lower n"
                )
            record = usable[source].pop()
            phrase = str(rng.choice(sorted(set(record.labels)))) if part.task == "grounding" else None
            examples.append(ask(record, list(sets[source].categories), phrase))
    return [examples[i] for i in rng.permutation(len(examples))], dropped


def to_dataset(
    examples: Sequence[Example], write_boxes: Callable[[np.ndarray, int, int], tuple[np.ndarray, tuple[int, int]]], root: Path
):
    """Examples as a `datasets.Dataset` for trl. `write_boxes(boxes_xyxy_px, width, height)` is the policy's: it returns boxes in
    the space it answers in and that space's (width, height).

    Columns: prompt (chat), image (path below `root`), boxes_xyxy, labels, size, task, source, image_id. Give it to
    `decode_images` to get pictures instead of paths.
    """
    from datasets import Dataset  # heavy: only when a dataset is made

    rows = []
    for e in examples:
        boxes, size = write_boxes(e.boxes_xyxy_px, e.record.width, e.record.height)
        rows.append(
            {
                "prompt": [{"role": "user", "content": e.prompt}], "image": str(e.record.image_path.relative_to(root)),
                "boxes_xyxy": np.asarray(boxes, float).tolist(), "labels": list(e.labels), "size": list(size),
                "task": e.task, "source": e.record.source, "image_id": e.record.image_id,
            }
        )  # fmt: skip
    return Dataset.from_list(rows)


def decode_images(dataset, root: Path):
    """Let `image` be a picture, decoded when a row is read."""

    def decode(batch: dict) -> dict:
        if "image" not in batch:
            return batch
        return {**batch, "image": [read_image(str(Path(root) / p)) for p in batch["image"]]}

    return dataset.with_transform(decode)
