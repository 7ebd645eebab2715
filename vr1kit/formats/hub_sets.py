"""Sets as the hub has them: parquet files, or a folder that `datasets` saved. Read in pieces, memory-mapped where Arrow allows.

Vision-R1-Data: columns image, problem (the question, kept as `Record.prompt`), solution (JSON [[category, [[x1, y1, x2,
y2], ...]], ...], pixels of the original picture), width, height, num_instances, target_id_maps (JSON {category: id}).
RefCOCO, by its columns: sentences and bbox [left, top, right, bottom] (jxu124/refcoco), or answer and bbox [left, top,
width, height] (lmms-lab/RefCOCO, as lmms-eval reads it).

Curated by this package: the columns of `vr1kit.formats.columns`, and `image` where pictures are inside.

Pictures that are inside the file are unpacked once into a folder, by default `pictures` in the set's, named by their
hash: everything after this reads pictures by path.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vr1kit.formats.columns import SCHEMA
from vr1kit.formats.folders import PictureFolder, check_inside, choose_split, find_any, read_json
from vr1kit.formats.images import read_size, unpack_image
from vr1kit.formats.phrase_sets import COCO_FOLDERS, PhraseRecords, open_folders
from vr1kit.records import (
    BadRecord,
    DataError,
    DetectionSet,
    Faults,
    Record,
    check_size,
    get,
    read_box_xywh,
    read_box_xyxy,
    shorten,
    stack_boxes,
)

ROWS = 64  # at a time; ours: some megabytes of pictures
VISION_R1 = {"image", "problem", "solution"}
REFCOCO_CORNERS = {"sentences", "bbox", "image_path"}  # jxu124/refcoco
REFCOCO_SIDES = {"answer", "bbox", "image"}  # lmms-lab/RefCOCO


# --- files ----------------------------------------------------------------------------------------------------------------
def find_hub_files(folder: Path) -> dict[str, list[Path]]:
    """Split -> parquet files, or the state.json of a saved folder; empty for another format."""
    if (folder / "state.json").is_file():
        return {"all": [folder / "state.json"]}
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*/state.json")):
        found[path.parent.name] = [path]
    if found:
        return found
    for path in sorted([*folder.glob("*.parquet"), *folder.glob("*/*.parquet")]):
        match = re.match(r"([A-Za-z]\w*)(?:-\d+-of-\d+|[-.])", path.name)  # train-00000-of-00002.parquet, train.parquet
        split = match[1] if match else "all"
        if path.parent not in (folder, folder / "data"):  # train/0000.parquet, or one set beside another
            split = f"{path.parent.name}/{split}" if match else path.parent.name
        if not path.parent.name.startswith("."):
            found.setdefault(split, []).append(path)
    return found


def list_tables(files: list[Path], folder: Path) -> list[Path]:
    """The files that hold rows. Raises DataError for names that leave the folder."""
    if files[0].name != "state.json":
        return [check_inside(path, folder) for path in files]
    state, place = read_json(check_inside(files[0], folder), "the state of a saved dataset"), files[0].parent
    try:
        if isinstance(state, dict) and state.get("_indices_data_files"):
            raise DataError(f"{files[0]}: rows are chosen by an index; save the set again after flatten_indices()")
        tables = PictureFolder(place, folder, "data file")
        return [tables.find(get(each, "filename", str)) for each in get(state, "_data_files", list)]
    except BadRecord as error:
        raise error.at(files[0], "the list of files") from None


def read_batches(path: Path, columns: set[str]) -> Iterator[list[dict[str, Any]]]:
    """Rows of an Arrow stream or a parquet file, ROWS at a time: what there is of `columns`. Raises DataError."""
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix == ".parquet":
            with pyarrow.parquet.ParquetFile(path) as file:
                chosen = [name for name in file.schema_arrow.names if name in columns]
                for batch in file.iter_batches(batch_size=ROWS, columns=chosen):
                    yield batch.to_pylist()
        else:
            with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as reader:
                chosen = [name for name in reader.schema.names if name in columns]
                for batch in reader:
                    for start in range(0, batch.num_rows, ROWS):
                        yield batch.select(chosen).slice(start, ROWS).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({shorten(str(error))}); fetch the file again") from None


def read_columns(path: Path) -> list[str]:
    """The names of the columns of a parquet or Arrow file. Raises DataError."""
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_schema(path).names
        with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as reader:
            return reader.schema.names
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({shorten(str(error))}); fetch the file again") from None


# --- sets -----------------------------------------------------------------------------------------------------------------
def read_hub(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
) -> DetectionSet:
    """Read one split of Vision-R1-Data or RefCOCO, told apart by their columns; see the module.

    `images` is the folder that pictures are in, or, if they are inside the file, unpacked to. Raises DataError for other
    columns, files that cannot be read, and bad rows.
    """
    folder = Path(folder)
    found = find_hub_files(folder)
    if not found:
        raise DataError(f"{folder}: no set of the hub; looked for state.json, */state.json, *.parquet and */*.parquet")
    tables = list_tables(found[choose_split(folder, found, split)], folder)
    if not tables:
        raise DataError(f"{folder}: the set is empty, its state names no data files; save it again")
    columns = set(read_columns(tables[0]))
    name = name or folder.resolve().name
    faults = Faults(tables[0].parent, on_error)
    pictures = _Pictures(folder, images)
    if columns >= set(SCHEMA.names):
        return _read_own(tables, pictures, name, faults)
    if columns >= VISION_R1:
        return _read_vision_r1(tables, pictures, name, faults)
    if columns >= REFCOCO_CORNERS or columns >= REFCOCO_SIDES:
        return _read_refcoco(tables, pictures, name, faults, corners=columns >= REFCOCO_CORNERS)
    known = ", nor ".join(f"{title} ({', '.join(sorted(needed))})" for title, needed in (
        ("Vision-R1-Data", VISION_R1), ("RefCOCO", REFCOCO_CORNERS), ("RefCOCO", REFCOCO_SIDES), ("curated", SCHEMA.names)
    ))  # fmt: skip
    raise DataError(f"{tables[0]}: has the columns {', '.join(sorted(columns))}: neither {known}; rename them")


class _Pictures:
    """Where a row's picture is: by name in the folders of the set, or unpacked from the row."""

    def __init__(self, folder: Path, images: str | os.PathLike | None):
        self.folders = open_folders(folder, COCO_FOLDERS, images)
        self.unpacked = Path(images) if images is not None else folder / "pictures"
        self._inside = folder if images is None else self.unpacked

    def find(self, value: Any) -> tuple[Path, tuple[int, int]]:
        """(path, (width, height) in px) for a cell of the column `image`, or a path. Raises BadRecord."""
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            check_inside(self.unpacked, self._inside)
            return unpack_image(value, self.unpacked)
        if isinstance(value, str) and len(parts := value.split("/")) > 1 and not value.startswith("/"):
            path = find_any(self.folders, [value, "/".join(parts[-2:]), parts[-1]])
        else:
            path = find_any(self.folders, [value])
        return path, read_size(path)


