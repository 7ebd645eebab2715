"""Pascal VOC's XML: corners, difficult objects, layouts, and input that is not what it says."""

import pytest
from test_coco import draw

from vr1kit.formats.voc import CLASSES, find_voc, read_voc
from vr1kit.records import DataError

OBJECT = "<object><name>{name}</name><truncated>{truncated}</truncated><difficult>{difficult}</difficult>{box}{more}</object>"


def write_object(box=(11, 21, 40, 30), name="cat", truncated=0, difficult=0, more=""):
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return OBJECT.format(name=name, truncated=truncated, difficult=difficult, box=f"<bndbox>{sides}</bndbox>", more=more)


def write_xml(path, *objects, filename=None, size=(100, 50), text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    filename = path.stem + ".jpg" if filename is None else filename
    body = f"<size><width>{width}</width><height>{height}</height></size>" + "".join(objects or [write_object()])
    path.write_text(text or f"<annotation><filename>{filename}</filename>{body}</annotation>")
    return path


def write_kit(folder, *objects, split="val", stem="2007_1", **options):
    """The development kit's layout, with one picture."""
    draw(folder / "JPEGImages" / f"{stem}.jpg")
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text(f"{stem}\n")
    (lists / "cat_val.txt").write_text("a list of one class\n")
    return write_xml(folder / "Annotations" / f"{stem}.xml", *objects, **options)


def test_the_challenges_pixels_count_from_one(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    dog, difficult = write_object((1, 1, 100, 50), "dog", 1), write_object(difficult=1, truncated=1)
    write_kit(tmp_path, write_object(more=part), dog, difficult)
    data = read_voc(tmp_path, "val")
    (record,) = data.records
    assert record.boxes_xyxy_px.tolist() == [[10, 20, 40, 30], [0, 0, 100, 50]]  # the last pixel is inside
    assert record.labels == ("cat", "dog") and record.ignored == 1 and record.truncated == 1
    assert record.image_path == tmp_path / "JPEGImages" / "2007_1.jpg" and record.image_id == 1
    assert data.categories == {label: i for i, label in enumerate(CLASSES, 1)} and data.annotations == tmp_path


def test_exports_count_from_zero(tmp_path):
    for split in ("train", "valid"):
        write_xml(tmp_path / split / "a.xml", write_object((10, 20, 40, 30), "cow boy"))
        draw(tmp_path / split / "a.jpg")
    data = read_voc(tmp_path, "val")
    assert data.records[0].boxes_xyxy_px.tolist() == [[10, 20, 40, 30]] and data.categories == {"cow boy": 1}
    assert data.records[0].image_path == tmp_path / "valid" / "a.jpg"
    with pytest.raises(DataError, match="has the splits train, valid; name one"):
        read_voc(tmp_path)


def test_a_corner_at_zero_says_that_a_kit_counts_from_zero_unless_told(tmp_path):
    write_kit(tmp_path, write_object((0, 20, 40, 30)), write_object((10, 20, 40, 30)))
    assert read_voc(tmp_path).records[0].boxes_xyxy_px[:, 0].tolist() == [0, 10]
    data = read_voc(tmp_path, origin=1)
    assert data.records[0].boxes_xyxy_px[:, 0].tolist() == [0, 9] and data.clipped == 1


@pytest.mark.parametrize("flat", [True, False])
def test_layouts_without_lists(tmp_path, flat):
    write_xml(tmp_path / ("a.xml" if flat else "Annotations/a.xml"))
    draw(tmp_path / ("a.jpg" if flat else "JPEGImages/a.jpg"))
    assert list(find_voc(tmp_path)) == ["all"] and len(read_voc(tmp_path).records) == 1


def test_sizes_and_names_that_tools_forget(tmp_path):
    write_kit(tmp_path, size=(0, 0), filename="renamed.png")
    record = read_voc(tmp_path).records[0]
    assert (record.width, record.height) == (100, 50) and record.image_path.name == "2007_1.jpg"
    write_xml(tmp_path / "Annotations" / "2007_1.xml", text=f"<annotation>{write_object()}</annotation>")
    assert read_voc(tmp_path).records[0].width == 100
    write_xml(tmp_path / "Annotations" / "2007_1.xml", text="<annotation><filename>2007_1.jpg</filename></annotation>")
    assert read_voc(tmp_path).records[0].labels == ()  # nothing in it


LAUGHS = "<!ENTITY a0 'ha'>" + "".join(f"<!ENTITY a{i} '{f'&a{i - 1};' * 10}'>" for i in range(1, 9))
BAD = [
    ({"text": f"<!DOCTYPE x [{LAUGHS}]><annotation><filename>&a8;</filename></annotation>"}, "malformed", "has a DOCTYPE"),
    ({"text": "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><annotation/>"}, "malformed", "remove it"),
    ({"text": "<annotation><filename>&x;</filename></annotation>"}, "malformed", "is not XML (undefined entity"),
    ({"text": "<annotation><object></annotation>"}, "malformed", "is not XML (mismatched tag: line 1, column"),
    ({"text": "<html><annotation/></html>"}, "malformed", "is 'html', not an <annotation>"),
    ({"filename": "../../secret.jpg"}, "leaves_folder", "names the picture '../../secret.jpg', which leaves the folder"),
    ({"filename": "/etc/passwd"}, "leaves_folder", "leaves the folder"),
    ({"box": (50, 20, 50, 30)}, None, ""),  # one pixel wide, counted from 1
    ({"box": (50, 20, 40, 30)}, "no_area", "has the box [49.0, 19.0, 40.0, 30.0] (left, top, right, bottom); width and height"),
    ({"box": (10, 20, 400, 30)}, "outside", "outside its picture of 100 x 50"),
    ({"box": (10, 20, "inf", 30)}, "not_finite", "must be finite"),
    ({"box": (10, 20, "nan", 30)}, "malformed", "has object 1 with the name 'cat' and the box ['10', '20', 'nan', '30']"),
    ({"box": ("", 20, 40, 30)}, "malformed", "mend it"),
    ({"name": ""}, "malformed", "has object 1 with the name ''"),
    ({"size": (100.5, 50)}, "picture_size", "has the size 100.5 x 50.0"),
]


@pytest.mark.parametrize(("changes", "reason", "message"), BAD, ids=lambda v: str(v)[-50:])
def test_bad_annotations_fail_in_one_line_or_are_skipped_and_counted(tmp_path, changes, reason, message):
    write_kit(tmp_path, split="train", stem="good")
    item = {key: changes[key] for key in ("box", "name") if key in changes}
    rest = {key: value for key, value in changes.items() if key not in item}
    path = write_kit(tmp_path, write_object(**item), split="train", stem="bad", **rest)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("good  1\nbad -1\n\n")
    if reason is None:
        assert len(read_voc(tmp_path, "train").records) == 2
        return
    with pytest.raises(DataError) as error:
        read_voc(tmp_path, "train")
    assert str(error.value).startswith(f"{path}: the annotation ") and message in str(error.value)
    assert "\n" not in str(error.value) and "; " in str(error.value)
    data = read_voc(tmp_path, "train", on_error="skip")
    assert data.skipped == {reason: 1} and [r.image_id for r in data.records] == [1]


def test_absent_pictures_and_annotations(tmp_path):
    path = write_kit(tmp_path)
    (tmp_path / "JPEGImages" / "2007_1.jpg").unlink()
    with pytest.raises(DataError, match=f"{path}: the annotation names the picture '2007_1.jpg', which is not in"):
        read_voc(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="names the annotation file 'Annotations/2007_1.xml', which is not in"):
        read_voc(tmp_path)
    with pytest.raises(DataError, match="the set is empty, all records were left out: 1 absent"):
        read_voc(tmp_path, on_error="skip")
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("../../etc/passwd\n")
    with pytest.raises(DataError, match="which leaves the folder"):
        read_voc(tmp_path)
    (tmp_path / "ImageSets" / "Main" / "val.txt").write_text("")
    with pytest.raises(DataError, match="the set is empty, it has no pictures"):
        read_voc(tmp_path)


@pytest.mark.parametrize("what", ["Annotations/2007_1.xml", "JPEGImages/2007_1.jpg", "ImageSets/Main/val.txt", "JPEGImages"])
def test_links_that_lead_out_are_not_followed(tmp_path, what):
    folder = tmp_path / "VOC2007"
    write_kit(folder)
    (folder / what).rename(tmp_path / "outside")
    (folder / what).symlink_to(tmp_path / "outside")
    with pytest.raises(DataError, match="link"):
        read_voc(folder)


def test_a_huge_file_and_one_in_another_encoding(tmp_path, monkeypatch):
    path = write_kit(tmp_path)
    path.write_bytes(path.read_text().encode("utf-16"))
    assert len(read_voc(tmp_path).records) == 1
    doctype = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]><annotation/>'
    path.write_bytes(doctype.encode("utf-16"))
    with pytest.raises(DataError, match="has a DOCTYPE"):
        read_voc(tmp_path)
    monkeypatch.setattr("vr1kit.formats.folders.MAX_BYTES", 10)
    with pytest.raises(DataError, match="has more than 10 bytes"):
        read_voc(tmp_path)


def test_a_folder_that_is_no_voc_set(tmp_path):
    (tmp_path / "a.xml").write_text("<html/>")
    with pytest.raises(DataError, match="no Pascal VOC set; looked for Annotations"):
        read_voc(tmp_path)
