import json

import numpy as np
import pytest

from vr1kit.data import DataError, Part, ask, curate, decode_images, read_coco, to_dataset
from vr1kit.scenes import TOYBOX, draw_scene


def write_coco(folder, **changes):
    coco = {
        "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 50}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 10], "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    coco.update(changes)
    path = folder / "annotations.json"
    path.write_text(json.dumps(coco))
    return path


def test_a_coco_file_becomes_records(tmp_path):
    data = read_coco(write_coco(tmp_path))
    (record,) = data.records
    assert record.boxes_xyxy_px.tolist() == [[10, 20, 40, 30]]  # x, y, w, h -> corners
    assert record.labels == ("cat",) and data.categories == {"cat": 3}
    assert record.image_path == tmp_path / "images" / "a.png"


def test_crowds_are_left_out(tmp_path):
    crowd = {"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 5, 5], "iscrowd": 1}
    assert read_coco(write_coco(tmp_path, annotations=[crowd])).records[0].labels == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "no list 'images'"),
        ({"annotations": [{"id": 1, "image_id": 8, "category_id": 3, "bbox": [0, 0, 1, 1]}]}, "unknown image or category"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 0, 1]}]}, "must be positive"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, float("nan"), 1]}]}, "must be positive"),
        ({"annotations": [{"id": 1, "image_id": 7, "category_id": 3}]}, "an entry has no 'bbox'"),
        ({"categories": ["cat"]}, "an entry cannot be read"),
        ({"images": [{"id": 7, "file_name": "../secret.png", "width": 1, "height": 1}]}, "leaves"),
        ({"images": [{"id": 7, "file_name": "/etc/passwd", "width": 1, "height": 1}]}, "leaves"),
    ],
)
def test_bad_annotations_are_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as error:
        read_coco(write_coco(tmp_path, **changes))
    assert "\n" not in str(error.value) and "annotations.json" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "not json"])
def test_files_that_are_not_coco_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError):
        read_coco(tmp_path / "x.json")
    with pytest.raises(DataError, match="no such file"):
        read_coco(tmp_path / "absent.json")


def test_grounding_keeps_one_phrase_and_answers_run_left_to_right(toybox_folder):
    record = next(r for r in read_coco(toybox_folder / "annotations.json").records if len(set(r.labels)) > 1)
    everything, one = ask(record, TOYBOX.labels), ask(record, TOYBOX.labels, record.labels[0])
    assert sorted(everything.labels) == sorted(record.labels)
    assert (np.diff(everything.boxes_xyxy_px[:, 0]) >= 0).all()
    assert set(one.labels) == {record.labels[0]} and len(one.labels) == record.labels.count(record.labels[0])
    assert f"Locate every {record.labels[0]} in the image" in one.prompt
    assert ", ".join(TOYBOX.labels) in everything.prompt


def test_curation_is_deterministic_disjoint_and_reports_what_it_dropped(toybox_folder):
    sets = {"toybox": read_coco(toybox_folder / "annotations.json", name="toybox")}
    parts = [Part("a", ("toybox",), "detection", 2), Part("b", ("toybox",), "grounding", 2)]
    first, dropped = curate(sets, parts, seed=1, max_instances=9)
    again, _ = curate(sets, parts, seed=1, max_instances=9)
    assert [e.prompt for e in first] == [e.prompt for e in again]
    ids = [e.record.image_id for e in first]
    assert len(set(ids)) == 4
    crowded = {r.image_id for r in sets["toybox"].records if len(r.labels) > 9}
    assert {d["image_id"] for d in dropped} == crowded and not crowded & set(ids)
    with pytest.raises(DataError, match="too few pictures"):
        curate(sets, [Part("c", ("toybox",), "detection", 9)], seed=1)


def test_a_dataset_holds_boxes_of_the_models_space_and_decodes_lazily(toybox_folder, random_policy):
    data = read_coco(toybox_folder / "annotations.json")
    example = ask(data.records[0], TOYBOX.labels)
    dataset = to_dataset([example], random_policy.write_boxes, toybox_folder)
    row = dataset[0]
    assert row["image"] == f"images/{example.record.image_path.name}"  # relative: a run can be moved
    assert row["size"] == [96, 96]
    assert np.abs(np.asarray(row["boxes_xyxy"]) - example.boxes_xyxy_px / 2).max() <= 0.5 + 1e-9
    picture = decode_images(dataset, toybox_folder)[0]["image"]
    assert picture.tobytes() == draw_scene("toybox", 0).image.tobytes()
