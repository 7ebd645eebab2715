"""Curated sets on disk: parquet shards, what `datasets` saves, a repository on the hub; and the way back.

One row is one example: the columns of `vr1kit.formats.columns`, with the question in `prompt`, and `task` (detection, grounding, published).
Shards are written while rows come, in `data/train-00000-of-00003.parquet`, so that the hub and `datasets` recognise them; they are
read a batch at a time. Paths are relative to the folder of the pictures. For publishing, pictures may be put inside: a column
`image`, as `datasets.Image` has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from vr1kit.data import Example
from vr1kit.formats.columns import ROWS, SCHEMA, Stream, iterate_batches, to_batch, to_records
from vr1kit.formats.images import open_image
from vr1kit.records import BadRecord, DataError, DetectionSet, Faults

if TYPE_CHECKING:
    from datasets import Dataset

CURATED = SCHEMA.append(pa.field("task", pa.string()))
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # datasets.Image
REPEATED = ["labels.list.element", "source", "prompt", "task"]  # worth a dictionary; the others would be tried in vain
SHARD_ROWS = 16 * ROWS  # ours: some tens of megabytes without pictures
EMBEDDED_ROWS = 2048  # with pictures inside; ours: some hundred megabytes


def to_curated(examples: Sequence[Example], root: str | os.PathLike | None = None) -> pa.RecordBatch:
    """Examples as a batch of CURATED; paths relative to `root` if it is given."""
    records = [replace(e.record, boxes_xyxy_px=e.boxes_xyxy_px, labels=e.labels, prompt=e.prompt) for e in examples]
    batch = to_batch(records, root)
    return pa.RecordBatch.from_arrays([*batch.columns, pa.array([e.task for e in examples], pa.string())], schema=CURATED)


def to_examples(batch: pa.RecordBatch, root: str | os.PathLike | None = None) -> list[Example]:
    """The examples of a batch of CURATED; `root` is put before relative paths."""
    tasks = batch.column("task").to_pylist()
    return [Example(r, task, r.prompt, r.boxes_xyxy_px, r.labels) for r, task in zip(to_records(batch, root), tasks, strict=True)]


# --- parquet ----------------------------------------------------------------------------------------------------------------
def write_shards(
    batches: Iterable[pa.RecordBatch], folder: str | os.PathLike, shard_rows: int = SHARD_ROWS, split: str = "train"
) -> list[Path]:
    """Write batches to folder/data, `shard_rows` a file. Row groups are of ROWS rows however the rows came, so that equal rows are equal
    files. Shards of an earlier set of this split are removed. Raises DataError if there are no rows.
    """
    place = Path(folder) / "data"
    place.mkdir(parents=True, exist_ok=True)
    for old in [*place.glob(f"{split}-*.parquet"), *place.glob(f".{split}-*.parquet")]:
        old.unlink()
    parts: list[Path] = []
    writer, rows = None, 0
    for batch in cut_batches(batches, min(ROWS, shard_rows)):
        if writer is None or rows + batch.num_rows > shard_rows:
            if writer:
                writer.close()
            parts.append(place / f".{split}-{len(parts):05}.parquet")
            writer, rows = pq.ParquetWriter(parts[-1], batch.schema, compression="zstd", use_dictionary=REPEATED), 0
        writer.write_batch(batch)
        rows += batch.num_rows
    if writer is None:
        raise DataError(f"{folder}: the curated set is empty; loosen the filters, or give more pictures")
    writer.close()
    final = [place / f"{split}-{k:05}-of-{len(parts):05}.parquet" for k in range(len(parts))]
    for part, path in zip(parts, final, strict=True):
        part.rename(path)
    return final


def cut_batches(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `rows`; the last may be smaller."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        while batch.num_rows:
            piece = batch.slice(0, rows - sum(each.num_rows for each in held))
            batch = batch.slice(piece.num_rows)
            held.append(piece)
            if sum(each.num_rows for each in held) == rows:
                yield pa.concat_batches(held) if len(held) > 1 else piece
                held = []
    if held:
        yield pa.concat_batches(held)


def list_shards(folder: str | os.PathLike, split: str = "train") -> list[Path]:
    """The shards of a curated set. Raises DataError where there are none, or some are missing."""
    found = sorted((Path(folder) / "data").glob(f"{split}-*-of-*.parquet"))
    if not found:
        raise DataError(f"{folder}: no curated set; looked for data/{split}-*-of-*.parquet, as `vr1kit curate` writes them")
    if len(found) != int(found[0].stem.rsplit("-", 1)[1]):
        raise DataError(f"{folder}: {len(found)} shards are there, {found[0].name} tells of another number; copy all of them")
    return found


def read_shards(folder: str | os.PathLike, split: str = "train", rows: int = ROWS) -> Iterator[pa.RecordBatch]:
    """The rows of a curated set in batches, never all in memory. Raises DataError."""
    for path in list_shards(folder, split):
        try:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(batch_size=rows)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read ({error}); copy the file again") from None


def stream_examples(folder: str | os.PathLike, root: str | os.PathLike | None = None, split: str = "train") -> Iterator[Example]:
    """The examples of a curated set one by one, for sets that are larger than memory."""
    for batch in read_shards(folder, split):
        yield from to_examples(batch, root)


# --- datasets ---------------------------------------------------------------------------------------------------------------
def to_hub_dataset(data: DetectionSet | Sequence[Example], root: str | os.PathLike | None = None) -> Dataset:
    """Records or examples as a `datasets.Dataset` of the schema's columns; pictures by path."""
    from datasets import Dataset

    if isinstance(data, DetectionSet):
        batches = (
            iterate_batches(data.records)
            if root is None
            else (to_batch(data.records[s : s + ROWS], root) for s in range(0, len(data.records), ROWS))
        )
        return Dataset(pa.Table.from_batches(batches, SCHEMA))
    return Dataset(pa.Table.from_batches([to_curated(data, root)]))


