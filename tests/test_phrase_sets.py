"""Phrases with boxes: RefCOCO's JSON forms, never its pickle; Visual Genome's objects and regions."""

import json
import pickle

import pytest
from test_coco import draw

from vr1kit.data import ask
from vr1kit.formats.phrase_sets import read_refcoco, read_visual_genome
from vr1kit.records import DataError


def reference(ref_id, ann_id, *sentences, split="val", **changes):
    sentences = [{"sent_id": i, "sent": text, "raw": text.upper(), "tokens": text.split()} for i, text in enumerate(sentences)]
    good = {"ref_id": ref_id, "ann_id": ann_id, "image_id": 5, "split": split, "sentences": sentences, "category_id": 1,
            "file_name": "COCO_train2014_000000000005_1.jpg"}  # fmt: skip
    return {**good, **changes}


INSTANCES = {
    "images": [{"id": 5, "file_name": "COCO_train2014_000000000005.jpg", "width": 100, "height": 50}],
    "annotations": [{"id": 8, "image_id": 5, "bbox": [10, 20, 30, 10]}, {"id": 9, "image_id": 5, "bbox": [50, 5, 20, 20]}],
    "categories": [{"id": 1, "name": "cat"}],
}


def write_refcoco(folder, references, by="refs(unc)", instances=INSTANCES):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{by}.json").write_text(json.dumps(references))
    (folder / "instances.json").write_text(json.dumps(instances))
    draw(folder / "train2014" / INSTANCES["images"][0]["file_name"])
    return folder / f"{by}.json"


def test_a_picture_has_all_its_phrases_and_one_is_asked_for(tmp_path):
    write_refcoco(
        tmp_path, [reference(1, 8, "left cat", "tabby"), reference(2, 9, "right one"), reference(3, 9, "x", split="testA")]
    )
    data = read_refcoco(tmp_path, "val")
    (record,) = data.records
    assert record.labels == ("left cat", "tabby", "right one") and data.phrases and not data.categories
    assert record.boxes_xyxy_px.tolist() == [[10, 20, 40, 30]] * 2 + [[50, 5, 70, 25]]
    assert record.image_id == 5 and record.image_path.name == "COCO_train2014_000000000005.jpg"  # not the reference's name
    example = ask(record, [], "right one")
    assert example.boxes_xyxy_px.tolist() == [[50, 5, 70, 25]] and "Locate every right one" in example.prompt
    assert [r.labels for r in read_refcoco(tmp_path, "testA").records] == [("x",)]


def test_several_lists_of_references_are_told_apart(tmp_path):
    write_refcoco(tmp_path, [reference(1, 8, "unc's")])
    write_refcoco(tmp_path, [reference(1, 8, "google's")], "refs(google)")
    assert read_refcoco(tmp_path, "google/val").records[0].labels == ("google's",)
    with pytest.raises(DataError, match="has the splits google, unc; name one"):
        read_refcoco(tmp_path)


def test_grefcocos_phrases_of_many_and_of_no_objects(tmp_path):
    references = [reference(1, [8, 9], "both"), reference(2, [-1], "a dog", "a cow", no_target=True)]
    write_refcoco(tmp_path, references, "grefs(unc)")
    data = read_refcoco(tmp_path)
    assert data.records[0].labels == ("both", "both") and data.skipped == {"no_target": 2}


def test_mdetrs_form(tmp_path):
    images = [{**INSTANCES["images"][0], "id": i, "original_id": 5, "caption": text} for i, text in enumerate(("a", "b", "b"))]
    annotations = [{"id": i, "image_id": i, "bbox": [10, 20, 30, 10]} for i in range(3)]
    (tmp_path / "finetune_refcoco+_testA.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    with pytest.raises(DataError, match="which is not in"):
        read_refcoco(tmp_path)
    draw(tmp_path / "elsewhere" / INSTANCES["images"][0]["file_name"])
    (record,) = read_refcoco(tmp_path, "testA", images=tmp_path / "elsewhere").records
    assert record.labels == ("a", "b") and record.image_id == 5  # one phrase for one box counts once


def test_a_pickle_is_never_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "load", lambda *_: pytest.fail("a pickle was loaded"))
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([1]))
    (tmp_path / "instances.json").write_text(json.dumps(INSTANCES))
    with pytest.raises(
        DataError, match=r"refs\(unc\).p: is a pickle, which can run any code and is never loaded; save its list with"
    ) as e:
        read_refcoco(tmp_path)
    assert "parquet" in str(e.value) and "\n" not in str(e.value)


