"""COCO instances of any size, read in pieces: as `coco.read_coco`, with memory that does not grow with the boxes.

Boxes come in any order, so they are sorted by picture on disk: each goes to the temporary file of its picture's batch, and a batch is
read back when its turn comes. In memory are the pictures alone, some 50 bytes each. Everything is checked by the rules of
`vr1kit.records`, for a batch at a time; messages come from the very functions that `read_coco` uses.

What `json_arrays` cannot read in pieces (text ids, boxes that are not four numbers, NaN, broken JSON) is read by `read_coco`, whole:
slower, and with more memory, but with the same result.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from vr1kit.formats.coco import choose_finder, complain_missing, find_coco_file, read_coco, read_coco_annotation, read_coco_folder
from vr1kit.formats.columns import ROWS, SCHEMA, Stream, pack_boxes, stream_set
from vr1kit.formats.json_arrays import Irregular, read_arrays
from vr1kit.records import MAX_SIDE, BadRecord, DataError, Faults, check_boxes_xywh, check_size, shorten


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: int
    height: int


class _Annotation(msgspec.Struct, gc=False):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int | bool | None = 0


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


PARTS = {"images": list[_Image], "annotations": list[_Annotation], "categories": list[_Category]}
DECODERS = {key: msgspec.json.Decoder(kind) for key, kind in PARTS.items()}
BOX = np.dtype([("number", "<i8"), ("id", "<i8"), ("picture", "<i8"), ("category", "<i8"), ("xywh", "<f8", (4,))])
ID = np.dtype([("number", "<i8"), ("id", "<i8")])
ID_PARTS = 16  # in which ids are compared; ours: 3 MB each for four times COCO


def stream_coco(
    annotations: str | os.PathLike,
    images: str | os.PathLike | None = None,
    name: str | None = None,
    on_error: str = "fail",
    require_pictures: bool = False,
) -> Stream:
    """As `read_coco`, with the same errors; those of boxes come while the batches are read."""
    path = Path(annotations)
    find = choose_finder(path, images, require_pictures)
    faults = Faults(path, on_error)
    try:
        return _Reader(path, lambda _: find, name or path.parent.name, faults).to_stream()
    except (Irregular, OSError):
        return stream_set(read_coco(path, images, name, on_error, require_pictures))


def stream_coco_folder(
    folder: str | os.PathLike,
    split: str | None = None,
    on_error: str = "fail",
    images: str | os.PathLike | None = None,
    name: str | None = None,
) -> Stream:
    """As `read_coco_folder`, with the same errors; those of boxes come while the batches are read."""
    path, choose = find_coco_file(Path(folder), split, images)
    faults = Faults(path, on_error)
    try:
        return _Reader(path, choose, name or Path(folder).resolve().name, faults).to_stream()
    except (Irregular, OSError):
        return stream_set(read_coco_folder(folder, split, on_error, images, name))


class _Reader:
    """One pass over the file; then one batch after the other."""

    def __init__(self, path: Path, choose: Callable[[list[Any]], Callable[[Any], str]], name: str, faults: Faults):
        self.path, self.choose, self.name, self.faults = path, choose, name, faults
        self.find: Callable[[Any], str] | None = None
        self.names: dict[int, str] = {}
        self.reasons: dict[int, str] = {}  # place of a picture that is left out -> why
        self.number = 0  # of the last annotation

    def to_stream(self) -> Stream:
        self.spill = tempfile.TemporaryDirectory(prefix="vr1kit_")
        try:
            return self._read()
        except BaseException:
            self.spill.cleanup()
            raise

    def _read(self) -> Stream:
        late = False  # boxes before pictures: a second pass
        parts: dict[str, list] = {key: [] for key in ("files", "ids", "sizes")}
        seen = set()
        for key, entries in read_arrays(self.path, DECODERS):
            seen.add(key)
            if key == "images":
                self._add_images(entries, parts)
            elif key == "categories":
                self._add_categories(entries)
            elif "images" not in seen:
                late = True
            else:
                if not hasattr(self, "ids"):
                    self._index(parts)
                self._add_boxes(entries)
        if missing := [key for key in PARTS if key not in seen]:
            raise complain_missing(self.path, missing[0])
        if not hasattr(self, "ids"):
            self._index(parts)
        if late:
            for key, entries in read_arrays(self.path, DECODERS):
                if key == "annotations":
                    self._add_boxes(entries)
        if len(set(self.names.values())) < len(self.names):
            raise Irregular("two categories of one name")
        self._codes = np.sort(np.fromiter(self.names, np.int64, len(self.names)))
        self._labels = pa.array([self.names[i] for i in self._codes.tolist()], pa.string())
        categories = {self.names[i]: i for i in self._codes.tolist()}
        return Stream(self.name, self.path, categories, self._make_batches(), self.faults)

    # pictures
    def _add_images(self, entries: list[_Image], parts: dict[str, list]) -> None:
        if self.find is None:
            self.find = self.choose([entry.file_name for entry in entries])
        files = []
        first = sum(map(len, parts["ids"]))
        try:
            ids, sizes = _gather(entries, "id"), np.column_stack([_gather(entries, "width"), _gather(entries, "height")])
        except OverflowError:
            raise Irregular("a number of more than 64 bits") from None
        good = ((sizes > 0) & (sizes <= MAX_SIDE)).all(axis=1).tolist()
        for place, entry in enumerate(entries):
            try:
                if not good[place]:
                    check_size(entry.width, entry.height)
                files.append(self.find(entry.file_name))
            except BadRecord as error:
                known = error.reason == "known_absent"
                self.reasons[first + place] = error.reason if known else self.faults.check(error, f"image {entry.id}")
                files.append("")
        parts["files"].append(pa.array(files, pa.string()))
        parts["ids"].append(ids)
        parts["sizes"].append(sizes.clip(0, MAX_SIDE).astype(np.int32))

    def _index(self, parts: dict[str, list]) -> None:
        self.files = pa.chunked_array(parts["files"], pa.string())
        self.ids = np.concatenate([np.zeros(0, np.int64), *parts["ids"]])
        self.sizes = np.concatenate([np.zeros((0, 2), np.int32), *parts["sizes"]])  # (N, 2)
        self.order = np.argsort(self.ids, kind="stable").astype(np.int32)
        self.sorted = self.ids[self.order]
        if (self.sorted[1:] == self.sorted[:-1]).any():
            raise Irregular("two pictures of one id")
        self.ignored = np.zeros(len(self.ids), np.int32)
        self.spilled = [Path(self.spill.name) / f"{k}" for k in range(-(-len(self.ids) // ROWS))]

    def _add_categories(self, entries: list[_Category]) -> None:
        for entry in entries:
            if entry.id in self.names:
                raise Irregular("two categories of one id")
            self.names[entry.id] = entry.name

    # boxes
    def _add_boxes(self, entries: list[_Annotation]) -> None:
        n, first = len(entries), self.number
        self.number += n
        if not n:
            return
        rows = np.empty(n, BOX)
        try:
            rows["number"] = np.arange(first + 1, first + n + 1)
            rows["id"] = _gather(entries, "id")
            rows["category"] = _gather(entries, "category_id")
            image_ids = _gather(entries, "image_id")
        except OverflowError:
            raise Irregular("a number of more than 64 bits") from None
        rows["xywh"] = np.fromiter(itertools.chain.from_iterable(map(attrgetter("bbox"), entries)), float, 4 * n).reshape(n, 4)
        crowd = np.fromiter(map(bool, map(attrgetter("iscrowd"), entries)), bool, n)
        places = np.searchsorted(self.sorted, image_ids).clip(max=max(len(self.sorted) - 1, 0))
        known = self.sorted[places] == image_ids if len(self.sorted) else np.zeros(n, bool)
        for k in np.flatnonzero(~known):
            what = f"names an unknown image, {shorten(int(image_ids[k]))}; check the file's ids"
            self.faults.take(BadRecord("unknown_picture", what), f"annotation {rows['id'][k]}")
        rows["picture"][known] = self.order[places[known]]
        np.add.at(self.ignored, rows["picture"][known & crowd], 1)
        self._spill(rows[known & ~crowd])

    def _spill(self, rows: np.ndarray) -> None:
        for batch, part in _group(rows, rows["picture"] // ROWS):
            with open(self.spilled[batch], "ab") as file:
                file.write(part.tobytes())
        ids = np.empty(len(rows), ID)
        ids["number"], ids["id"] = rows["number"], rows["id"]
        for number, part in _group(ids, rows["id"] % ID_PARTS):
            with open(self._name_ids(number), "ab") as file:
                file.write(part.tobytes())

    # batches
    def _make_batches(self) -> Iterator[pa.RecordBatch]:
        with self.spill:
            doubles = self._find_doubles()
            for k, path in enumerate(self.spilled):
                rows = np.fromfile(path, BOX) if path.exists() else np.zeros(0, BOX)
                path.unlink(missing_ok=True)
                first, last = k * ROWS, min((k + 1) * ROWS, len(self.ids))
                order = np.argsort((rows["picture"] - first).astype(np.uint16), kind="stable")  # 16 bits: radix sort
                batch = self._make_batch(rows[order], first, last, doubles)
                if batch.num_rows:
                    yield batch
            for reason in self.reasons.values():
                self.faults.count(reason)
        if len(self.reasons) == len(self.ids):
            self.faults.to_set(self.name, [], {})  # says why nothing is left

    def _find_doubles(self) -> np.ndarray:
        """Numbers of annotations whose id an earlier one has. Ids are compared in parts, one in memory at a time."""
        found = [np.zeros(0, np.int64)]
        for path in (self._name_ids(part) for part in range(ID_PARTS)):
            rows = np.fromfile(path, ID) if path.exists() else np.zeros(0, ID)
            rows = rows[np.argsort(rows["id"], kind="stable")]
            found.append(rows["number"][1:][rows["id"][1:] == rows["id"][:-1]])
        return np.concatenate(found)

    def _name_ids(self, part: int) -> Path:
        return Path(self.spill.name) / f"ids{part}"

    def _make_batch(self, rows: np.ndarray, first: int, last: int, doubles: np.ndarray) -> pa.RecordBatch:
        places, sizes = rows["picture"], self.sizes[rows["picture"]]
        codes = np.searchsorted(self._codes, rows["category"]).clip(max=max(len(self._codes) - 1, 0))
        known = self._codes[codes] == rows["category"] if len(self._codes) else np.zeros(len(rows), bool)
        boxes, good, clipped = check_boxes_xywh(rows["xywh"], sizes)
        good &= known
        if len(doubles):
            good &= ~np.isin(rows["number"], doubles)
        left_out = np.zeros(last - first, bool)
        for place in range(first, last) if self.reasons else ():
            left_out[place - first] = place in self.reasons
        for k in np.flatnonzero(~good & ~left_out[places - first]):
            place = int(places[k])
            if place not in self.reasons:
                self.reasons[place] = self._name_fault(rows[k], sizes[k], doubles)
                left_out[place - first] = True
        keep = ~left_out[places - first]
        self.faults.clipped += int((clipped & keep).sum())
        counts = np.bincount(places[keep] - first, minlength=last - first)[~left_out]
        rows_kept = np.flatnonzero(~left_out) + first
        labels = pa.DictionaryArray.from_arrays(pa.array(codes[keep], pa.int32()), self._labels).cast(pa.string())
        offsets = np.concatenate([[0], np.cumsum(counts)])
        n = len(rows_kept)
        columns = {
            "image_path": self.files.slice(first, last - first).filter(pa.array(~left_out)).combine_chunks(),
            "image_id": pa.array(self.ids[rows_kept]).cast(pa.string()),
            "width": pa.array(self.sizes[rows_kept, 0]), "height": pa.array(self.sizes[rows_kept, 1]),
            "boxes_xyxy_px": pack_boxes(boxes[keep], offsets), "labels": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), labels),
            "source": pa.repeat(self.name, n), "ignored": pa.array(self.ignored[rows_kept]),
            "truncated": pa.array(np.zeros(n, np.int32)), "prompt": pa.nulls(n, pa.string()),
        }  # fmt: skip
        return pa.RecordBatch.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    def _name_fault(self, row: np.ndarray, size: np.ndarray, doubles: np.ndarray) -> str:
        """The reason; raises under "fail"."""
        box = [int(v) if v.is_integer() else v for v in row["xywh"].tolist()]
        entry = {"id": int(row["id"]), "category_id": int(row["category"]), "bbox": box}
        seen = {entry["id"]} if row["number"] in doubles else set()
        try:
            read_coco_annotation(entry, (int(size[0]), int(size[1])), self.names, seen)
        except BadRecord as error:
            return self.faults.check(error, f"annotation {entry['id']}")
        raise DataError(f"{self.path}: annotation {entry['id']} is found bad and good; please report this")


def _gather(entries: list[Any], field: str) -> np.ndarray:
    return np.fromiter(map(attrgetter(field), entries), np.int64, len(entries))


def _group(rows: np.ndarray, keys: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(key, its rows in their order) of each key that occurs."""
    order = np.argsort(keys.astype(np.uint16) if keys.max(initial=0) < 2**16 else keys, kind="stable")  # 16 bits: radix sort
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for start, part in zip(starts, np.split(rows[order], starts[1:]) if len(rows) else (), strict=True):
        yield int(keys[order[start]]), part
