"""YOLO's lines: shares of the sides, polygons, names, layouts, and bad lines."""

import pytest
from test_coco import draw

from vr1kit.formats.yolo import find_yolo, read_yolo
from vr1kit.records import DataError

YAML = "path: /somebody/elses\ntrain: ../train/images\nval: images/val\nnc: 2\nnames: [cat, dog]\n"


def write_set(folder, label="1 0.25 0.5 0.3 0.2\n", split="val", names=YAML, stem="a"):
    draw(folder / "images" / split / f"{stem}.png")
    path = folder / "labels" / split / f"{stem}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    if label is not None:
        path.write_text(label)
    (folder / "data.yaml").write_text(names)
    return path


def test_shares_become_pixels(tmp_path):
    write_set(tmp_path)
    data = read_yolo(tmp_path, "valid")
    (record,) = data.records
    assert record.boxes_xyxy_px.shape == (1, 4) and record.boxes_xyxy_px[0] == pytest.approx([10, 20, 40, 30])
    assert record.labels == ("dog",) and data.categories == {"cat": 0, "dog": 1} and (record.width, record.height) == (100, 50)


def test_polygons_become_their_extent_and_empty_files_negatives(tmp_path):
    write_set(tmp_path, "0 0.1 0.2 0.3 0.2 0.2 0.6\n\n")
    write_set(tmp_path, "", stem="b")
    write_set(tmp_path, None, stem="c")
    records = read_yolo(tmp_path).records
    assert records[0].boxes_xyxy_px[0] == pytest.approx([10, 10, 30, 30])
    assert [r.labels for r in records] == [("cat",), (), ()] and [r.image_id for r in records] == [1, 2, 3]


def test_rounding_at_the_edge_is_no_clipping(tmp_path):
    write_set(tmp_path, "0 0.5 0.5 1.000001 1.0\n")
    data = read_yolo(tmp_path)
    assert data.records[0].boxes_xyxy_px.tolist() == [[0, 0, 100, 50]] and data.clipped == 0


@pytest.mark.parametrize(
    ("images", "labels", "splits"),
    [
        ("images", "labels", ["all"]),
        ("train/images", "train/labels", ["train"]),
        ("images/train2017", "labels/train2017", ["train2017"]),
    ],
)
def test_layouts(tmp_path, images, labels, splits):
    draw(tmp_path / images / "a.jpg")
    (tmp_path / labels).mkdir(parents=True)
    (tmp_path / labels / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert list(find_yolo(tmp_path)) == splits
    assert read_yolo(tmp_path).records[0].labels == ("cat",)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names:\n  0: cat\n  1: dog\n", {"cat": 0, "dog": 1}),
        ("names: ['0', 1]\n", {"0": 0, "1": 1}),
        ("names: cat\n", "has no list of different class names"),
        ("names: [cat, cat]\n", "has no list of different class names"),
        ("names: []\n", "has no list of different class names"),
        ("names: {a: cat}\n", "has no list of different class names"),
        ("names: [!!python/object/apply:os.system [ls]]\n", "not YAML"),
        ("names: [cat\n", "not YAML"),
        ("nc: 3\n", "no class names; looked for data.yaml, classes.txt"),
    ],
    ids=lambda v: str(v)[:30],
)
def test_names(tmp_path, names, expected):
    write_set(tmp_path, names=names)
    if isinstance(expected, dict):
        assert read_yolo(tmp_path).categories == expected
    else:
        with pytest.raises(DataError, match=expected) as error:
            read_yolo(tmp_path)
        assert "\n" not in str(error.value)


BAD = [
    ("0 0.5 0.5 0.5\n", "malformed", "has 4 numbers in line 1; give a class and four"),
    ("0 0.5 0.5 0.5 0.5 0.9\n", "malformed", "has 6 numbers in line 1"),
    ("0 0.5 0.5 0.5 0.5\n0 a 0.5 0.5 0.5\n", "malformed", "has '0 a 0.5 0.5 0.5' in line 2; give numbers only"),
    ("7 0.5 0.5 0.5 0.5\n", "unknown_category", "has the class 7 in line 1, of 2 from 0"),
    ("0.5 0.5 0.5 0.5 0.5\n", "unknown_category", "has the class 0.5"),
    ("nan 0.5 0.5 0.5 0.5\n", "unknown_category", "has the class nan"),
    ("-1 0.5 0.5 0.5 0.5\n", "unknown_category", "has the class -1"),
    ("0 0.5 0.5 0 0.5\n", "no_area", "in line 1 has the box [50.0, 12.5, 50.0, 37.5]"),
    ("0 0.5 0.5 -0.1 0.5\n", "no_area", "must be positive"),
    ("0 nan 0.5 0.5 0.5\n", "not_finite", "in line 1 has the box [nan"),
    ("0 50 25 30 20\n", "outside", "outside its picture of 100 x 50; are these pixels of another size"),  # pixels, not shares
    ("0 0.9 0.5 0.5 0.5\n", "outside", "outside its picture"),
]


@pytest.mark.parametrize(("label", "reason", "message"), BAD, ids=lambda v: str(v)[:40])
def test_bad_lines_fail_in_one_line_or_their_picture_is_skipped_and_counted(tmp_path, label, reason, message):
    write_set(tmp_path, stem="good")
    path = write_set(tmp_path, label)
    with pytest.raises(DataError) as error:
        read_yolo(tmp_path)
    assert str(error.value).startswith(f"{path}: the label ") and message in str(error.value)
    assert "\n" not in str(error.value) and "; " in str(error.value)
    data = read_yolo(tmp_path, on_error="skip")
    assert data.skipped == {reason: 1} and [r.image_path.stem for r in data.records] == ["good"]


def test_key_points_are_not_taken_for_polygons(tmp_path):
    write_set(tmp_path, "0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.5 0.5 2\n", names="kpt_shape: [2, 3]\n" + YAML)
    with pytest.raises(DataError, match="has 11 numbers in line 1.*no key points"):
        read_yolo(tmp_path)


def test_labels_without_pictures_and_bad_pictures(tmp_path):
    write_set(tmp_path)
    (tmp_path / "labels" / "val" / "gone.txt").write_text("")
    with pytest.raises(DataError, match="gone.txt: the label has no picture in .*; add it, or delete the label"):
        read_yolo(tmp_path)
    (tmp_path / "images" / "val" / "broken.jpg").write_text("no")
    data = read_yolo(tmp_path, on_error="skip")
    assert data.skipped == {"absent": 1, "unreadable": 1} and len(data.records) == 1
    (tmp_path / "labels" / "val" / "gone.txt").unlink()
    with pytest.raises(DataError, match="broken.jpg: the picture is no picture of a known format"):
        read_yolo(tmp_path)
    write_set(tmp_path / "binary", "").write_bytes(b"\xff\xfe0 0.5")
    with pytest.raises(DataError, match="is not UTF-8 at byte 0"):
        read_yolo(tmp_path / "binary")


@pytest.mark.parametrize("what", ["labels/val/a.txt", "images/val/a.png", "labels/val", "images/val", "data.yaml"])
def test_links_that_lead_out_are_not_followed(tmp_path, what):
    folder = tmp_path / "set"
    write_set(folder)
    (folder / what).rename(tmp_path / "outside")
    (folder / what).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="link"):
        read_yolo(folder)


def test_a_folder_that_is_no_yolo_set(tmp_path):
    with pytest.raises(DataError, match="no YOLO set; looked for images/ and labels/"):
        read_yolo(tmp_path)