BAD = [
    (reference(2, 99, "x"), "malformed", "reference 2 names an unknown annotation, 99; check the ids against instances.json"),
    (reference(2, [[8]], "x"), "malformed", "names an unknown annotation, [8]"),
    (reference(2, 8, "x", image_id=7), "unknown_picture", "reference 2 names an unknown image, 7"),
    (reference(2, 8, " "), "malformed", "has ' ' as its phrase; give a text"),
    (reference(2, 8, sentences=[{"raw": "x"}]), "malformed", "reference 2 has no 'sent'"),
    (reference(2, 8, sentences=None), "malformed", "has None as 'sentences'"),
    ({"ref_id": 2}, "malformed", "reference 2 has no 'split'"),
    ({"split": "val"}, "malformed", "reference number 2 has no 'image_id'"),
    ("x", "malformed", "reference number 2 is 'x', not an object"),
]


@pytest.mark.parametrize(("bad", "reason", "message"), BAD, ids=lambda v: str(v)[-50:])
def test_bad_references_fail_in_one_line_or_are_skipped_and_counted(tmp_path, bad, reason, message):
    path = write_refcoco(tmp_path, [reference(1, 8, "good"), bad])
    with pytest.raises(DataError) as error:
        read_refcoco(tmp_path, "val")
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value) and "\n" not in str(error.value)
    data = read_refcoco(tmp_path, "val", on_error="skip")
    assert data.skipped == {reason: 1} and data.records[0].labels == ("good",)


@pytest.mark.parametrize(
    ("changes", "reason", "message"),
    [
        ({"annotations": [{"id": 8, "bbox": [0, 0, 0, 1]}]}, "no_area", "must be positive"),
        ({"annotations": [{"id": 8, "bbox": [90, 0, 90, 10]}]}, "outside", "outside its picture"),
        ({"images": [{"id": 5, "file_name": "../x.jpg", "width": 9, "height": 9}]}, "leaves_folder", "leaves the folder"),
        ({"images": [{"id": 5, "file_name": "gone.jpg", "width": 9, "height": 9}]}, "absent", "which is not in"),
        ({"images": [{"id": 5, "file_name": "gone.jpg"}]}, "malformed", "has no 'width'"),
        ({"images": None}, None, "instances.json: not a COCO instances file, it has no list 'images'"),
    ],
)
def test_bad_instances(tmp_path, changes, reason, message):
    write_refcoco(tmp_path, [reference(1, 8, "x")], instances={**INSTANCES, **changes})
    with pytest.raises(DataError, match=message):
        read_refcoco(tmp_path)
    with pytest.raises(DataError, match=f"1 {reason}" if reason else message):
        read_refcoco(tmp_path, on_error="skip")


def test_files_that_are_not_refcoco(tmp_path):
    with pytest.raises(DataError, match="no RefCOCO; looked for"):
        read_refcoco(tmp_path)
    write_refcoco(tmp_path, {"a": 1})
    with pytest.raises(DataError, match="not a list of references"):
        read_refcoco(tmp_path)
    (tmp_path / "instances.json").unlink()
    with pytest.raises(DataError, match="instances.json: no such file"):
        read_refcoco(tmp_path)
    (tmp_path / "instances.json").symlink_to(tmp_path.parent)
    with pytest.raises(DataError, match="is a link that leads out of"):
        read_refcoco(tmp_path)


