"""Pascal VOC: one XML file for each picture.

A box is the first and the last pixel, both inside it. The challenge's own files count pixels from 1, so that the box
spans (xmin - 1, ymin - 1, xmax, ymax), as detectron2 reads them; labelImg, CVAT and Roboflow write continuous corners
from 0 into the same fields. Which of the two is decided for a whole split (ours): corners are taken as they are if there
is no ImageSets folder or some corner is 0. Objects marked difficult, which the challenge does not score, are left out and
counted in `Record.ignored`.

The XML is untrusted: a DOCTYPE, which could name other files or grow without end, is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

from vr1kit.formats.folders import PictureFolder, check_inside, choose_folder, choose_split, is_inside, read_bytes, read_lines
from vr1kit.formats.images import SUFFIXES, read_size
from vr1kit.records import BadRecord, DataError, DetectionSet, Faults, Record, check_box_xyxy, check_size, shorten, stack_boxes

SPLITS = ("train", "val", "trainval", "test")  # VOC development kit; the other lists are of single classes
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def find_voc(folder: Path) -> dict[str, list[str]]:
    """Split -> names of XML files below `folder`; empty for another format."""
    lists = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS}
    if (folder / "Annotations").is_dir():
        if any(path.is_file() for path in lists.values()):
            return {split: [] for split, path in lists.items() if path.is_file()}  # names are read when they are asked for
        names = _list_xml(folder / "Annotations", folder)
        return {"all": [f"Annotations/{name}" for name in names]} if names else {}
    if names := _list_xml(folder, folder):
        return {"all": names}
    parts = {each.name: _list_xml(each, folder) for each in sorted(folder.iterdir()) if each.is_dir()}
    return {part: [f"{part}/{name}" for name in names] for part, names in parts.items() if names}


def _list_xml(folder: Path, root: Path) -> list[str]:
    """The XML files of a folder, if the first of them is an annotation."""
    names = sorted(path.name for path in folder.glob("*.xml"))
    if names and is_inside(folder / names[0], root) and (folder / names[0]).is_file():
        with open(folder / names[0], "rb") as file:
            return names if b"<annotation" in file.read(4096) else []
    return []


def read_voc(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
    origin: int | None = None,
) -> DetectionSet:
    """Read Pascal VOC: Annotations, JPEGImages, ImageSets/Main; or XML beside the pictures, perhaps in a folder for each split.

    `origin` is the number of the first pixel, 1 or 0, where the module's rule should not decide. Image ids count from 1.
    Raises DataError for bad files and boxes, pictures that are not there, and DOCTYPEs.
    """
    folder = Path(folder)
    splits = find_voc(folder)
    if not splits:
        raise DataError(f"{folder}: no Pascal VOC set; looked for Annotations/*.xml, *.xml and */*.xml with <annotation>")
    split = choose_split(folder, splits, split)
    faults = Faults(folder, on_error)
    name = name or folder.resolve().name
    files = PictureFolder(folder, what="annotation file")
    listed = splits[split] or _read_list(check_inside(folder / "ImageSets" / "Main" / f"{split}.txt", folder))
    found, zero = [], not (folder / "ImageSets").is_dir()
    for number, xml in enumerate(listed, 1):
        try:
            path = files.find(xml)
            annotation = _read_xml(path)
        except BadRecord as error:
            faults.take(error, "the annotation", folder / xml)
            continue
        zero = zero or any(float(v) == 0 for box in annotation["boxes"] for v in box[:2] if _is_number(v))
        found.append((number, path, annotation))
    if origin is None:
        origin = 0 if zero else 1
    pictures = [PictureFolder(Path(images))] if images is not None else [
        PictureFolder(place, folder) for place in (folder / "JPEGImages", folder / split, folder) if place.is_dir()
    ]  # fmt: skip
    chosen = choose_folder(pictures, (annotation["filename"] for *_, annotation in found[:20]))
    records = []
    for number, path, annotation in found:
        try:
            records.append(_read_voc_record(path, annotation, chosen, origin, number, name, faults))
        except BadRecord as error:
            faults.take(error, "the annotation", path)
    labels = {label for record in records for label in record.labels}
    names = CLASSES if labels <= set(CLASSES) else sorted(labels)
    return faults.to_set(name, records, {label: i for i, label in enumerate(names, 1)})


def _read_list(path: Path) -> list[str]:
    try:
        lines = read_lines(path)
    except BadRecord as error:
        raise error.at(path, "the list") from None
    return [f"Annotations/{line.split()[0]}.xml" for line in lines if line.strip()]


class _PlainBuilder(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise BadRecord("malformed", "has a DOCTYPE, which may name other files or grow without end; remove it")


def _read_xml(path: Path) -> dict:
    """filename, size and the objects of one annotation, as text. Raises BadRecord."""
    content = read_bytes(path)
    parser = ElementTree.XMLParser(target=_PlainBuilder())
    try:
        if b"<!DOCTYPE" in content:
            _PlainBuilder().doctype("", None, None)
        parser.feed(content)
        root = parser.close()
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord("malformed", f"is not XML ({error}); write it again") from None
    if root.tag != "annotation":
        raise BadRecord("malformed", f"is {shorten(root.tag)}, not an <annotation>; give Pascal VOC's XML")
    objects = root.findall("object")
    boxes = [[each.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")] for each in objects]
    flags = {flag: [(each.findtext(flag) or "0").strip() == "1" for each in objects] for flag in ("difficult", "truncated")}
    size = [root.findtext(f"size/{side}") for side in ("width", "height")]
    labels = [(each.findtext("name") or "").strip() for each in objects]
    return {"filename": (root.findtext("filename") or "").strip(), "size": size, "labels": labels, "boxes": boxes, **flags}


def _is_number(text: str | None) -> bool:
    try:
        return text is not None and float(text) == float(text)
    except ValueError:
        return False


def _read_voc_record(
    path: Path, annotation: dict, pictures: PictureFolder, origin: int, number: int, name: str, faults: Faults
) -> Record:
    picture = _find_picture(annotation["filename"], path.stem, pictures)
    width, height = annotation["size"]
    if _is_number(width) and _is_number(height) and float(width) > 0 and float(height) > 0:
        size = check_size(float(width), float(height))
    else:  # some tools leave it out, or 0
        size = read_size(picture)
    boxes, labels, clipped = [], [], 0
    counted = [not difficult for difficult in annotation["difficult"]]
    for index, (values, label) in enumerate(zip(annotation["boxes"], annotation["labels"], strict=True)):
        if not counted[index]:
            continue
        if not all(map(_is_number, values)) or not label:
            raise BadRecord("malformed", f"has object {index + 1} with the name {label!r} and the box {values}; mend it")
        xmin, ymin, xmax, ymax = map(float, values)
        box, cut = check_box_xyxy(xmin - origin, ymin - origin, xmax, ymax, size)
        boxes.append(box)
        labels.append(label)
        clipped += cut
    faults.clipped += clipped
    truncated = sum(t for t, keep in zip(annotation["truncated"], counted, strict=True) if keep)
    return Record(picture, number, *size, stack_boxes(boxes), tuple(labels), name, counted.count(False), truncated)


def _find_picture(file_name: str, stem: str, pictures: PictureFolder) -> Path:
    """The picture that an annotation names; if that is not there, the one called like the annotation, as tools rename both."""
    try:
        return pictures.find(file_name)
    except BadRecord as error:
        if error.reason == "leaves_folder":
            raise
        for suffix in SUFFIXES:
            try:
                return pictures.find(stem + suffix)
            except BadRecord:
                continue
        raise