def from_hub_dataset(dataset: Dataset, root: str | os.PathLike | None = None, name: str = "dataset") -> Stream:
    """A `datasets.Dataset` with the schema's columns as a stream. Categories are its labels, sorted, counted from 1. DataError."""
    columns = [name for name in CURATED.names if name in dataset.column_names]
    if missing := [each for each in SCHEMA.names if each not in columns]:
        raise DataError(f"{name}: the dataset lacks the columns {', '.join(missing)}; see vr1kit.formats.columns")
    table = dataset.select_columns(columns).with_format("arrow")
    labels: set[str] = set()
    for rows in table.select_columns(["labels"]).iter(ROWS):
        labels.update(pyarrow.compute.unique(rows.column("labels").combine_chunks().flatten()).to_pylist())
    batches = (
        batch.cast(pa.schema([CURATED.field(c) for c in columns]))
        for rows in table.iter(ROWS)
        for batch in rows.combine_chunks().to_batches()
    )
    if root is not None:
        batches = (to_batch(to_records(batch, root)) for batch in batches)
    categories = {label: i for i, label in enumerate(sorted(labels), 1)}
    return Stream(name, Path(name), categories, batches, Faults(Path(name), "skip"))


def save_for_datasets(folder: str | os.PathLike, to: str | os.PathLike, split: str = "train") -> Path:
    """A curated set as `datasets.load_from_disk` opens it: Arrow, memory-mapped."""
    import tempfile

    from datasets import Dataset

    with tempfile.TemporaryDirectory() as cache:
        Dataset.from_parquet([str(path) for path in list_shards(folder, split)], cache_dir=cache).save_to_disk(str(to))
    return Path(to)


# --- publishing -------------------------------------------------------------------------------------------------------------
def embed_pictures(batch: pa.RecordBatch, root: str | os.PathLike) -> pa.RecordBatch:
    """The batch with a column `image`: each picture's bytes, as they are. Raises BadRecord for what cannot be decoded."""
    cells = []
    for name in batch.column("image_path").to_pylist():
        path = Path(root) / name
        try:
            with open_image(path):
                cells.append({"bytes": path.read_bytes(), "path": Path(name).name})
        except BadRecord as error:
            raise error.at(path, "the picture") from None
    features = batch.schema.append(pa.field("image", IMAGE))
    return pa.RecordBatch.from_arrays([*batch.columns, pa.array(cells, IMAGE)], schema=_tell_datasets(features))


def _tell_datasets(schema: pa.Schema) -> pa.Schema:
    """The schema with the note by which `datasets` and the hub's viewer know a column of pictures."""
    from datasets import Features, Image

    return schema.with_metadata(Features({**Features.from_arrow_schema(schema), "image": Image()}).arrow_schema.metadata)


def embed_set(folder: str | os.PathLike, root: str | os.PathLike, to: str | os.PathLike, split: str = "train") -> list[Path]:
    """Write a curated set anew with its pictures inside."""
    return write_shards((embed_pictures(batch, root) for batch in read_shards(folder, split, 64)), to, EMBEDDED_ROWS, split)


def push(folder: str | os.PathLike, repository: str, private: bool = True, api: Any = None) -> str:
    """Upload a curated set's folder (shards, card, contact sheet) to a dataset repository. Returns its address.

    `api` is a `huggingface_hub.HfApi`, by default with the stored login. Private unless said otherwise.
    """
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    list_shards(folder)
    api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
    allowed = ["README.md", "*.json", "*.png", "data/*.parquet"]
    api.upload_folder(repo_id=repository, repo_type="dataset", folder_path=str(folder), allow_patterns=allowed)
    return f"https://huggingface.co/datasets/{repository}"
