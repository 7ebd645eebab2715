"""Records and columns: there and back without a loss, in memory, on disk, and through `datasets`."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vr1kit.formats.columns import (
    SCHEMA,
    RecordTable,
    iterate_batches,
    stream_set,
    strip_root,
    to_batch,
    to_records,
    unpack_boxes,
    unpack_labels,
    write_stream,
)
from vr1kit.records import DataError, DetectionSet, Faults, Record


def record(image_id, n=2, **changes):
    boxes = np.asarray([[10.0 * i + 0.1, 0, 10.0 * i + 8, 9] for i in range(n)]).reshape(-1, 4)
    return Record(
        Path(f"set/{image_id}.png"), image_id, 400, 50, boxes, ("cat", "dög")[:n] + ("cat",) * (n - 2), "set", **changes
    )


def plain(records):
    return [(r.image_path, r.image_id, r.width, r.height, r.boxes_xyxy_px.tolist(), r.labels, r.source, r.ignored, r.truncated, r.prompt)
            for r in records]  # fmt: skip


RECORDS = [record(7), record("7", 0), record(3, 12, ignored=2, truncated=1, prompt="Where?")]
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def test_records_come_back_as_they_were():
    batch = to_batch(RECORDS)
    assert batch.schema == SCHEMA and plain(to_records(batch)) == plain(RECORDS)
    assert plain(to_records(to_batch([]))) == []
    assert plain(to_records(batch.slice(1, 2))) == plain(RECORDS[1:])  # offsets that do not begin at 0


@settings(max_examples=50, deadline=None)
@given(boxes=st.lists(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=4), max_size=5), cut=st.integers(0, 5))
def test_boxes_keep_every_bit(boxes, cut):
    records = [
        Record(Path("a"), i, 1, 1, np.asarray(each, float).reshape(-1, 4), ("x",) * len(each), "s")
        for i, each in enumerate(boxes)
    ]
    batch = to_batch(records).slice(cut)
    flat, offsets = unpack_boxes(batch)
    assert offsets[0] == 0 and len(flat) == offsets[-1]
    for k, each in enumerate(records[cut:]):
        assert flat[offsets[k] : offsets[k + 1]].tobytes() == each.boxes_xyxy_px.tobytes()


def test_labels_are_numbered_within_a_batch():
    codes, names = unpack_labels(to_batch(RECORDS))
    assert [names[code] for code in codes] == ["cat", "dög", "cat", "dög", *["cat"] * 10]


def test_paths_may_be_relative_to_a_folder():
    batch = to_batch(RECORDS[:1], "set")
    assert batch.column("image_path").to_pylist() == ["7.png"]
    assert to_records(batch, "set")[0].image_path == RECORDS[0].image_path
    with pytest.raises(DataError, match="set/7.png: the picture is not below elsewhere; name a folder"):
        to_batch(RECORDS[:1], "elsewhere")


def test_roots_are_taken_off_however_they_are_spelled():
    for root in ("a/b", "a/b/", "./a/b", Path("a/b")):
        assert strip_root("a/b/c.png", root) == "c.png" and strip_root("a/bc.png", root) == "a/bc.png"
    for root in (None, ".", ""):
        assert strip_root("a/b", root) == "a/b"
    assert strip_root("/a", "/") == "a"


def make_set(n):
    return DetectionSet(
        "set", Path("x.json"), tuple(record(k, k % 4) for k in range(n)), {"cat": 1, "dög": 2}, skipped={"absent": 2}, clipped=3
    )


def test_a_set_on_disk_is_the_set(tmp_path, monkeypatch):
    monkeypatch.setattr("vr1kit.formats.columns.ROWS", 3)
    data = make_set(10)
    stored = write_stream(stream_set(data), tmp_path / "a" / "set.arrow")
    assert isinstance(stored.records, RecordTable) and len(stored.records) == 10
    assert plain(stored.records) == plain(data.records)
    assert plain([stored.records[-1], stored.records[4]]) == plain([data.records[-1], data.records[4]])
    assert plain(stored.records[2:9:3]) == plain(data.records[2:9:3]) and plain(stored.records[5:]) == plain(data.records[5:])
    assert (stored.categories, stored.skipped, stored.clipped) == (data.categories, data.skipped, data.clipped)
    assert [batch.num_rows for batch in iterate_batches(data.records)] == [3, 3, 3, 1]
    with pytest.raises(IndexError):
        stored.records[10]


def test_an_empty_stream_is_refused(tmp_path):
    empty = stream_set(make_set(0))
    empty.faults = Faults(Path("x.json"), "skip")
    with pytest.raises(DataError, match="the set is empty, it has no pictures"):
        empty.to_set()
