"""COCO instances, and the sets that came after in the same form: scenes, COCO, ODINW, V3Det, Objects365, Roboflow's exports.

Boxes are [left, top, width, height] in pixels of the picture, continuous, counted from 0 at the top left corner
(cocodataset.org, data format). Crowd regions are left out and counted in `Record.ignored`.

Where sets differ is in where things lie (`LAYOUTS`). Objects365 names a picture "images/v1/patch8/x.jpg" and publishes it as
"train/patch8/x.jpg": its last two parts count, as in mmdetection's Objects365V2Dataset.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from vr1kit.formats.folders import PictureFolder, check_inside, choose_folder, choose_split, read_json
from vr1kit.records import (
    BadRecord,
    DataError,
    DetectionSet,
    Faults,
    Record,
    call,
    check_size,
    get,
    read_box_xywh,
    shorten,
    stack_boxes,
)

WHAT = "a COCO instances JSON"
LOOKED_AT = 20  # pictures whose presence decides between folders; ours
# Annotated, and in no published archive: mmdetection, mmdet/datasets/objects365.py, objv2_ignore_list.
OBJECTS365_ABSENT = frozenset(
    {"patch16/objects365_v2_00908726.jpg", "patch6/objects365_v1_00320532.jpg", "patch6/objects365_v1_00320534.jpg"}
)


@dataclass(frozen=True)
class Layout:
    """Where a published set has its files, relative to its folder."""

    format: str
    files: str  # glob of the annotations
    split: str  # regular expression over a file's relative path; its group names the split
    folders: tuple[str, ...]  # where the pictures may be, first come first served; {split} stands for the split
    tail: int = 0  # only so many last parts of a picture's name count; 0: all
    absent: frozenset[str] = frozenset()  # known to be missing


LAYOUTS = (
    Layout("scenes", "annotations.json", "(annotations)", ("images",)),
    Layout("COCO", "annotations/instances_*.json", r"instances_(\w+)\.json", ("{split}", "images/{split}", "images", ".")),
    # github.com/microsoft/GLIP, configs/odinw_35: one form or the other, see vr1kit.formats.odinw
    Layout("ODINW", "*/annotations_without_background.json", r"^([^/]+)/", ("{split}",)),
    Layout("ODINW", "*_annotations_without_background.json", r"^([^/]+)_annotations", (".",)),
    # mmdetection, configs/v3det: names begin with images/
    Layout("V3Det", "annotations/v3det_2023_v1_*.json", r"v1_(train|val)\.json", (".", "images")),
    Layout("V3Det", "v3det_2023_v1_*.json", r"v1_(train|val)\.json", (".", "images")),
    # mmdetection, configs/_base_/datasets/objects365v2_detection.py; v1 beside it
    Layout("Objects365", "annotations/zhiyuan_objv2_*.json", r"v2_(train|val)\.json", ("{split}", "images/{split}"), 2,
           OBJECTS365_ABSENT),
    Layout("Objects365", "annotations/objects365_*.json", r"365_(train|val)\.json", ("{split}", "images/{split}")),
    Layout("Objects365", "objects365_*.json", r"365_(train|val)\.json", ("{split}", "images/{split}")),
    Layout("Roboflow", "*/_annotations.coco.json", r"^([^/]+)/", ("{split}",)),
)  # fmt: skip


def find_coco(folder: Path) -> dict[str, tuple[Layout, Path]]:
    """Split -> (layout, annotation file), by the first layout that has any; empty for another format."""
    for layout in LAYOUTS:
        found = {}
        for file in sorted(folder.glob(layout.files)):
            if match := re.search(layout.split, file.relative_to(folder).as_posix()):
                found[match[1]] = layout, file
        if found:
            return found
    return {}


def read_coco_folder(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
) -> DetectionSet:
    """Read one split of a set in one of LAYOUTS. `images` names the pictures' folder where it is not the layout's.

    Raises DataError as `read_coco` does, and for pictures that are not there.
    """
    path, choose = find_coco_file(Path(folder), split, images)
    coco = _load(path)
    names = [entry.get("file_name") for entry in coco["images"][:LOOKED_AT] if isinstance(entry, dict)]
    return _read_parts(coco, path, choose(names), name or Path(folder).resolve().name, Faults(path, on_error))


def find_coco_file(
    folder: Path, split: str | None, images: str | os.PathLike | None
) -> tuple[Path, Callable[[list[Any]], Callable[[Any], str]]]:
    """(annotation file, how to find its pictures once some of their names are known). Raises DataError."""
    found = find_coco(folder)
    if not found:
        looked_for = ", ".join(dict.fromkeys(layout.files for layout in LAYOUTS))
        raise DataError(f"{folder}: no COCO-like set; looked for {looked_for}")
    split = choose_split(folder, found, split)
    layout, file = found[split]
    if images is not None:
        folders = [PictureFolder(Path(images))]
    else:
        places = [folder / each.format(split=split) for each in layout.folders]
        folders = [PictureFolder(place, folder) for place in places if place.is_dir()] or [PictureFolder(places[0], folder)]

    def choose(names: list[Any]) -> Callable[[Any], str]:
        pictures = choose_folder(folders, (_cut(name, layout.tail) for name in names[:LOOKED_AT]))

        def find(file_name: Any) -> Path:
            short = _cut(file_name, layout.tail)
            if short in layout.absent:
                what = f"names the picture {shorten(file_name)}, which was never published; leave it out"
                raise BadRecord("known_absent", what)
            return pictures.find_text(short)

        return find

    return check_inside(file, folder), choose


def _cut(file_name: Any, tail: int) -> Any:
    return "/".join(PurePosixPath(file_name).parts[-tail:]) if tail and isinstance(file_name, str) else file_name


def read_coco(
    annotations: str | os.PathLike,
    images: str | os.PathLike | None = None,
    name: str | None = None,
    on_error: str = "fail",
    require_pictures: bool = False,
) -> DetectionSet:
    """Read COCO instances. `images` defaults to the folder `images` beside the file; crowd regions are left out.

    Whether the pictures are there is asked only with `require_pictures`: answers can be scored without them.
    Raises DataError for a file that is not COCO and for an empty set; for unknown or double ids, boxes that are not boxes and
    names that leave the folder too, unless `on_error` is "skip": then `skipped` counts them.
    """
    path = Path(annotations)
    coco = _load(path)
    find = choose_finder(path, images, require_pictures)
    return _read_parts(coco, path, find, name or path.parent.name, Faults(path, on_error))


def choose_finder(path: Path, images: str | os.PathLike | None, required: bool) -> Callable[[Any], str]:
    """How to find the pictures of an annotation file: in `images`, by default the folder of that name beside it."""
    pictures = PictureFolder(path.parent / "images", path.parent) if images is None else PictureFolder(Path(images))
    return functools.partial(pictures.find_text, required=required)


def _load(path: Path) -> dict:
    coco = read_json(path, WHAT)
    for key in ("images", "annotations", "categories"):
        if not isinstance(coco, dict) or not isinstance(coco.get(key), list):
            raise complain_missing(path, key)
    return coco


def complain_missing(path: Path, key: str) -> DataError:
    return DataError(f"{path}: not a COCO instances file, it has no list '{key}'; give the path of {WHAT}")


def _read_parts(coco: dict, path: Path, find: Callable[[Any], str], name: str, faults: Faults) -> DetectionSet:
    names = _read_categories(coco, path)
    pictures, bad = _read_images(coco, find, faults)
    boxes: dict[Any, list] = {image_id: [] for image_id in pictures}
    labels: dict[Any, list[str]] = {image_id: [] for image_id in pictures}
    ignored, clipped = dict.fromkeys(pictures, 0), dict.fromkeys(pictures, 0)
    used, seen = set(), set()
    for number, entry in enumerate(coco["annotations"], 1):
        try:
            image_id = get(entry, "image_id", (int, str))
            if image_id not in pictures and image_id not in bad:
                raise BadRecord("unknown_picture", f"names an unknown image, {shorten(image_id)}; check the file's ids")
        except BadRecord as error:
            faults.take(error, call("annotation", entry, number))
            continue
        if entry.get("iscrowd"):
            ignored[image_id] = ignored.get(image_id, 0) + 1
            continue
        if image_id in bad:
            if isinstance(entry.get("id"), int | str):
                seen.add(entry["id"])
            continue
        try:
            category_id, box, cut = read_coco_annotation(entry, pictures[image_id][1], names, seen)
        except BadRecord as error:
            bad[image_id] = faults.check(error, call("annotation", entry, number))
            continue
        used.add(category_id)
        clipped[image_id] += cut
        boxes[image_id].append(box)
        labels[image_id].append(names[category_id])
    for reason in bad.values():
        faults.count(reason)
    faults.clipped += sum(n for image_id, n in clipped.items() if image_id not in bad)
    records = [
        Record(file, image_id, *size, stack_boxes(boxes[image_id]), tuple(labels[image_id]), name, ignored[image_id])
        for image_id, (file, size) in pictures.items()
        if image_id not in bad
    ]
    return faults.to_set(name, records, _choose_ids(names, used, path))


def _read_images(coco: dict, find: Callable[[Any], str], faults: Faults) -> tuple[dict, dict]:
    """id -> (file, size) of all pictures that are in order, and id -> reason of the others."""
    pictures: dict[int | str, tuple[Path, tuple[int, int]]] = {}
    bad: dict[int | str, str] = {}
    for number, entry in enumerate(coco["images"], 1):
        which = call("image", entry, number)
        try:
            image_id = get(entry, "id", (int, str))
        except BadRecord as error:
            faults.take(error, which)
            continue
        try:
            if image_id in pictures or image_id in bad:
                faults.count(bad.get(image_id, "duplicate_id"))  # the first is counted with the bad ones
                raise BadRecord("duplicate_id", "has an id that another image has, too; give each its own")
            size = check_size(get(entry, "width"), get(entry, "height"))
            pictures[image_id] = Path(find(get(entry, "file_name"))), size
        except BadRecord as error:
            bad[image_id] = error.reason if error.reason == "known_absent" else faults.check(error, which)
    return {image_id: picture for image_id, picture in pictures.items() if image_id not in bad}, bad


def read_coco_annotation(entry: dict, size: tuple[int, int], names: dict, seen: set) -> tuple[Any, tuple[float, ...], bool]:
    """(category id, box, whether it was clipped). `seen` are the ids of earlier annotations; this one's is added. BadRecord."""
    double = False
    if "id" in entry:  # a few exports have none
        annotation_id = get(entry, "id", (int, str))
        double = annotation_id in seen
        seen.add(annotation_id)
    category_id = get(entry, "category_id", (int, str))
    if category_id not in names:
        raise BadRecord("unknown_category", f"names an unknown category, {shorten(category_id)}; check the file's ids")
    box, clipped = read_box_xywh(get(entry, "bbox", list), size)
    if double:
        raise BadRecord("duplicate_id", "has an id that another annotation has, too; give each its own")
    return category_id, box, clipped


def _read_categories(coco: dict, path: Path) -> dict[int | str, str]:
    """Category id -> name."""
    names: dict[int | str, str] = {}
    for number, entry in enumerate(coco["categories"], 1):
        try:
            category_id, label = get(entry, "id", (int, str)), str(get(entry, "name", (str, int)))
            if category_id in names:
                raise BadRecord("duplicate_id", "has an id that another category has, too; give each its own")
        except BadRecord as error:
            raise error.at(path, call("category", entry, number)) from None
        names[category_id] = label
    return names


def _choose_ids(names: dict[int | str, str], used: set, path: Path) -> dict[str, int]:
    """Name -> id in id order. Of two ids with one name, which Roboflow's exports have, the one that is used."""
    chosen: dict[str, Any] = {}
    for category_id, label in sorted(names.items(), key=lambda item: (isinstance(item[0], str), item[0])):
        other = chosen.get(label)
        if other is not None and other in used and category_id in used:
            what = f"{path}: categories {other} and {category_id} are both called {shorten(label)}"
            raise DataError(f"{what}; rename one of them")
        if other is None or category_id in used:
            chosen[label] = category_id
    return chosen
