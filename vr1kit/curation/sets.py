"""Curated sets on disk: records in, filtered, prompted and saved, with a card beside them.

    curate_stream(open_stream("coco", "train2017"), "curated")                     # all that passes the filters, in file order
    curate_mix({"coco": ..., "refcoco": ...}, parts, "curated", seed=0)           # chosen by parts, shuffled: `data.curate`

`curate_stream` holds one batch at a time, whatever the size of the set. What it decides for a record depends on that record and the
settings alone, so that it gives the same shards, to the byte, in one process, several, or on Ray (`vr1kit.curation.engines`).
"""

from __future__ import annotations

import functools
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vr1kit.curation.cards import Statistics, write_card
from vr1kit.curation.engines import map_batches
from vr1kit.curation.shards import CURATED, SHARD_ROWS, cut_batches, to_curated, write_shards
from vr1kit.data import Part, ask, curate
from vr1kit.filters import Limits, judge
from vr1kit.formats.columns import ROWS, Stream, describe_set, pack_boxes, to_records, unpack_boxes
from vr1kit.prompts import ask_detection
from vr1kit.records import DataError, DetectionSet

JUDGED = CURATED.append(pa.field("reason", pa.string()))  # why it is left out, "" if it is not


@dataclass(frozen=True)
class Curation:
    """What is kept of a set and what is asked about it."""

    limits: Limits = Limits()
    task: str | None = None  # detection | grounding; None: grounding where labels are phrases
    seed: int = 0  # which phrase a picture is asked for
    negatives: bool = False  # keep pictures with nothing in them (and no crowd)


def curate_stream(
    stream: Stream,
    out: str | os.PathLike,
    curation: Curation = Curation(),
    root: str | os.PathLike | None = None,
    engine: str = "serial",
    processes: int = 1,
    shard_rows: int = SHARD_ROWS,
    exclude: Iterable[str] = (),
) -> Path:
    """Filter a set, ask about each picture, write shards and the card to `out`. Returns the path of the card.

    Pictures are named relative to `root` where it is given. `exclude` are names of pictures to leave out, as they stand in the shards:
    a leakage report's. Raises DataError where nothing is left, and where all objects of a set of phrases are asked for.
    """
    task = curation.task or ("grounding" if stream.phrases else "detection")
    if stream.phrases and task != "grounding":
        raise DataError(f"'{stream.name}' has phrases for some objects only, nobody can ask for all; curate it for grounding")
    function = functools.partial(judge_batch, curation=curation, task=task, phrases=stream.phrases, root=_text(root))
    statistics, dropped, hits, leaked = Statistics(), Counter(), Counter(), pa.array(sorted(exclude), pa.string())

    def keep() -> Iterator[pa.RecordBatch]:
        for batch in map_batches(stream.batches, function, engine, processes):
            if len(leaked):
                hit = pc.is_in(batch.column("image_path"), leaked)
                hits["leaked"] += pc.sum(hit).as_py() or 0
                reasons = pc.if_else(pc.and_(hit, pc.equal(batch.column("reason"), "")), "leaked", batch.column("reason"))
                batch = batch.set_column(len(CURATED), "reason", reasons)
            reasons = batch.column("reason")
            dropped.update({each["values"]: each["counts"] for each in pc.value_counts(reasons).to_pylist()})
            kept = batch.filter(pc.equal(reasons, "")).select(CURATED.names)
            if kept.num_rows:
                statistics.add(kept)
                yield kept

    prompt = ask_detection(list(stream.categories))
    write_shards((_fill_prompt(batch, prompt) for batch in cut_batches(keep(), ROWS)), out, shard_rows)
    if len(leaked) and not hits["leaked"]:
        what = f"'{stream.name}': none of the {len(leaked)} pictures to leave out is in it, such as {leaked[0]}"
        raise DataError(f"{what}; name the root that the report was made with")
    dropped.pop("", None)
    about = {"curation": asdict(curation), "task": task, "root": _text(root)}
    return write_card(out, statistics, about, [{**describe_set(stream), "dropped": dict(dropped)}], root)