def _read_vision_r1(tables: list[Path], pictures: _Pictures, name: str, faults: Faults) -> DetectionSet:
    records: list[Record] = []
    ids: dict[str, set] = {}  # category -> the ids that rows give it
    number = 0
    for table in tables:
        for rows in read_batches(table, VISION_R1 | {"width", "height", "target_id_maps"}):
            for row in rows:
                number += 1
                try:
                    record, row_ids = _read_vision_r1_row(row, number, pictures, name, faults)
                except BadRecord as error:
                    faults.take(error, f"row {number}", table)
                    continue
                records.append(record)
                for label in record.labels:
                    ids.setdefault(label, set())
                for label, category_id in row_ids.items():
                    ids.setdefault(label, set()).add(category_id)
    return faults.to_set(name, records, _merge_ids(ids))


def _read_vision_r1_row(
    row: dict, number: int, pictures: _Pictures, name: str, faults: Faults,
) -> tuple[Record, dict[str, int]]:  # fmt: skip
    """The record, and the row's category ids. Raises BadRecord."""
    problem, solution = get(row, "problem", str), _parse(get(row, "solution"), "solution")
    picture, size = pictures.find(get(row, "image"))
    if row.get("width") is not None and row.get("height") is not None:
        annotated = check_size(row["width"], row["height"])
        if annotated != size:
            what = "has width and height {} x {}, its picture is {} x {}".format(*annotated, *size)
            raise BadRecord("picture_size", f"{what}; boxes are of another size of it, scale them")
    boxes, labels, clipped = [], [], 0
    if not isinstance(solution, list):
        raise BadRecord("malformed", f"has the solution {shorten(solution)}; give [[category, [[x1, y1, x2, y2], ...]], ...]")
    for item in solution:
        if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], list)):
            raise BadRecord("malformed", f"has {shorten(item)} in its solution; give [category, [[x1, y1, x2, y2], ...]]")
        for values in item[1]:
            box, cut = read_box_xyxy(values, size)
            boxes.append(box)
            labels.append(item[0])
            clipped += cut
    ids = _parse(row.get("target_id_maps") or "{}", "target_id_maps")
    if not isinstance(ids, dict) or not all(type(i) is int for i in ids.values()):
        raise BadRecord("malformed", f"has the target_id_maps {shorten(ids)}; give {{category: id}}")
    faults.clipped += clipped
    return Record(picture, number, *size, stack_boxes(boxes), tuple(labels), name, prompt=problem), ids


