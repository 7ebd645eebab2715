"""Any detection dataset by its folder: the format is recognised, or the error says what was looked for and what was found.

    data = open_dataset("coco", split="val2017")
    data = open_dataset("my_labels", on_error="skip")
    print(describe_counts(data.skipped))        # 3 absent, 1 no_area

All formats end in one schema, `vr1kit.records`. Recognition looks at names of files and at a few first bytes; nothing is opened
outside of the folder, no pickle is ever loaded, and no code of a dataset is run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vr1kit.formats.coco import find_coco, read_coco_folder
from vr1kit.formats.coco_stream import stream_coco_folder
from vr1kit.formats.columns import Stream, stream_set
from vr1kit.formats.hub_sets import find_hub_files, read_hub
from vr1kit.formats.odinw import SETS as ODINW_SETS
from vr1kit.formats.phrase_sets import find_refcoco, find_visual_genome, read_refcoco, read_visual_genome
from vr1kit.formats.voc import find_voc, read_voc
from vr1kit.formats.yolo import find_yolo, read_yolo
from vr1kit.records import DataError, DetectionSet, shorten

SHOWN = 12  # names in a message; ours


@dataclass(frozen=True)
class Format:
    """One way in which datasets lie in folders."""

    name: str
    looked_for: str
    find: Callable[[Path], Any]  # something, or nothing
    read: Callable[..., DetectionSet]  # (folder, split, on_error, images, name)


FORMATS = (
    Format(
        "coco",
        "COCO and its like (annotations.json, annotations/instances_*.json, v3det_*.json, zhiyuan_objv2_*.json, "
        "objects365_*.json, SPLIT/annotations_without_background.json, SPLIT/_annotations.coco.json)",
        find_coco,
        read_coco_folder,
    ),
    Format("refcoco", "RefCOCO (refs(*).json with instances.json, finetune_refcoco*_SPLIT.json)", find_refcoco, read_refcoco),
    Format("visual_genome", "Visual Genome (objects.json, region_descriptions.json)", find_visual_genome, read_visual_genome),
    Format(
        "hub", "parquet files or a folder saved by `datasets` (*.parquet, data/*.parquet, state.json)", find_hub_files, read_hub
    ),
    Format("voc", "Pascal VOC (Annotations/*.xml, SPLIT/*.xml)", find_voc, read_voc),
    Format("yolo", "YOLO (images/ and labels/, or SPLIT/images and SPLIT/labels)", find_yolo, read_yolo),
)


def open_dataset(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
    format: str | None = None,
) -> DetectionSet:
    """Read a dataset by its folder, in whatever format it is.

    split     which one, where there are several; "val" finds "valid" and "val2017", too
    on_error  "fail" raises for the first bad record, "skip" leaves them out and counts them in `skipped`
    images    the folder of the pictures, where they do not lie with the annotations
    name      what to call the set; its folder's name by default
    format    one of FORMATS by name, where a folder is several

    Raises DataError, in one line: no format or several are recognised, no such split, or what is wrong with the data.
    """
    folder = Path(folder)
    if not folder.is_dir():
        file = "is a file; give its folder, or use read_coco"
        what = file if folder.is_file() else "no such folder; give the folder of a dataset"
        raise DataError(f"{folder}: {what}")
    known = {each.name: each for each in FORMATS}
    if format is not None and format not in known:
        raise ValueError(f"format must be one of {', '.join(known)}, got {format!r}")
    found = [each for each in FORMATS if format in (None, each.name) and each.find(folder)]
    if len(found) > 1:
        names = [each.name for each in found]
        raise DataError(f"{folder}: is {' and '.join(names)} at once; name one of them with format=NAME, such as {names[0]!r}")
    if not found:
        return _open_below(folder, split, on_error, images, name, format)
    return found[0].read(folder, split, on_error=on_error, images=images, name=name)


def open_stream(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
    format: str | None = None,
) -> Stream:
    """`open_dataset` as a stream of batches: COCO and its like are read in pieces, other formats whole."""
    place = Path(folder)
    found = [each for each in FORMATS if format in (None, each.name) and place.is_dir() and each.find(place)]
    if [each.name for each in found] == ["coco"]:
        return stream_coco_folder(folder, split, on_error, images, name)
    return stream_set(open_dataset(folder, split, on_error, images, name, format))


def _open_below(
    folder: Path, split: str | None, on_error: str, images: Any, name: str | None, format: str | None
) -> DetectionSet:
    """The dataset in the only subfolder, as archives unpack; an error otherwise."""
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    folders = [path for path in entries if path.is_dir() and not path.is_symlink()]
    if len(folders) == 1 and len(entries) < SHOWN:
        return open_dataset(folders[0], split, on_error, images, name or folder.resolve().name, format)
    if sets := [each.name for each in ODINW_SETS if (folder / each.folder).is_dir()]:
        raise DataError(f"{folder}: holds {len(sets)} sets of ODINW; use read_odinw, or give the folder of one of them")
    looked_for = "; ".join(each.looked_for for each in FORMATS if format in (None, each.name))
    names = [shorten(path.name + "/" * path.is_dir())[1:-1] for path in entries]
    there = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "") or "nothing"
    raise DataError(f"{folder}: no dataset is recognised; looked for {looked_for}; found {there}")
