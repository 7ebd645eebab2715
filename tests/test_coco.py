"""COCO files and the sets in its form: what is read, from where, and every kind of bad input under both policies."""

import json
import os
from dataclasses import astuple

import numpy as np
import pytest
from PIL import Image

from vr1kit.formats.coco import LAYOUTS, find_coco, read_coco, read_coco_folder
from vr1kit.records import REASONS, DataError
from vr1kit.scenes import draw_scene


def coco_of(file_name="a.png", **changes):
    """One good picture, id 7, with one good box; and what `changes` says."""
    coco = {
        "images": [{"id": 7, "file_name": file_name, "width": 100, "height": 50}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 10], "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cat"}],
    }
    return {**coco, **changes}


def write_coco(folder, coco=None, file="annotations.json", **changes):
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(coco or coco_of(**changes)))
    return path


def draw(path, size=(100, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 60)).save(path)
    return path


def image(image_id, **changes):
    return {"id": image_id, "file_name": f"{image_id}.png", "width": 100, "height": 50, **changes}


def annotation(annotation_id, image_id=7, **changes):
    return {"id": annotation_id, "image_id": image_id, "category_id": 3, "bbox": [1, 2, 3, 4], **changes}


# --- reading --------------------------------------------------------------------------------------------------------------
def test_a_coco_file_becomes_records(tmp_path):
    data = read_coco(write_coco(tmp_path))
    (record,) = data.records
    assert record.boxes_xyxy_px.tolist() == [[10, 20, 40, 30]]  # x, y, w, h -> corners
    assert record.labels == ("cat",) and data.categories == {"cat": 3}
    assert record.image_path == tmp_path / "images" / "a.png"
    assert (record.width, record.height, record.image_id, record.source) == (100, 50, 7, tmp_path.name)
    assert not data.skipped and not data.clipped and not data.phrases


def test_scenes_come_back_as_they_were_drawn(toybox_folder):
    data = read_coco(toybox_folder / "annotations.json", require_pictures=True)
    assert len(data.records) == 8 and data.clipped == 0
    for record in data.records:
        scene = draw_scene("toybox", int(record.image_path.stem.rsplit("_", 1)[1]))
        assert record.boxes_xyxy_px.tolist() == [list(o.box_xyxy_px) for o in scene.objects]
        assert record.labels == tuple(o.label for o in scene.objects)


def test_crowds_are_left_out_and_counted(tmp_path):
    crowd = annotation(1, iscrowd=1)
    (record,) = read_coco(write_coco(tmp_path, annotations=[crowd, annotation(2)])).records
    assert record.labels == ("cat",) and record.ignored == 1


def test_a_box_over_the_edge_by_rounding_is_clipped_and_counted(tmp_path):
    boxes = [[-0.5, 0, 10, 10], [95, 45, 7, 6.9], [0, 0, 100, 50]]
    data = read_coco(write_coco(tmp_path, annotations=[annotation(i, bbox=b) for i, b in enumerate(boxes)]))
    assert data.records[0].boxes_xyxy_px.tolist() == [[0, 0, 9.5, 10], [95, 45, 100, 50], [0, 0, 100, 50]]
    assert data.clipped == 2


def test_of_two_categories_with_one_name_the_used_one_counts(tmp_path):
    double = [{"id": 0, "name": "cat"}, {"id": 3, "name": "cat"}, {"id": 4, "name": "dog"}]
    assert read_coco(write_coco(tmp_path, categories=double)).categories == {"cat": 3, "dog": 4}
    both = [annotation(1), annotation(2, category_id=0)]
    with pytest.raises(DataError, match="categories 0 and 3 are both called 'cat'; rename one"):
        read_coco(write_coco(tmp_path, categories=double, annotations=both))


def test_text_ids_and_annotations_without_ids_are_read(tmp_path):
    entry = {"image_id": "x", "category_id": 3, "bbox": [1, 2, 3, 4]}
    data = read_coco(write_coco(tmp_path, images=[image("x")], annotations=[entry, entry]))
    assert data.records[0].image_id == "x" and len(data.records[0].labels) == 2