def _read_own(tables: list[Path], pictures: _Pictures, name: str, faults: Faults) -> DetectionSet:
    """What `vr1kit.curation.shards` wrote: untrusted like any other. Categories are the labels, sorted, counted from 1."""
    records: list[Record] = []
    number = 0
    for table in tables:
        for rows in read_batches(table, {*SCHEMA.names, "image"}):
            for row in rows:
                number += 1
                try:
                    picture, size = pictures.find(row.get("image") or get(row, "image_path", str))
                    if size != (row["width"], row["height"]):
                        what = "has width and height {} x {}, its picture is {} x {}".format(row["width"], row["height"], *size)
                        raise BadRecord("picture_size", f"{what}; boxes are of another size of it, scale them")
                    found = [read_box_xyxy(box, size) for box in get(row, "boxes_xyxy_px", list)]
                    labels = tuple(get({"label": label}, "label", str) for label in get(row, "labels", list))
                    if len(labels) != len(found):
                        raise BadRecord("malformed", f"has {len(found)} boxes and {len(labels)} labels; write it again")
                    image_id = _parse(get(row, "image_id", str), "image_id")
                except BadRecord as error:
                    faults.take(error, f"row {number}", table)
                    continue
                faults.clipped += sum(cut for _, cut in found)
                boxes, source = stack_boxes(box for box, _ in found), row["source"] or name
                counts = row["ignored"] or 0, row["truncated"] or 0
                records.append(Record(picture, image_id, *size, boxes, labels, source, *counts, row["prompt"]))
    labels = sorted({label for record in records for label in record.labels})
    return faults.to_set(name, records, {label: i for i, label in enumerate(labels, 1)})


def _parse(value: Any, column: str) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise BadRecord("malformed", f"has the {column} {shorten(value)}, which is not JSON; write it again") from None


def _merge_ids(ids: Mapping[str, set]) -> dict[str, int]:
    """Category -> id: the rows' where all agree, else running numbers from 1 in the order of names."""
    agreed = {label: next(iter(found)) for label, found in ids.items() if len(found) == 1}
    if len(agreed) == len(ids) == len(set(agreed.values())):
        return dict(sorted(agreed.items(), key=lambda item: item[1]))
    return {label: i for i, label in enumerate(sorted(ids), 1)}


def _read_refcoco(tables: list[Path], pictures: _Pictures, name: str, faults: Faults, corners: bool) -> DetectionSet:
    gathered, number = PhraseRecords(name, faults), 0
    read_box = read_box_xyxy if corners else read_box_xywh
    columns = {"image_path", "sentences"} if corners else {"image", "answer"}
    for table in tables:
        for rows in read_batches(table, columns | {"bbox", "image_id", "ref_id"}):
            for row in rows:
                number += 1
                try:
                    picture, size = pictures.find(get(row, "image_path" if corners else "image"))
                    box, clipped = read_box(get(row, "bbox"), size)
                    sentences = get(row, "sentences" if corners else "answer", list)
                    image_id = row["image_id"] if isinstance(row.get("image_id"), int) else number
                    for sentence in sentences:
                        gathered.add(picture, image_id, size, get(sentence, "sent", str) if corners else sentence, box, clipped)
                except BadRecord as error:
                    faults.take(error, f"row {number}", table)
    return gathered.to_set(tables[0].parent)
