"""Sets in which each box has a phrase: RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO as JSON, Visual Genome's objects and regions.

A record is a picture with all its phrases; a phrase stands as often as it has boxes, and `data.ask` asks for one phrase
at a time. Not every object has a phrase, so such a set cannot ask "locate everything": `DetectionSet.phrases` is true.

RefCOCO was published as a pickle, which runs code when it is loaded and is never opened here. What is read:
- refs(unc).json with instances.json beside it: the pickle's list as JSON; gRefCOCO's grefs(unc).json is published so. Boxes are
  instances.json's, [left, top, width, height] px.
- MDETR's finetune_refcoco_SPLIT.json, COCO instances with a `caption` on each picture.
- the hub's parquet files: see `vr1kit.formats.hub_sets`.
The phrase is `sent`, the sentence in lower case that evaluations use, not `raw`.

Visual Genome: boxes are x, y, w, h (objects) or x, y, width, height (regions), px; image_data.json has the pictures'
sizes. Its boxes often leave the picture: read it with on_error="skip".
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vr1kit.formats.folders import PictureFolder, check_inside, choose_split, find_any, read_json
from vr1kit.records import BadRecord, DataError, DetectionSet, Faults, Record, call, check_size, get, read_box_xywh, stack_boxes

COCO_FOLDERS = ("train2014", "images/train2014", "images/mscoco/images/train2014", "images", ".")  # refer's and MDETR's
GENOME_FOLDERS = (".", "images")


class PhraseRecords:
    """Gathers phrases into one record for each picture, in the order in which pictures come."""

    def __init__(self, name: str, faults: Faults):
        self.name, self.faults = name, faults
        self._pictures: dict[Path, tuple[Any, tuple[int, int], dict]] = {}

    def add(self, path: Path, image_id: Any, size: tuple[int, int], phrase: Any, box: Sequence[float], clipped: bool) -> None:
        """One phrase and one of its boxes (x1, y1, x2, y2), px. The same phrase for the same box counts once."""
        if not isinstance(phrase, str) or not phrase.strip():
            raise BadRecord("malformed", f"has {phrase!r} as its phrase; give a text")
        known = self._pictures.setdefault(path, (image_id, size, {}))[2]
        if (phrase.strip(), tuple(box)) not in known:
            known[phrase.strip(), tuple(box)] = None
            self.faults.clipped += clipped

    def to_set(self, file: Path) -> DetectionSet:
        records = [
            Record(path, image_id, *size, stack_boxes(box for _, box in pairs), tuple(phrase for phrase, _ in pairs), self.name)
            for path, (image_id, size, pairs) in self._pictures.items()
        ]
        return self.faults.to_set(self.name, records, {}, phrases=True, file=file)


def open_folders(folder: Path, places: Sequence[str], images: str | os.PathLike | None) -> list[PictureFolder]:
    """Where to look for pictures: the folder that the user named, or those of the format."""
    if images is not None:
        return [PictureFolder(Path(images))]
    return [PictureFolder(folder / place, folder) for place in places if (folder / place).is_dir()]


# --- RefCOCO --------------------------------------------------------------------------------------------------------------
def find_refcoco(folder: Path) -> dict[str, Path]:
    """What there is to read -> its file: "unc" -> refs(unc).json, or split -> MDETR's file; empty for another format.

    Raises DataError where there is nothing but a pickle.
    """
    found = {}
    for path in sorted(folder.glob("*refs(*).json")):
        found[path.stem.split("(", 1)[1].rstrip(")")] = path
    for path in sorted(folder.glob("*_refcoco*_*.json")):
        if match := re.fullmatch(r"(?:finetune|final)_g?refcoco[+g]?_(\w+)\.json", path.name):
            found[match[1]] = path
    if not found and (pickles := sorted(folder.glob("*refs(*).p"))):
        what = f"{pickles[0]}: is a pickle, which can run any code and is never loaded"
        raise DataError(
            f"{what}; save its list with json.dump as {pickles[0].stem}.json where you trust it, or fetch parquet files"
        )
    return found


def read_refcoco(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
) -> DetectionSet:
    """Read one split of RefCOCO/+/g or gRefCOCO from JSON; see the module. Pictures are COCO's train2014: name it by `images`.

    With several lists of references (unc, google, umd) `split` names both: "unc/val". Raises DataError for pickles, absent
    pictures, unknown ids and bad boxes.
    """
    folder = Path(folder)
    found = find_refcoco(folder)
    if not found:
        raise DataError(f"{folder}: no RefCOCO; looked for refs(*).json with instances.json, and finetune_refcoco*_SPLIT.json")
    folders = open_folders(folder, COCO_FOLDERS, images)
    name = name or folder.resolve().name
    lists = {by: path for by, path in found.items() if path.name.endswith(").json")}
    if not lists:
        path = check_inside(found[choose_split(folder, found, split)], folder)
        return _read_captions(path, folders, name, Faults(path, on_error))
    by, part = (split.split("/", 1) if split and "/" in split else (None, split)) if len(lists) > 1 else (None, split)
    path = check_inside(lists[choose_split(folder, lists, by) if len(lists) > 1 else next(iter(lists))], folder)
    return _read_references(path, part, folders, name, Faults(path, on_error))


def _read_references(path: Path, split: str | None, folders: list[PictureFolder], name: str, faults: Faults) -> DetectionSet:
    references = read_json(path, "a list of references")
    file = check_inside(path.with_name("instances.json"), path.parent)
    instances = read_json(file, "instances.json, which has the boxes,")
    pictures, boxes = (_index(instances, key, file) for key in ("images", "annotations"))
    if not isinstance(references, list):
        raise DataError(f"{path}: not a list of references; give the pickle's list as JSON")
    splits = {each["split"] for each in references if isinstance(each, dict) and isinstance(each.get("split"), str)}
    split = choose_split(path, splits, split) if splits else None
    gathered = PhraseRecords(name, faults)
    for number, reference in enumerate(references, 1):
        which = call("reference", reference, number, "ref_id")
        try:
            if splits and get(reference, "split", str) != split:
                continue
            image_id, targets = get(reference, "image_id", (int, str)), get(reference, "ann_id")
            if reference.get("no_target") or targets in (-1, [-1]):
                faults.count("no_target", len(get(reference, "sentences", list)))
                continue
            if image_id not in pictures:
                raise BadRecord("unknown_picture", f"names an unknown image, {image_id!r}; check the ids against {file.name}")
            image = pictures[image_id]
            size = check_size(get(image, "width"), get(image, "height"))
            picture = find_any(folders, [get(image, "file_name")])
            for target in targets if isinstance(targets, list) else [targets]:
                if not isinstance(target, int | str) or target not in boxes:
                    raise BadRecord("malformed", f"names an unknown annotation, {target!r}; check the ids against {file.name}")
                box, clipped = read_box_xywh(get(boxes[target], "bbox", list), size)
                for sentence in get(reference, "sentences", list):
                    gathered.add(picture, image_id, size, get(sentence, "sent", str), box, clipped)
        except BadRecord as error:
            faults.take(error, which)
    return gathered.to_set(path)


def _index(instances: Any, key: str, file: Path) -> dict:
    """id -> entry of a list in a COCO file; entries without an id are never asked for."""
    entries = instances.get(key) if isinstance(instances, dict) else None
    if not isinstance(entries, list):
        raise DataError(f"{file}: not a COCO instances file, it has no list '{key}'; give RefCOCO's own")
    return {each["id"]: each for each in entries if isinstance(each, dict) and isinstance(each.get("id"), int | str)}


def _read_captions(path: Path, folders: list[PictureFolder], name: str, faults: Faults) -> DetectionSet:
    """MDETR's form: an image for each phrase, which is its caption."""
    content = read_json(path, "MDETR's JSON")
    images = _index(content, "images", path)
    gathered = PhraseRecords(name, faults)
    for number, entry in enumerate(content.get("annotations") or [], 1):
        which = call("annotation", entry, number)
        try:
            image_id = get(entry, "image_id", (int, str))
            if image_id not in images:
                raise BadRecord("unknown_picture", f"names an unknown image, {image_id!r}; check the file's ids")
            image = images[image_id]
            size = check_size(get(image, "width"), get(image, "height"))
            picture = find_any(folders, [get(image, "file_name")])
            box, clipped = read_box_xywh(get(entry, "bbox", list), size)
            original = get(image, "original_id", (int, str)) if "original_id" in image else image_id
            gathered.add(picture, original, size, get(image, "caption", str), box, clipped)
        except BadRecord as error:
            faults.take(error, which)
    return gathered.to_set(path)