# --- Visual Genome --------------------------------------------------------------------------------------------------------
PHOTO = {"image_id": 1, "url": "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg", "width": 100, "height": 50}
CAT = {"object_id": 3, "x": 10, "y": 20, "w": 30, "h": 10, "names": ["cat", "kitty"]}
REGION = {"region_id": 4, "image_id": 1, "x": 10, "y": 20, "width": 30, "height": 10, "phrase": "a cat that sits\n"}


def write_genome(folder, objects=(CAT,), regions=(REGION,), data=(PHOTO,)):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "objects.json").write_text(json.dumps([{"image_id": 1, "objects": list(objects)}]))
    (folder / "region_descriptions.json").write_text(json.dumps([{"id": 1, "regions": list(regions)}]))
    (folder / "image_data.json").write_text(json.dumps(list(data)))
    draw(folder / "VG_100K_2" / "1.jpg")


def test_objects_and_regions_of_visual_genome(tmp_path):
    write_genome(tmp_path, [CAT, {**CAT, "object_id": 5, "x": 50}])
    (record,) = read_visual_genome(tmp_path, "objects").records
    assert record.labels == ("cat", "cat") and record.boxes_xyxy_px.tolist() == [[10, 20, 40, 30], [50, 20, 80, 30]]
    assert record.image_path == tmp_path / "VG_100K_2" / "1.jpg" and record.image_id == 1
    data = read_visual_genome(tmp_path, "regions")
    assert data.records[0].labels == ("a cat that sits",) and data.phrases
    with pytest.raises(DataError, match="has the splits objects, regions"):
        read_visual_genome(tmp_path)


@pytest.mark.parametrize(
    ("bad", "reason", "message"),
    [
        ({**CAT, "w": 0}, "no_area", "image 1, object 3 has the box [10, 20, 0, 10]"),
        ({**CAT, "x": -30}, "outside", "outside its picture of 100 x 50"),
        ({**CAT, "names": []}, "malformed", "has None as its phrase"),
        ({"object_id": 3, "names": ["a"]}, "malformed", "has no 'x'"),
        ("x", "malformed", "image 1, object number 2 is 'x', not an object"),
    ],
)
def test_a_bad_object_is_left_out_alone(tmp_path, bad, reason, message):
    write_genome(tmp_path, [CAT, bad])
    with pytest.raises(DataError) as error:
        read_visual_genome(tmp_path, "objects")
    assert message in str(error.value) and str(error.value).startswith(str(tmp_path / "objects.json"))
    data = read_visual_genome(tmp_path, "objects", on_error="skip")
    assert data.records[0].labels == ("cat",) and data.skipped == {reason: 1}


@pytest.mark.parametrize(
    ("photo", "message"),
    [
        ({**PHOTO, "image_id": 2}, "image 1 is not in image_data.json"),
        ({**PHOTO, "image_id": [2]}, "image 1 is not in image_data.json"),
        ({**PHOTO, "url": "gone.jpg"}, "names the picture 'gone.jpg', which is not in"),
        ({**PHOTO, "url": "https://x/../../etc/passwd"}, "which is not in"),
        ({**PHOTO, "url": "https://x/../passwd"}, "leaves the folder"),
        ({**PHOTO, "url": ""}, "as the name of its picture"),
        ({**PHOTO, "width": None}, "has the size None x 50"),
    ],
)
def test_bad_picture_data(tmp_path, photo, message):
    write_genome(tmp_path, data=(photo,))
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        read_visual_genome(tmp_path, "objects")


def test_files_that_are_not_visual_genome(tmp_path):
    with pytest.raises(DataError, match="no Visual Genome; looked for objects.json and region_descriptions.json"):
        read_visual_genome(tmp_path)
    write_genome(tmp_path)
    (tmp_path / "objects.json").write_text("{}")
    with pytest.raises(DataError, match="not a list"):
        read_visual_genome(tmp_path, "objects")
    (tmp_path / "image_data.json").unlink()
    with pytest.raises(DataError, match="image_data.json: no such file; give the path of Visual Genome's image_data.json"):
        read_visual_genome(tmp_path, "regions")
