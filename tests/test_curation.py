"""Curated sets: what `ask` would ask, the filters' reasons, and the same bytes from every engine."""

import functools
import importlib.util
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data import record, set_of

from vr1kit.curation import engines
from vr1kit.curation import sets as curation
from vr1kit.curation.sets import Curation, curate_mix, curate_stream, judge_batch
from vr1kit.curation.shards import list_shards, stream_examples
from vr1kit.data import Part, ask, curate
from vr1kit.filters import Limits, judge
from vr1kit.formats import columns
from vr1kit.formats.columns import stream_set, to_batch
from vr1kit.records import DataError, DetectionSet


def mixed_set(n=40, seed=0):
    """Boxes in any order, labels of two kinds, some pictures empty, some with a published question."""
    rng = np.random.default_rng(seed)
    records = []
    for k in range(n):
        low = rng.uniform(0, 40, (int(rng.integers(0, 5)), 2))
        boxes = np.hstack([low, low + rng.uniform(1, 9, low.shape)])
        labels = tuple(str(label) for label in rng.choice(["cat", "dog", "ape"], len(boxes)))
        prompt = "Where?" if k % 7 == 0 else None
        records.append(replace(record(k, 0), boxes_xyxy_px=boxes, labels=labels, prompt=prompt, ignored=int(k % 5 == 0)))
    return DetectionSet("set", Path("x.json"), tuple(records), {"cat": 1, "dog": 2, "ape": 3}, skipped={"absent": 4}, clipped=1)


def as_plain(e):
    return e.task, e.prompt, e.boxes_xyxy_px.tolist(), e.labels, e.record.image_id


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_is_asked_as_record_by_record(tmp_path, seed):
    data = mixed_set(seed=seed)
    judged = judge_batch(to_batch(data.records), Curation(), "detection", False)
    assert judged.column("prompt").to_pylist() == [r.prompt for r in data.records]
    curate_stream(stream_set(data), tmp_path, Curation(Limits(min_instances=0, min_side_px=0)))
    written = [as_plain(e) for e in stream_examples(tmp_path)]
    assert written == [as_plain(ask(r, list(data.categories))) for r in data.records]
    assert judged.column("reason").to_pylist() == [judge(to_batch([r]), Limits())[0] for r in data.records]


def test_what_is_left_out_is_counted_and_negatives_are_kept_where_asked_for(tmp_path):
    data = mixed_set()
    empty = [r for r in data.records if not r.labels]
    curate_stream(stream_set(data), tmp_path / "a", Curation(Limits(min_side_px=0)))
    card = json.loads((tmp_path / "a" / "card.json").read_text())
    (source,) = card["sources"]
    assert source["dropped"] == {"too few": len(empty)} and source["skipped"] == {"absent": 4} and source["clipped"] == 1
    assert card["curated"]["pictures"] == len(data.records) - len(empty) and card["curated"]["negatives"] == 0
    curate_stream(stream_set(data), tmp_path / "b", Curation(Limits(min_side_px=0), negatives=True))
    kept = [e.record.image_id for e in stream_examples(tmp_path / "b")]
    assert set(kept) == {r.image_id for r in data.records if r.labels or not r.ignored}
    assert kept == sorted(kept), "in the order of the file"


def test_the_cards_numbers_by_hand(tmp_path):
    data = set_of("a", [1, 12, 0, 3])
    curate_stream(stream_set(data), tmp_path, Curation(negatives=True))
    numbers = json.loads((tmp_path / "card.json").read_text())["curated"]
    assert (numbers["pictures"], numbers["boxes"], numbers["hard"], numbers["negatives"]) == (4, 16, 0.25, 0.25)
    assert numbers["instances"] == {"0": 1, "1": 1, "3": 1, "12": 1} and numbers["labels"] == {"cat": 16}
    assert numbers["box_side_px"]["boxes"][:4] == [0, 0, 16, 0]  # the square root of 8 x 9 is 8.5: from 8 to 16
    text = (tmp_path / "README.md").read_text()
    assert "4 pictures of the sample could not be opened" in text and "25.0% hard" in text


def test_names_from_files_do_not_break_the_card(tmp_path):
    data = set_of("a|b\n<script>", [2])
    curate_stream(stream_set(data), tmp_path)
    assert "<script>" not in (tmp_path / "README.md").read_text()