def judge_batch(batch: pa.RecordBatch, curation: Curation, task: str, phrases: bool, root: str | None = None) -> pa.RecordBatch:
    """A batch of records as examples, with a reason for each that should be left out: `JUDGED`. Looks at each record alone.

    The question that asks for all categories is long and always the same: it is left null here, and filled in last.
    """
    reasons = judge(batch, curation.limits, phrases, curation.negatives and task == "detection")
    boxes, offsets = unpack_boxes(batch)
    asked = _ask_detection(batch, boxes, offsets) if task == "detection" else _ask_grounding(batch, curation.seed)
    asked = asked.set_column(0, "image_path", _shorten_paths(asked.column("image_path"), root))
    return pa.RecordBatch.from_arrays([*asked.columns, pa.array(reasons, pa.string())], schema=JUDGED)


def _fill_prompt(batch: pa.RecordBatch, prompt: str) -> pa.RecordBatch:
    prompts = pc.fill_null(batch.column("prompt"), prompt)
    return batch.set_column(batch.schema.get_field_index("prompt"), batch.schema.field("prompt"), prompts)


def _ask_detection(batch: pa.RecordBatch, boxes: np.ndarray, offsets: np.ndarray) -> pa.RecordBatch:
    """`data.ask` for a whole batch: all categories asked for, boxes from left to right; a published question stays."""
    places = np.arange(batch.num_rows, dtype=np.uint16 if batch.num_rows <= 2**16 else np.int64)  # 16 bits: radix sort
    owner = np.repeat(places, np.diff(offsets))
    order = np.lexsort((boxes[:, 1], boxes[:, 0], owner))  # as prompts.sort_left_to_right
    labels = batch.column("labels").flatten().take(pa.array(order))
    published = pc.is_valid(batch.column("prompt"))
    columns = {
        "boxes_xyxy_px": pack_boxes(boxes[order], offsets),
        "labels": pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), labels),
        "task": pc.if_else(published, "published", "detection").cast(pa.string()),
    }
    arrays = [columns[name] if name in columns else batch.column(name) for name in CURATED.names]
    return pa.RecordBatch.from_arrays(arrays, schema=CURATED)


def _ask_grounding(batch: pa.RecordBatch, seed: int) -> pa.RecordBatch:
    """One phrase of each picture, drawn from the seed and the picture's name: not from its place in the set."""
    examples = []
    for record in to_records(batch):
        key = f"{record.source}/{record.image_id!r}/{record.image_path.name}".encode()
        there = sorted(set(record.labels))
        phrase = there[int(np.random.default_rng([seed, zlib.crc32(key)]).integers(len(there)))] if there else None
        examples.append(ask(record, (), phrase))
    return to_curated(examples)


def _shorten_paths(paths: pa.StringArray, root: str | None) -> pa.StringArray:
    if root is None or root == "." or not len(paths):
        return paths
    prefix = root.rstrip(os.sep) + os.sep
    outside = pc.invert(pc.starts_with(paths, prefix))
    if pc.any(outside).as_py():
        raise DataError(f"{paths.filter(outside)[0]}: the picture is not below {root}; name a folder that holds all pictures")
    return pc.utf8_slice_codeunits(paths, len(prefix))


def _text(root: str | os.PathLike | None) -> str | None:
    return None if root is None else str(Path(root))


def curate_mix(
    sets: Mapping[str, DetectionSet],
    parts: Sequence[Part],
    out: str | os.PathLike,
    seed: int,
    limits: Limits | None = None,
    root: str | os.PathLike | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """`data.curate`, written as shards with a card. Returns the path of the card. Raises DataError as `curate` does."""
    examples, dropped = curate(sets, parts, seed, limits=limits)
    statistics = Statistics()

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(examples), ROWS):
            batch = to_curated(examples[start : start + ROWS], root)
            statistics.add(batch)
            yield batch

    write_shards(batches(), out)
    counts = {name: Counter(row["reason"] for row in dropped if row["source"] == name) for name in sets}
    sources = [{**describe_set(data), "name": name, "dropped": dict(counts[name])} for name, data in sets.items()]
    made = {**(about or {}), "seed": seed, "limits": asdict(limits or Limits()), "parts": [asdict(part) for part in parts]}
    return write_card(out, statistics, {**made, "root": _text(root)}, sources, root)
