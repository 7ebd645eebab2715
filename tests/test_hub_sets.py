"""Parquet files and saved folders: Vision-R1-Data and RefCOCO, with pictures inside or beside."""

import io
import json

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from PIL import Image as Pillow
from test_coco import draw

from vr1kit.formats.hub_sets import find_hub_files, read_hub
from vr1kit.records import DataError


def encode(size=(100, 50), tone=90, form="PNG"):
    buffer = io.BytesIO()
    Pillow.new("RGB", size, (tone, 120, 60)).save(buffer, form)
    return buffer.getvalue()


def row(**changes):
    good = {
        "image": {"bytes": encode(), "path": None}, "problem": "Locate every item from the list: cat, dog.",
        "solution": json.dumps([["cat", [[10, 20, 40, 30], [50, 5, 70, 25]]], ["dog", [[0, 0, 100, 50]]]]),
        "width": 100, "height": 50, "num_instances": 3, "target_id_maps": json.dumps({"cat": 17, "dog": 18}),
    }  # fmt: skip
    return {**good, **changes}


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


# --- Vision-R1-Data -------------------------------------------------------------------------------------------------------
def check_good(data, folder):
    (record,) = data.records
    assert record.labels == ("cat", "cat", "dog") and data.categories == {"cat": 17, "dog": 18}
    assert record.boxes_xyxy_px.tolist() == [[10, 20, 40, 30], [50, 5, 70, 25], [0, 0, 100, 50]]
    assert record.prompt.startswith("Locate every item") and (record.width, record.height, record.image_id) == (100, 50, 1)
    assert record.image_path.parent == folder and record.image_path.read_bytes() == encode()


def test_parquet_with_pictures_inside(tmp_path):
    write_parquet(tmp_path / "data" / "train-00000-of-00001-0123456789abcdef.parquet", [row()])
    check_good(read_hub(tmp_path, "train"), tmp_path / "pictures")
    check_good(read_hub(tmp_path, images=tmp_path / "other"), tmp_path / "other")
    assert list(find_hub_files(tmp_path)) == ["train"]  # what was unpacked is no set


@pytest.mark.parametrize("splits", [True, False])
def test_a_folder_saved_by_datasets(tmp_path, splits):
    rows = [row(image=Pillow.open(io.BytesIO(encode())))]
    features = Features({**Dataset.from_list([{k: v for k, v in row().items() if k != "image"}]).features, "image": Image()})
    dataset = Dataset.from_list(rows, features=features)
    (DatasetDict({"train": dataset}) if splits else dataset).save_to_disk(str(tmp_path / "set"))
    data = read_hub(tmp_path / "set", "train" if splits else None)
    (record,) = data.records
    assert record.labels == ("cat", "cat", "dog") and np.asarray(Pillow.open(record.image_path)).shape == (50, 100, 3)


def test_pictures_beside_the_file_are_found_by_name(tmp_path):
    path = draw(tmp_path / "images" / "a.jpg")
    for image in ({"bytes": None, "path": "images/a.jpg"}, {"bytes": None, "path": "a.jpg"}):
        write_parquet(tmp_path / "train.parquet", [row(image=image)])
        assert read_hub(tmp_path).records[0].image_path == path
    features = Features({"image": Value("string"), "problem": Value("string"), "solution": Value("string")})
    Dataset.from_list([{"image": "a.jpg", "problem": "?", "solution": "[]"}], features=features).save_to_disk(
        str(tmp_path / "saved")
    )
    data = read_hub(tmp_path / "saved", images=tmp_path / "images")
    assert data.records[0].image_path == path and data.records[0].labels == () and data.categories == {}


def test_equal_pictures_are_unpacked_once_and_rows_are_counted_through_files(tmp_path):
    write_parquet(tmp_path / "train-00000-of-00002.parquet", [row()] * 70)
    write_parquet(tmp_path / "train-00001-of-00002.parquet", [row(image={"bytes": encode(tone=91, form="JPEG"), "path": None})])
    data = read_hub(tmp_path)
    assert [r.image_id for r in data.records] == list(range(1, 72))
    assert sorted(path.suffix for path in (tmp_path / "pictures").iterdir()) == [".jpg", ".png"]


