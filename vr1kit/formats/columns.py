"""Records as columns: the one schema in Arrow, for sets of any size, and back.

| column | type | what |
|---|---|---|
| image_path | string | the picture's file; relative to a folder where one was named, else as the reader was given it |
| image_id | string | the set's own id as JSON, so that 7 and "7" stay apart |
| width, height | int32 | px, of the picture as it is stored |
| boxes_xyxy_px | list of 4 float64 | corners in px of the stored picture; right and bottom edges exclusive |
| labels | list of string | one a box |
| source | string | the set's name |
| ignored, truncated | int32 | as in `Record` |
| prompt | string or null | the question |

Large sets travel as a `Stream` of record batches, `ROWS` pictures each, and are never whole in memory. What is not in the columns, such
as the category list, is in `Stream` and `DetectionSet`, and travels as JSON (`describe_set`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vr1kit.records import DataError, DetectionSet, Faults, Record

ROWS = 4096  # pictures in a batch; ours: some megabytes
BOXES = pa.list_(pa.list_(pa.float64(), 4))
SCHEMA = pa.schema(
    [
        ("image_path", pa.string()), ("image_id", pa.string()), ("width", pa.int32()), ("height", pa.int32()),
        ("boxes_xyxy_px", BOXES), ("labels", pa.list_(pa.string())), ("source", pa.string()),
        ("ignored", pa.int32()), ("truncated", pa.int32()), ("prompt", pa.string()),
    ]
)  # fmt: skip


@dataclass
class Stream:
    """A set that is read while it is used: as `DetectionSet`, but for `batches`, which can be gone through once.

    `faults` has its counts when the last batch has been read.
    """

    name: str
    annotations: Path
    categories: Mapping[str, int]
    batches: Iterator[pa.RecordBatch]
    faults: Faults
    phrases: bool = False

    def to_set(self) -> DetectionSet:
        """All of it, in memory. Raises DataError where nothing is left."""
        records = [record for batch in self.batches for record in to_records(batch)]
        return self.faults.to_set(self.name, records, self.categories, self.phrases, self.annotations)


def stream_set(data: DetectionSet) -> Stream:
    """A set that is in memory already, as a stream."""
    faults = Faults(data.annotations, "skip")
    faults.skipped.update(data.skipped)
    faults.clipped = data.clipped
    starts = range(0, len(data.records), ROWS)
    batches = (to_batch(data.records[start : start + ROWS]) for start in starts)
    return Stream(data.name, data.annotations, data.categories, batches, faults, data.phrases)


# --- records and batches --------------------------------------------------------------------------------------------------
def to_batch(records: Sequence[Record], root: str | os.PathLike | None = None) -> pa.RecordBatch:
    """Records as a batch of SCHEMA; paths relative to `root` if it is given. Raises DataError for pictures outside of it."""
    boxes = np.concatenate([np.zeros((0, 4)), *(r.boxes_xyxy_px for r in records)])
    columns = {
        "image_path": [_relative(r.image_path, root) for r in records],
        "image_id": [json.dumps(r.image_id) for r in records],
        "boxes_xyxy_px": pack_boxes(boxes, np.cumsum([0, *(len(r.labels) for r in records)])),
        **{key: [getattr(r, key) for r in records] for key in ("width", "height", "source", "ignored", "truncated", "prompt")},
        "labels": [list(r.labels) for r in records],
    }
    arrays = [columns[f.name] if isinstance(columns[f.name], pa.Array) else pa.array(columns[f.name], f.type) for f in SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _relative(path: Path, root: str | os.PathLike | None) -> str:
    if root is None:
        return str(path)
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        raise DataError(f"{path}: the picture is not below {root}; name a folder that holds all pictures") from None


def strip_root(path: str, root: str | os.PathLike | None) -> str:
    """The text of a path below `root` as relative to it; any other path as it is."""
    return path if root is None or Path(root) == Path() else path.removeprefix(str(Path(root)).rstrip(os.sep) + os.sep)


def to_records(batch: pa.RecordBatch, root: str | os.PathLike | None = None) -> list[Record]:
    """The records of a batch; `root` is put before relative paths."""
    cells = {name: batch.column(name).to_pylist() for name in SCHEMA.names if name not in ("boxes_xyxy_px",)}
    boxes, offsets = unpack_boxes(batch)
    folder = Path(root) if root is not None else Path()
    return [
        Record(
            folder / cells["image_path"][k], json.loads(cells["image_id"][k]), cells["width"][k], cells["height"][k],
            boxes[offsets[k] : offsets[k + 1]], tuple(cells["labels"][k]), cells["source"][k], cells["ignored"][k],
            cells["truncated"][k], cells["prompt"][k],
        )
        for k in range(batch.num_rows)
    ]  # fmt: skip


def pack_boxes(boxes_xyxy_px: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """(M, 4) boxes and (N + 1,) offsets as a column of N lists."""
    flat = pa.FixedSizeListArray.from_arrays(pa.array(boxes_xyxy_px.reshape(-1), pa.float64()), 4)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def unpack_boxes(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """(boxes (M, 4) in px, offsets (N + 1,)): record k has boxes offsets[k] to offsets[k + 1]."""
    column = batch.column("boxes_xyxy_px")
    offsets = np.asarray(column.offsets)
    boxes = np.asarray(column.flatten().flatten()).reshape(-1, 4)
    return boxes, offsets - offsets[0]


def unpack_labels(batch: pa.RecordBatch) -> tuple[np.ndarray, list[str]]:
    """(code of each box's label (M,), the labels that codes stand for)."""
    column = batch.column("labels").flatten().dictionary_encode()
    return np.asarray(column.indices), column.dictionary.to_pylist()


# --- what is not in the columns ---------------------------------------------------------------------------------------------
def describe_set(data: DetectionSet | Stream) -> dict[str, Any]:
    """Name, category list and counts, for JSON."""
    counts = data if isinstance(data, DetectionSet) else data.faults
    return {
        "name": data.name, "annotations": data.annotations.name, "categories": dict(data.categories), "phrases": data.phrases,
        "skipped": dict(sorted(counts.skipped.items())), "clipped": counts.clipped,
    }  # fmt: skip


class RecordTable(Sequence):
    """Records in an Arrow file, memory-mapped: each is made when it is asked for."""

    def __init__(self, table: pa.Table, root: str | os.PathLike | None = None):
        self.table, self.root = table, root

    @classmethod
    def open(cls, path: str | os.PathLike, root: str | os.PathLike | None = None) -> RecordTable:
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all(), root)

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            rows = self.table.slice(start, stop - start) if step == 1 else self.table.take(list(range(start, stop, step)))
            return [record for batch in rows.to_batches() for record in to_records(batch, self.root)]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self[index % len(self) : index % len(self) + 1][0]

    def __iter__(self) -> Iterator[Record]:
        return (record for batch in self.to_batches() for record in to_records(batch, self.root))

    def to_batches(self) -> Iterator[pa.RecordBatch]:
        return iter(self.table.to_batches(max_chunksize=ROWS))


def iterate_batches(records: Sequence[Record]) -> Iterator[pa.RecordBatch]:
    """Records in memory or in a table, ROWS at a time."""
    if isinstance(records, RecordTable):
        return records.to_batches()
    return (to_batch(records[start : start + ROWS]) for start in range(0, len(records), ROWS))


def write_stream(stream: Stream, path: str | os.PathLike) -> DetectionSet:
    """Write a stream to an Arrow file and open it memory-mapped: as `Stream.to_set`, with records on disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, SCHEMA) as writer:
        for batch in stream.batches:
            writer.write_batch(batch)
    return stream.faults.to_set(stream.name, RecordTable.open(path), stream.categories, stream.phrases, stream.annotations)