# --- Visual Genome --------------------------------------------------------------------------------------------------------
GENOME = {"objects": "objects.json", "regions": "region_descriptions.json"}  # split -> file


def find_visual_genome(folder: Path) -> dict[str, Path]:
    """ "objects" and "regions" -> file; empty for another format."""
    return {split: folder / file for split, file in GENOME.items() if (folder / file).is_file()}


def read_visual_genome(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
) -> DetectionSet:
    """Read Visual Genome's objects (the first of each one's names) or region descriptions. Pictures: VG_100K and VG_100K_2.

    Raises DataError for absent files and pictures, and bad boxes.
    """
    folder = Path(folder)
    found = find_visual_genome(folder)
    if not found:
        raise DataError(f"{folder}: no Visual Genome; looked for {' and '.join(GENOME.values())}")
    split = choose_split(folder, found, split)
    path = check_inside(found[split], folder)
    data = check_inside(folder / "image_data.json", folder)
    entries = (entry for entry in _read_list(data) if isinstance(entry, dict))
    pictures = {entry["image_id"]: entry for entry in entries if isinstance(entry.get("image_id"), int)}
    folders, name, faults = open_folders(folder, GENOME_FOLDERS, images), name or folder.resolve().name, Faults(path, on_error)
    gathered = PhraseRecords(name, faults)
    for number, entry in enumerate(_read_list(path), 1):
        which = f"image number {number}"
        try:
            image_id = get(entry, "image_id" if isinstance(entry, dict) and "image_id" in entry else "id", int)
            which = f"image {image_id}"
            if image_id not in pictures:
                raise BadRecord("unknown_picture", f"is not in {data.name}; fetch both of one version")
            size = check_size(get(pictures[image_id], "width"), get(pictures[image_id], "height"))
            file = get(pictures[image_id], "url", str).rsplit("/", 2)[-2:]
            picture = find_any(folders, ["/".join(file), f"VG_100K/{file[-1]}", f"VG_100K_2/{file[-1]}", file[-1]])
            boxes = get(entry, split, list)
        except BadRecord as error:
            faults.take(error, which)
            continue
        for place, each in enumerate(boxes, 1):
            try:
                names = get(each, "names", list) if split == "objects" else [get(each, "phrase", str)]
                sides = ("w", "h") if isinstance(each, dict) and "w" in each else ("width", "height")
                box, clipped = read_box_xywh([get(each, side) for side in ("x", "y", *sides)], size)
                gathered.add(picture, image_id, size, names[0] if names else None, box, clipped)
            except BadRecord as error:
                faults.take(error, f"{which}, {call(split[:-1], each, place, 'object_id', 'region_id', 'id')}")
    return gathered.to_set(path)


def _read_list(path: Path) -> list:
    content = read_json(path, f"Visual Genome's {path.name}")
    if not isinstance(content, list):
        raise DataError(f"{path}: not a list; give Visual Genome's own file")
    return content
