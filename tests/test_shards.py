"""Shards, `datasets` and the hub: what is written comes back; equal rows are equal files; nothing half-written is read."""

import numpy as np
import pytest
from PIL import Image
from test_columns import RECORDS, make_set, plain

from vr1kit.curation import shards
from vr1kit.curation.shards import (
    embed_set,
    from_hub_dataset,
    list_shards,
    push,
    read_shards,
    save_for_datasets,
    stream_examples,
    to_curated,
    to_examples,
    to_hub_dataset,
    write_shards,
)
from vr1kit.data import ask
from vr1kit.formats.columns import to_batch
from vr1kit.formats.readers import open_dataset
from vr1kit.records import BadRecord, DataError


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def examples(n=7):
    return [ask(record, ["cat", "dög"]) for record in make_set(n).records]


def as_plain(found):
    return [(str(e.record.image_path), e.record.image_id, e.task, e.prompt, e.boxes_xyxy_px.tolist(), e.labels) for e in found]


def test_examples_come_back_from_shards(tmp_path):
    paths = write_shards([to_curated(examples(5)), to_curated(examples(2))], tmp_path, shard_rows=3)
    assert [path.name for path in paths] == [f"train-0000{k}-of-00003.parquet" for k in range(3)] and paths == list_shards(
        tmp_path
    )
    assert as_plain(stream_examples(tmp_path)) == as_plain([*examples(5), *examples(2)])
    assert as_plain(to_examples(to_curated(examples()))) == as_plain(examples())
    assert [batch.num_rows for batch in read_shards(tmp_path, rows=2)] == [2, 1, 2, 1, 1]


def test_equal_rows_are_equal_files_however_they_came(tmp_path):
    rows = to_curated(examples(11))
    cuts = {"whole": [rows], "one by one": [rows.slice(k, 1) for k in range(11)], "in two": [rows.slice(0, 4), rows.slice(4)]}
    files = {name: [path.read_bytes() for path in write_shards(batches, tmp_path / name, 4)] for name, batches in cuts.items()}
    assert files["whole"] == files["one by one"] == files["in two"] and len(files["whole"]) == 3


def test_a_second_writing_leaves_no_shard_of_the_first(tmp_path):
    write_shards([to_curated(examples(9))], tmp_path, 2)
    write_shards([to_curated(examples(3))], tmp_path, 2)
    assert len(list((tmp_path / "data").iterdir())) == 2


def test_shards_that_are_absent_incomplete_broken_or_empty(tmp_path):
    with pytest.raises(DataError, match="no curated set; looked for data/train"):
        list_shards(tmp_path)
    with pytest.raises(DataError, match="the curated set is empty; loosen the filters"):
        write_shards([], tmp_path)
    paths = write_shards([to_curated(examples(9))], tmp_path, 3)
    paths[1].write_bytes(b"PAR1no")
    with pytest.raises(DataError, match="train-00001-of-00003.parquet: cannot be read"):
        list(read_shards(tmp_path))
    paths[1].unlink()
    with pytest.raises(DataError, match="2 shards are there, train-00000-of-00003.parquet tells of another number"):
        list_shards(tmp_path)


def test_records_go_to_datasets_and_back(tmp_path):
    data = make_set(9)
    dataset = to_hub_dataset(data)
    assert dataset.num_rows == 9 and dataset[3]["boxes_xyxy_px"] == data.records[3].boxes_xyxy_px.tolist()
    dataset.save_to_disk(tmp_path / "saved")
    from datasets import load_from_disk

    back = from_hub_dataset(load_from_disk(tmp_path / "saved"), name="set").to_set()
    assert plain(back.records) == plain(data.records) and back.categories == {"cat": 1, "dög": 2}
    relative = to_hub_dataset(data, "set")
    assert relative[0]["image_path"] == "0.png"
    assert plain(from_hub_dataset(relative, "set").to_set().records) == plain(data.records)
    with pytest.raises(DataError, match="the dataset lacks the columns image_path"):
        from_hub_dataset(dataset.remove_columns(["image_path"]))


def test_shards_are_saved_for_datasets(tmp_path):
    from datasets import load_from_disk

    write_shards([to_curated(examples())], tmp_path / "cur", 3)
    dataset = load_from_disk(save_for_datasets(tmp_path / "cur", tmp_path / "saved"))
    assert dataset["prompt"][:] == [e.prompt for e in examples()] and dataset[1]["task"] == "detection"


def draw(folder):
    (folder / "set").mkdir(parents=True)
    for k in range(4):
        Image.fromarray(np.full((50, 400, 3), 40 * k, np.uint8)).save(folder / "set" / f"{k}.png")


def test_a_set_with_pictures_inside_is_read_like_any_other(tmp_path):
    draw(tmp_path)
    write_shards([to_curated(examples(4))], tmp_path / "cur")
    embed_set(tmp_path / "cur", tmp_path, tmp_path / "embedded")
    from datasets import Dataset

    first = Dataset.from_parquet(str(list_shards(tmp_path / "embedded")[0]), cache_dir=str(tmp_path / "cache"))[2]["image"]
    assert first.size == (400, 50) and first.getpixel((0, 0)) == (80, 80, 80)
    for folder, options in (("cur", {"images": tmp_path}), ("embedded", {})):
        data = open_dataset(tmp_path / folder, **options)
        assert [r.image_id for r in data.records] == [0, 1, 2, 3] and all(r.image_path.is_file() for r in data.records)
        assert [r.boxes_xyxy_px.tolist() for r in data.records] == [e.boxes_xyxy_px.tolist() for e in examples(4)]
    (tmp_path / "set" / "2.png").write_text("no")
    with pytest.raises(BadRecord, match="2.png: the picture is no picture of a known format"):
        embed_set(tmp_path / "cur", tmp_path, tmp_path / "again")


def test_rows_from_elsewhere_are_not_trusted(tmp_path):
    draw(tmp_path)
    batch = to_curated(examples(1))
    batch = batch.set_column(0, "image_path", shards.pa.array(["/etc/passwd"]))
    write_shards([batch], tmp_path / "cur")
    with pytest.raises(DataError, match="leaves the folder"):
        open_dataset(tmp_path / "cur", images=tmp_path)
    wide = to_batch(RECORDS[:1])
    write_shards([wide.set_column(2, "width", shards.pa.array([999], shards.pa.int32()))], tmp_path / "wide")
    Image.new("RGB", (400, 50)).save(tmp_path / "set" / "7.png")
    with pytest.raises(
        DataError, match="row 1 has width and height 999 x 50, its picture is 400 x 50; boxes are of another size"
    ):
        open_dataset(tmp_path / "wide", images=tmp_path)


class FakeHub:
    def __init__(self):
        self.calls = []

    def create_repo(self, repository, **options):
        self.calls.append(("create_repo", repository, options))

    def upload_folder(self, **options):
        self.calls.append(("upload_folder", options))


def test_a_push_creates_a_private_repository_and_uploads_the_set_alone(tmp_path):
    hub = FakeHub()
    with pytest.raises(DataError, match="no curated set"):
        push(tmp_path, "me/mix", api=hub)
    assert not hub.calls, "nothing is created for nothing"
    write_shards([to_curated(examples())], tmp_path)
    assert push(tmp_path, "me/mix", api=hub) == "https://huggingface.co/datasets/me/mix"
    (_, repository, options), (_, upload) = hub.calls
    assert repository == "me/mix" and options == {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert (
        upload["folder_path"] == str(tmp_path)
        and upload["repo_type"] == "dataset"
        and "data/*.parquet" in upload["allow_patterns"]
    )
