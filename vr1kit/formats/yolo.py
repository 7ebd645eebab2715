"""YOLO: one text file for each picture, a line for each object: `class centre_x centre_y width height` in shares of the sides.

A line of more points is a polygon, and its extent the box. Pictures without a file, or with an empty one, have nothing in them.
Names come from data.yaml, classes.txt or obj.names; the paths in data.yaml are not followed, since they often lead elsewhere.
(docs.ultralytics.com/datasets/detect; roboflow.com/formats/yolo)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vr1kit.formats.folders import PictureFolder, check_inside, choose_split, read_lines
from vr1kit.formats.images import SUFFIXES, read_size
from vr1kit.records import BadRecord, DataError, DetectionSet, Faults, Record, check_box_xyxy, shorten, stack_boxes


def find_yolo(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Split -> (folder of pictures, folder of labels); empty for another format."""
    found = {}
    images, labels = folder / "images", folder / "labels"
    if images.is_dir() and labels.is_dir():
        if _has_pictures(images):
            found["all"] = images, labels
        for part in sorted(images.iterdir()):
            if part.is_dir() and (labels / part.name).is_dir():
                found[part.name] = part, labels / part.name
    for part in sorted(folder.iterdir()):
        if (part / "labels").is_dir() and (part / "images").is_dir() and _has_pictures(part / "images"):
            found[part.name] = part / "images", part / "labels"
    return found


def _has_pictures(folder: Path) -> bool:
    return any(name.lower().endswith(SUFFIXES) for name in os.listdir(folder))


def read_yolo(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
) -> DetectionSet:
    """Read YOLO's text files: images/SPLIT and labels/SPLIT, SPLIT/images and SPLIT/labels, or images and labels.

    Category ids are YOLO's, from 0; image ids count from 1 in the order of file names. Sizes come from the pictures' headers.
    Raises DataError for absent class names, bad lines, and labels without a picture.
    """
    folder = Path(folder)
    splits = find_yolo(folder)
    if not splits:
        raise DataError(f"{folder}: no YOLO set; looked for images/ and labels/, for images/SPLIT, and for SPLIT/images")
    image_folder, label_folder = splits[choose_split(folder, splits, split)]
    names, keypoints = _read_names(folder)
    faults = Faults(label_folder, on_error)
    name = name or folder.resolve().name
    pictures = PictureFolder(Path(images)) if images is not None else PictureFolder(image_folder, folder)
    labels = PictureFolder(label_folder, folder, "label file")
    files = sorted(each for each in os.listdir(pictures.root) if each.lower().endswith(SUFFIXES))
    stems = {Path(file).stem for file in files}
    for file in sorted(os.listdir(label_folder)):
        if file.endswith(".txt") and file != "classes.txt" and file[:-4] not in stems:
            error = BadRecord("absent", f"has no picture in {pictures.root}; add it, or delete the label")
            faults.take(error, "the label", label_folder / file)
    records = []
    for number, file in enumerate(files, 1):
        which, place = "the picture", pictures.root / file
        try:
            picture = pictures.find(file)
            size = read_size(picture)
            which, place = "the label", label_folder / f"{Path(file).stem}.txt"
            path = labels.find(place.name, required=False)
            boxes, classes, clipped = _read_label(path, size, names, keypoints) if path.is_file() else ([], [], 0)
        except BadRecord as error:
            faults.take(error, which, place)
            continue
        faults.clipped += clipped
        found = tuple(names[each] for each in classes)
        records.append(Record(picture, number, *size, stack_boxes(boxes), found, name))
    return faults.to_set(name, records, {label: i for i, label in names.items()})


def _read_label(path: Path, size: tuple[int, int], names: Mapping[int, str], keypoints: bool) -> tuple[list, list[int], int]:
    """(boxes in px, classes, how many were clipped) of one label file. Raises BadRecord that names the line."""
    boxes, classes, clipped = [], [], 0
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise BadRecord("malformed", f"has {shorten(line)} in line {number}; give numbers only") from None
        category = int(values[0]) if values[0] % 1 == 0 else None
        if category not in names:
            what = f"has the class {words[0]} in line {number}, of {len(names)} from 0"
            raise BadRecord("unknown_category", f"{what}; check the class names")
        if len(values) == 5:
            x, y, w, h = values[1:]
            corners = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        elif len(values) >= 7 and len(values) % 2 and not keypoints:  # a polygon of three points and more
            corners = min(values[1::2]), min(values[2::2]), max(values[1::2]), max(values[2::2])
        else:
            what = f"has {len(values)} numbers in line {number}"
            raise BadRecord("malformed", f"{what}; give a class and four, or a class and a polygon; no scores, no key points")
        try:
            box, cut = check_box_xyxy(*(v * side for v, side in zip(corners, size * 2, strict=True)), size)
        except BadRecord as error:
            raise BadRecord(error.reason, f"in line {number} {error}") from None
        boxes.append(box)
        classes.append(category)
        clipped += cut
    return boxes, classes, clipped


def _read_names(folder: Path) -> tuple[dict[int, str], bool]:
    """Class number -> name, and whether labels have key points."""
    looked_for = [
        "data.yaml",
        *sorted(path.name for path in folder.glob("*.y*ml")),
        "classes.txt",
        "labels/classes.txt",
        "obj.names",
    ]
    for file in dict.fromkeys(looked_for):
        path = folder / file
        if not path.is_file():
            continue
        try:
            lines = read_lines(check_inside(path, folder))
        except BadRecord as error:
            raise error.at(path, "the list of names") from None
        if path.suffix in (".yaml", ".yml"):
            names, keypoints = _read_yaml(path, "\n".join(lines))
            if names is None:
                continue
        else:
            names, keypoints = [line.strip() for line in lines if line.strip()], False
        return _check_names(path, names), keypoints
    raise DataError(f"{folder}: no class names; looked for {', '.join(dict.fromkeys(looked_for))}; add one of them")


def _read_yaml(path: Path, text: str) -> tuple[object, bool]:
    import yaml  # comes with datasets and transformers

    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not YAML ({shorten(str(error))}); mend it") from None
    return (content.get("names"), "kpt_shape" in content) if isinstance(content, dict) else (None, False)


def _check_names(path: Path, names: object) -> dict[int, str]:
    numbered = dict(enumerate(names)) if isinstance(names, Sequence) and not isinstance(names, str) else names
    ok = isinstance(numbered, dict) and numbered
    ok = ok and all(type(i) is int and isinstance(n, str | int) for i, n in numbered.items())
    if not ok or len({str(n) for n in numbered.values()}) < len(numbered):
        raise DataError(f"{path}: has no list of different class names under 'names', or line by line; give one")
    return {i: str(n) for i, n in sorted(numbered.items())}