# --- bad input ------------------------------------------------------------------------------------------------------------
HUGE = float("inf")
BAD = [  # changes, the reason, what the message says, how many good pictures are left of ids 7 and 8
    ({"annotations": [annotation(1, image_id=99)]}, "unknown_picture", "annotation 1 names an unknown image, 99", 2),
    ({"annotations": [annotation(1, category_id=9)]}, "unknown_category", "annotation 1 names an unknown category, 9", 1),
    ({"annotations": [annotation(1, category_id=[3])]}, "malformed", "annotation 1 has [3] as 'category_id'", 1),
    ({"annotations": [annotation(1, bbox=[0, 0, 0, 1])]}, "no_area", "annotation 1 has the box [0, 0, 0, 1]; width", 1),
    ({"annotations": [annotation(1, bbox=[9, 9, -5, 4])]}, "no_area", "must be positive", 1),
    ({"annotations": [annotation(1, bbox=[0, 0, float("nan"), 1])]}, "not_finite", "annotation 1 has the box [0.0, 0.0", 1),
    ({"annotations": [annotation(1, bbox=[0, 0, HUGE, 1])]}, "not_finite", "its numbers must be finite", 1),
    ({"annotations": [annotation(1, bbox=[0, 0, 1])]}, "malformed", "annotation 1 has the box [0, 0, 1]; give four numbers", 1),
    ({"annotations": [annotation(1, bbox=[0, 0, "a", 1])]}, "malformed", "give four numbers", 1),
    ({"annotations": [annotation(1, bbox=None)]}, "malformed", "annotation 1 has None as 'bbox'", 1),
    ({"annotations": [{"id": 1, "image_id": 7, "category_id": 3}]}, "malformed", "annotation 1 has no 'bbox'", 1),
    ({"annotations": [annotation(1, bbox=[200, 0, 9, 9])]}, "outside", "outside its picture of 100 x 50; are these pixels", 1),
    ({"annotations": [annotation(1, bbox=[0, 0, 150, 40])]}, "outside", "annotation 1 has the box [0.0, 0.0, 150.0, 40.0]", 1),
    ({"annotations": [annotation(1, bbox=[100.5, 0, 1, 9])]}, "outside", "outside its picture", 1),  # clipping leaves nothing
    ({"annotations": [annotation(1), annotation(1)]}, "duplicate_id", "annotation 1 has an id that another annotation has", 1),
    ({"annotations": ["x"]}, "malformed", "annotation number 1 is 'x', not an object", 2),
    ({"annotations": [annotation(1, image_id=[7])]}, "malformed", "annotation 1 has [7] as 'image_id'", 2),
    ({"images": [image(7), image(8, width=0)]}, "picture_size", "image 8 has the size 0 x 50; give both as whole pixels", 1),
    ({"images": [image(7), image(8, height=-4)]}, "picture_size", "image 8 has the size 100 x -4", 1),
    ({"images": [image(7), image(8, height=float("nan"))]}, "picture_size", "image 8 has the size 100 x nan", 1),
    ({"images": [image(7), image(8, width=True)]}, "picture_size", "image 8 has the size True x 50", 1),
    ({"images": [image(7), {"id": 8, "width": 1, "height": 1}]}, "malformed", "image 8 has no 'file_name'", 1),
    ({"images": [image(7), image(8, file_name=3)]}, "malformed", "image 8 has 3 as the name of its picture", 1),
    ({"images": [image(7), image(8, file_name="")]}, "malformed", "image 8 has '' as the name of its picture", 1),
    ({"images": [image(7), image(8, file_name="a\0.png")]}, "malformed", "as the name of its picture", 1),
    ({"images": [image(7), image(8, file_name="\ud800.png")]}, "malformed", "as the name of its picture", 1),
    ({"images": [image(7), image(8, file_name="../x.png")]}, "leaves_folder", "image 8 names the picture '../x.png'", 1),
    ({"images": [image(7), image(8, file_name="a/../../x.png")]}, "leaves_folder", "leaves the folder", 1),
    ({"images": [image(7), image(8, file_name="..\\x.png")]}, "leaves_folder", "leaves the folder", 1),
    ({"images": [image(7), image(8, file_name="/etc/passwd")]}, "leaves_folder", "image 8 names the picture '/etc/passwd'", 1),
    ({"images": [image(7), image(8, file_name="C:\\x.png")]}, "leaves_folder", "leaves the folder", 1),
    ({"images": [image(7), image(8, file_name="gone.png")]}, "absent", "image 8 names the picture 'gone.png'", 1),
    ({"images": [image(7), image(8, file_name="x" * 300 + "/a.png")]}, "absent", "which is not in", 1),
    ({"images": [image(7), 8]}, "malformed", "image number 2 is 8, not an object", 1),
    ({"images": [image(7), image(8), image(8)]}, "duplicate_id", "image 8 has an id that another image has", 1),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason", "message", "left"), BAD, ids=lambda value: str(value)[:60])
def test_bad_records_fail_in_one_line_or_are_skipped_and_counted(tmp_path, changes, reason, message, left):
    for name in ("7.png", "8.png"):
        draw(tmp_path / "images" / name)
    path = write_coco(tmp_path, **{"images": [image(7), image(8)], "annotations": [], **changes})
    with pytest.raises(DataError) as error:
        read_coco(path, require_pictures=True)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    assert "\n" not in str(error.value) and "; " in str(error.value), "one line, with a remedy"
    data = read_coco(path, on_error="skip", require_pictures=True)
    assert len(data.records) == left
    assert data.skipped == {reason: 2 if "another image" in message else 1} and reason in REASONS


def test_a_picture_with_many_faults_is_counted_once(tmp_path):
    bad = [annotation(i, bbox=[0, 0, 0, 0]) for i in range(5)]
    data = read_coco(write_coco(tmp_path, images=[image(7), image(8)], annotations=bad), on_error="skip")
    assert data.skipped == {"no_area": 1} and [r.image_id for r in data.records] == [8]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not JSON, Expecting value at byte 0"),
        (b"[1, 2]", "it has no list 'images'"),
        (b'{"images": [], "annotations": {}', "not JSON, Expecting ',' delimiter at byte 32"),
        ('{"é": [}'.encode(), "at byte 8"),  # the eighth character
        (b'{"a": "\xff"}', "no UTF-8 at byte 7"),
        (b"[" * 200_000, "not JSON that can be read"),
        (b"1" * 5000, "not JSON that can be read"),
        (json.dumps(coco_of(images=None)).encode(), "no list 'images'"),
        (json.dumps(coco_of(categories=["cat"])).encode(), "category number 1 is 'cat', not an object"),
        (json.dumps(coco_of(categories=[{"id": 3, "name": "a"}, {"id": 3, "name": "b"}])).encode(), "category 3 has an id"),
        (
            json.dumps(coco_of(images=[], annotations=[])).encode(),
            "the set is empty, it has no pictures; give a set with pictures",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_files_that_are_not_coco_are_refused_under_either_policy(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_bytes(text)
    for policy in ("fail", "skip"):
        with pytest.raises(DataError) as error:
            read_coco(path, on_error=policy)
        assert str(error.value).startswith(f"{path}: ") and message in str(error.value) and "\n" not in str(error.value)


def test_a_set_of_which_nothing_is_left_is_refused(tmp_path):
    path = write_coco(tmp_path, annotations=[annotation(1, bbox=[0, 0, 0, 0])])
    with pytest.raises(DataError, match="the set is empty, all records were left out: 1 no_area"):
        read_coco(path, on_error="skip")


def test_files_that_are_not_there_and_policies_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no such file; give the path of a COCO instances JSON"):
        read_coco(tmp_path / "absent.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_coco(tmp_path)
    with pytest.raises(ValueError, match="on_error must be one of fail, skip, got 'ignore'"):
        read_coco(write_coco(tmp_path), on_error="ignore")


# --- nothing outside the folder -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", ["file", "folder", "root"])
def test_links_that_lead_out_are_not_followed(tmp_path, how):
    outside = draw(tmp_path / "outside" / "a.png")
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    name = "a.png"
    if how == "file":
        (folder / "images" / "a.png").symlink_to(outside)
    elif how == "folder":
        (folder / "images" / "sub").symlink_to(outside.parent)
        name = "sub/a.png"
    else:
        (folder / "images").rmdir()
        (folder / "images").symlink_to(outside.parent)
    path = write_coco(folder, file_name=name)
    with pytest.raises(DataError, match="link") as error:
        read_coco(path)
    assert "\n" not in str(error.value)
    if how == "root":  # what the user names is the folder of the set
        assert read_coco(path, images=folder / "images", require_pictures=True).records
    else:
        with pytest.raises(DataError, match="1 leaves_folder"):
            read_coco(path, on_error="skip")


def test_links_within_the_folder_are_followed_and_dead_ones_are_absent(tmp_path):
    draw(tmp_path / "images" / "real" / "a.png")
    (tmp_path / "images" / "a.png").symlink_to("real/a.png")
    (tmp_path / "images" / "dead.png").symlink_to("real/gone.png")
    assert read_coco(write_coco(tmp_path), require_pictures=True).records[0].image_path == tmp_path / "images" / "a.png"
    with pytest.raises(DataError, match="which is not in"):
        read_coco(write_coco(tmp_path, file_name="dead.png"), require_pictures=True)
    (tmp_path / "images" / "loop").symlink_to("loop")
    with pytest.raises(DataError):
        read_coco(write_coco(tmp_path, file_name="loop/a.png"), require_pictures=True)


def test_a_folder_or_a_pipe_is_no_picture(tmp_path):
    (tmp_path / "images" / "a.png").mkdir(parents=True)
    with pytest.raises(DataError, match="which is not in"):
        read_coco(write_coco(tmp_path), require_pictures=True)
    os.mkfifo(tmp_path / "images" / "b.png")
    with pytest.raises(DataError, match="which is not in"):
        read_coco(write_coco(tmp_path, file_name="b.png"), require_pictures=True)


# --- layouts --------------------------------------------------------------------------------------------------------------
SETS = [  # format, annotation file, name in the file, picture, split, what a user may ask for
    ("COCO", "annotations/instances_val2017.json", "0001.jpg", "val2017/0001.jpg", "val2017", ["val2017", "val", None]),
    ("COCO", "annotations/instances_train2014.json", "0001.jpg", "images/train2014/0001.jpg", "train2014", ["train"]),
    ("ODINW", "valid/annotations_without_background.json", "a.jpg", "valid/a.jpg", "valid", ["valid", "val", None]),
    ("ODINW", "mini_val/annotations_without_background.json", "a.jpg", "mini_val/a.jpg", "mini_val", ["mini_val", "minival"]),
    ("ODINW", "val_annotations_without_background.json", "a.jpg", "a.jpg", "val", ["val", "valid"]),
    ("V3Det", "annotations/v3det_2023_v1_val.json", "images/n01/a.jpg", "images/n01/a.jpg", "val", ["val", None]),
    ("Objects365", "annotations/zhiyuan_objv2_train.json", "images/v1/patch8/a.jpg", "train/patch8/a.jpg", "train", ["train"]),
    ("Objects365", "annotations/objects365_val.json", "a.jpg", "val/a.jpg", "val", ["val"]),
    ("Roboflow", "test/_annotations.coco.json", "a.jpg", "test/a.jpg", "test", ["test"]),
    ("scenes", "annotations.json", "a.png", "images/a.png", "annotations", [None]),
]


@pytest.mark.parametrize(("form", "file", "name", "picture", "split", "asked"), SETS, ids=lambda v: str(v)[:40])
def test_each_layout_is_found_and_read(tmp_path, form, file, name, picture, split, asked):
    write_coco(tmp_path, coco_of(name), file)
    draw(tmp_path / picture)
    found = find_coco(tmp_path)
    assert list(found) == [split] and found[split][0].format == form
    for each in asked:
        data = read_coco_folder(tmp_path, each)
        assert data.records[0].image_path == tmp_path / picture and data.name == tmp_path.name
    (tmp_path / picture).unlink()
    with pytest.raises(DataError, match="which is not in"):
        read_coco_folder(tmp_path)


def test_every_format_has_a_layout_that_is_tested():
    assert {layout.format for layout in LAYOUTS} == {form for form, *_ in SETS}


def test_splits_are_listed_when_none_or_a_wrong_one_is_asked_for(tmp_path):
    for split in ("train", "valid"):
        write_coco(tmp_path, coco_of("a.jpg"), f"{split}/annotations_without_background.json")
    with pytest.raises(DataError, match="has the splits train, valid; name one with split=NAME"):
        read_coco_folder(tmp_path)
    with pytest.raises(DataError, match="has no split 'test'; it has train, valid"):
        read_coco_folder(tmp_path, "test")
    with pytest.raises(DataError, match="no COCO-like set; looked for annotations.json, annotations/instances"):
        read_coco_folder(tmp_path / "train")


def test_objects365s_known_gaps_are_counted_under_either_policy(tmp_path):
    images = [image(1, file_name="images/v2/patch16/objects365_v2_00908726.jpg"), image(2, file_name="images/v1/patch0/a.jpg")]
    write_coco(tmp_path, coco_of(images=images, annotations=[annotation(1, 1)]), "annotations/zhiyuan_objv2_train.json")
    draw(tmp_path / "train" / "patch0" / "a.jpg")
    data = read_coco_folder(tmp_path)
    assert [r.image_id for r in data.records] == [2] and data.skipped == {"known_absent": 1}


def test_pictures_may_lie_elsewhere_if_the_user_says_so(tmp_path):
    folder = tmp_path / "set"
    write_coco(folder, coco_of("a.jpg"), "annotations/instances_val2017.json")
    elsewhere = draw(tmp_path / "disk" / "a.jpg")
    (folder / "val2017").symlink_to(elsewhere.parent)
    with pytest.raises(DataError, match="images=FOLDER"):
        read_coco_folder(folder)
    assert read_coco_folder(folder, images=elsewhere.parent, name="coco").records[0].source == "coco"
    (folder / "annotations" / "instances_test.json").symlink_to(tmp_path / "secret.json")
    (tmp_path / "secret.json").write_text("{}")
    with pytest.raises(DataError, match="is a link that leads out of"):
        read_coco_folder(folder, "test")


def test_records_hold_plain_values(tmp_path):
    record = read_coco(write_coco(tmp_path, images=[image(7, width=100.0)])).records[0]
    assert type(record.width) is int and record.boxes_xyxy_px.dtype == np.float64
    assert [type(value) for value in astuple(record)[5:]] == [tuple, str, int, int, type(None)]