def test_category_ids_are_the_rows_where_these_agree(tmp_path):
    clash = row(target_id_maps=json.dumps({"cat": 1}))
    write_parquet(tmp_path / "a.parquet", [row(), clash])
    assert read_hub(tmp_path).categories == {"cat": 1, "dog": 2}
    write_parquet(tmp_path / "a.parquet", [row(target_id_maps=None)])
    assert read_hub(tmp_path).categories == {"cat": 1, "dog": 2}


BAD = [
    ({"solution": "[[1"}, "malformed", "row 2 has the solution '[[1', which is not JSON"),
    ({"solution": "{}"}, "malformed", "row 2 has the solution {}; give [[category"),
    ({"solution": '[["cat"]]'}, "malformed", "row 2 has ['cat'] in its solution"),
    ({"solution": '[["cat", [[1, 2, 3]]]]'}, "malformed", "has the box [1, 2, 3]; give four numbers"),
    ({"solution": '[["cat", [[30, 2, 3, 9]]]]'}, "no_area", "width and height must be positive"),
    ({"solution": '[["cat", [[3, 2, NaN, 9]]]]'}, "not_finite", "must be finite"),
    ({"solution": '[["cat", [[3, 2, 500, 9]]]]'}, "outside", "outside its picture of 100 x 50"),
    ({"solution": None}, "malformed", "row 2 has the solution None"),
    ({"problem": None}, "malformed", "row 2 has None as 'problem'"),
    ({"width": 640}, "picture_size", "row 2 has width and height 640 x 50, its picture is 100 x 50; boxes are of another size"),
    ({"width": -1}, "picture_size", "row 2 has the size -1 x 50"),
    ({"target_id_maps": "[]"}, "malformed", "row 2 has the target_id_maps []"),
    ({"target_id_maps": '{"cat": "x"}'}, "malformed", "row 2 has the target_id_maps"),
    ({"image": {"bytes": b"no", "path": None}}, "unreadable", "row 2 is no picture of a known format"),
    ({"image": {"bytes": None, "path": None}}, "malformed", "row 2 has None as the name of its picture"),
    ({"image": {"bytes": None, "path": "../x.png"}}, "leaves_folder", "leaves the folder"),
    ({"image": {"bytes": None, "path": "/etc/passwd"}}, "leaves_folder", "row 2 names the picture '/etc/passwd'"),
    ({"image": {"bytes": None, "path": "gone.png"}}, "absent", "row 2 names the picture 'gone.png', which is not in"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason", "message"), BAD, ids=lambda v: str(v)[:50])
def test_bad_rows_fail_in_one_line_or_are_skipped_and_counted(tmp_path, changes, reason, message):
    path = write_parquet(tmp_path / "train.parquet", [row(), row(**changes)])
    with pytest.raises(DataError) as error:
        read_hub(tmp_path)
    assert str(error.value).startswith(f"{path}: row 2 ") and message in str(error.value)
    assert "\n" not in str(error.value) and "; " in str(error.value)
    data = read_hub(tmp_path, on_error="skip")
    assert data.skipped == {reason: 1} and [r.image_id for r in data.records] == [1]


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match="no set of the hub; looked for state.json"):
        read_hub(tmp_path)
    path = write_parquet(tmp_path / "train.parquet", [row()])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="train.parquet: cannot be read .*; fetch the file again") as error:
        read_hub(tmp_path)
    assert "\n" not in str(error.value)
    write_parquet(tmp_path / "train.parquet", [{"a": 1, "b": 2}])
    with pytest.raises(
        DataError, match=r"has the columns a, b: neither Vision-R1-Data \(image, problem, solution\), nor RefCOCO"
    ):
        read_hub(tmp_path)