def test_phrases_are_drawn_by_picture_not_by_place(tmp_path):
    records = tuple(replace(record(k, 3, labels=["left cat", "dog", "red cat"])) for k in range(30))
    data = DetectionSet("ref", Path("x"), records, {}, phrases=True)
    curate_stream(stream_set(data), tmp_path / "a", Curation(seed=1))
    backwards = replace(data, records=records[::-1])
    curate_stream(stream_set(backwards), tmp_path / "b", Curation(seed=1))
    curate_stream(stream_set(data), tmp_path / "c", Curation(seed=2))
    asked = {each: {e.record.image_id: e.prompt for e in stream_examples(tmp_path / each)} for each in "abc"}
    assert asked["a"] == asked["b"] != asked["c"] and len(set(asked["a"].values())) == 3
    with pytest.raises(DataError, match="'ref' has phrases for some objects only"):
        curate_stream(stream_set(data), tmp_path / "d", Curation(task="detection"))


def test_pictures_outside_the_root_are_named(tmp_path):
    with pytest.raises(DataError, match="set/0.png: the picture is not below elsewhere"):
        curate_stream(stream_set(mixed_set()), tmp_path, root="elsewhere")


def test_pictures_to_leave_out_that_are_not_there_are_no_silent_success(tmp_path):
    curate_stream(stream_set(mixed_set()), tmp_path, root="set", exclude=["1.png"])
    assert 1 not in [e.record.image_id for e in stream_examples(tmp_path)]
    with pytest.raises(DataError, match="none of the 1 pictures to leave out is in it, such as set/1.png; name the root"):
        curate_stream(stream_set(mixed_set()), tmp_path, root="./set/", exclude=["set/1.png"])


ENGINES = [pytest.param("datasets", 1), pytest.param("datasets", 2, marks=pytest.mark.slow)]
ENGINES += [pytest.param("ray", 2, marks=[
    pytest.mark.slow, pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra 'ray'")
])]  # fmt: skip


@pytest.mark.parametrize(("engine", "processes"), ENGINES)
def test_every_engine_writes_the_same_bytes(tmp_path, monkeypatch, engine, processes):
    for module in (columns, engines):
        monkeypatch.setattr(module, "ROWS", 7)
    files = {}
    for name, options in (("serial", {}), (engine, {"engine": engine, "processes": processes})):
        curate_stream(
            stream_set(mixed_set(100)), tmp_path / name, Curation(Limits(min_side_px=0), seed=3), shard_rows=30, **options
        )
        files[name] = [path.read_bytes() for path in list_shards(tmp_path / name)]
        files[name].append((tmp_path / name / "card.json").read_bytes())
    assert files["serial"] == files[engine] and len(files["serial"]) > 2


def test_what_ray_is_given_reads_files_as_the_function_would_get_them(tmp_path):
    """The half of the Ray engine that needs no Ray: pickled, as it travels, and given names of files."""
    function = functools.partial(judge_batch, curation=Curation(), task="detection", phrases=False)
    records = mixed_set(20).records
    batches = [to_batch(records[:7]), to_batch(records[7:])]
    names = [str(tmp_path / f"{k}.parquet") for k in range(2)]
    for name, batch in zip(names, batches, strict=True):
        pq.write_table(pa.Table.from_batches([batch]), name)
    on_files = pickle.loads(pickle.dumps(engines._OnFiles(function)))
    assert on_files(pa.table({"file": names})).equals(pa.Table.from_batches(map(function, batches)))


def test_an_unknown_engine_and_an_absent_one(tmp_path):
    with pytest.raises(ValueError, match="engine must be one of serial, datasets, ray"):
        curate_stream(stream_set(mixed_set()), tmp_path, engine="spark")
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(DataError, match="the engine 'ray' needs Ray Data; install it"):
            curate_stream(stream_set(mixed_set()), tmp_path, engine="ray")


def test_a_mix_on_disk_is_what_curate_chooses(tmp_path):
    sets = {"a": set_of("a", [2] * 9), "b": set_of("b", [40, 3, 3])}
    parts = [Part("p", ("a", "b"), "detection", 4), Part("q", ("a",), "grounding", 2, negatives=0.5)]
    curate_mix(sets, parts, tmp_path, seed=5)
    chosen, _ = curate(sets, parts, seed=5)
    assert [as_plain(e) for e in stream_examples(tmp_path)] == [as_plain(e) for e in chosen]
    card = json.loads((tmp_path / "card.json").read_text())
    assert [source["dropped"] for source in card["sources"]] == [{}, {"too many": 1}]
    assert card["made"]["seed"] == 5 and [part["name"] for part in card["made"]["parts"]] == ["p", "q"]
    assert curation.JUDGED.names[-1] == "reason"