def test_a_state_that_names_files_elsewhere_or_an_index(tmp_path):
    folder = tmp_path / "set"
    Dataset.from_list([{"image": "a.jpg", "problem": "?", "solution": "[]"}]).save_to_disk(str(folder))
    state = json.loads((folder / "state.json").read_text())
    for changes, message in [
        ({"_data_files": [{"filename": "../x.arrow"}]}, "names the data file '../x.arrow', which leaves the folder"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, "which is not in"),
        ({"_data_files": []}, "the set is empty, its state names no data files"),
        ({"_data_files": None}, "has None as '_data_files'"),
        ({"_data_files": ["x"]}, "is 'x', not an object with the field 'filename'"),
        ({"_indices_data_files": [{"filename": "i.arrow"}]}, "save the set again after flatten_indices"),
    ]:
        (folder / "state.json").write_text(json.dumps({**state, **changes}))
        with pytest.raises(DataError, match=message.replace("[", r"\[")) as error:
            read_hub(folder)
        assert "\n" not in str(error.value)
    (folder / "state.json").write_text("[]")
    with pytest.raises(DataError, match=r"is \[\], not an object"):
        read_hub(folder)
    (folder / "state.json").write_text(json.dumps(state))
    arrow = folder / state["_data_files"][0]["filename"]
    arrow.write_bytes(arrow.read_bytes()[:64])
    with pytest.raises(DataError, match="cannot be read"):
        read_hub(folder)
    (tmp_path / "x.arrow").write_bytes(b"")
    arrow.unlink()
    arrow.symlink_to(tmp_path / "x.arrow")
    with pytest.raises(DataError, match="link"):
        read_hub(folder)


# --- RefCOCO --------------------------------------------------------------------------------------------------------------
def test_refcoco_with_corners_and_pictures_beside(tmp_path):
    sentences = [{"sent": "left cat", "raw": "Left cat"}, {"sent": "tabby", "raw": "tabby"}]
    good = {"image_path": "coco/train2014/a.jpg", "image_id": 5, "bbox": [10.0, 20, 40, 30], "sentences": sentences}
    write_parquet(tmp_path / "set" / "data" / "validation-00000-of-00001.parquet", [good, {**good, "bbox": [50.0, 5, 70, 25]}])
    with pytest.raises(DataError, match="which is not in"):
        read_hub(tmp_path / "set")
    draw(tmp_path / "train2014" / "a.jpg")
    data = read_hub(tmp_path / "set", "val", images=tmp_path / "train2014")
    (record,) = data.records
    assert record.labels == ("left cat", "tabby") * 2 and record.image_id == 5 and data.phrases
    assert record.boxes_xyxy_px.tolist() == [[10, 20, 40, 30]] * 2 + [[50, 5, 70, 25]] * 2


def test_refcoco_with_sides_and_pictures_inside(tmp_path):
    good = {"question_id": "1", "image": {"bytes": encode(), "path": "a.jpg"}, "question": "?", "answer": ["left cat", "tabby"],
            "bbox": [10.0, 20, 30, 10], "iscrowd": 0, "file_name": "a_1.jpg"}  # fmt: skip
    write_parquet(
        tmp_path / "data" / "testA-00000-of-00001.parquet", [good, {**good, "bbox": [90.0, 20, 80, 10], "answer": ["x"]}]
    )
    with pytest.raises(DataError, match="row 2 has the box .* outside its picture"):
        read_hub(tmp_path, "testA")
    data = read_hub(tmp_path, on_error="skip")
    assert data.records[0].labels == ("left cat", "tabby") and data.skipped == {"outside": 1}
    assert data.records[0].boxes_xyxy_px.tolist() == [[10, 20, 40, 30]] * 2


def test_splits_by_file_and_by_folder(tmp_path):
    for name in ("val-00000-of-00001.parquet", "testA/0000.parquet", "refcocog/test-0-of-1.parquet", ".cache/x.parquet"):
        write_parquet(tmp_path / name, [row()])
    assert sorted(find_hub_files(tmp_path)) == ["refcocog/test", "testA", "val"]
