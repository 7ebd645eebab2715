"""Any dataset by its folder: each format is recognised, nothing else is, and broken input never ends in another error."""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_coco import coco_of, draw, write_coco
from test_hub_sets import row, write_parquet
from test_phrase_sets import INSTANCES, reference, write_genome, write_refcoco
from test_voc import write_kit
from test_yolo import write_set

from vr1kit.formats.coco import read_coco
from vr1kit.formats.phrase_sets import read_refcoco, read_visual_genome
from vr1kit.formats.readers import FORMATS, open_dataset
from vr1kit.records import DataError, describe_counts
from vr1kit.scenes import write_scenes


def make_coco(folder):
    write_coco(folder, coco_of("a.jpg"), "annotations/instances_val2017.json")
    draw(folder / "val2017" / "a.jpg")


def make_refcoco(folder):
    write_refcoco(folder, [reference(1, 8, "left cat")])


def make_hub(folder):
    write_parquet(folder / "data" / "val-00000-of-00001.parquet", [row()])


MAKERS = {
    "coco": (make_coco, "val"),
    "refcoco": (make_refcoco, "val"),
    "visual_genome": (write_genome, "objects"),
    "hub": (make_hub, "val"),
    "voc": (write_kit, "val"),
    "yolo": (write_set, "val"),
}


@pytest.mark.parametrize("form", MAKERS)
def test_each_format_is_recognised_and_read_to_one_schema(tmp_path, form):
    make, split = MAKERS[form]
    folder = tmp_path / "some" / "folder"
    make(folder)
    below = {"folder": open_dataset(folder, split), "some": open_dataset(tmp_path / "some", split)}  # one folder deeper
    for name, data in {**below, "mine": open_dataset(str(folder), split, name="mine", format=form)}.items():
        (record,) = data.records
        assert (record.width, record.height) == (100, 50) and record.image_path.is_file()
        assert record.boxes_xyxy_px.shape == (len(record.labels), 4) and len(record.labels) > 0
        assert record.boxes_xyxy_px[0] == pytest.approx([10, 20, 40, 30])  # every fixture's first box
        assert data.phrases or set(record.labels) <= set(data.categories)
        assert record.source == data.name == name


def test_every_format_has_a_fixture():
    assert set(MAKERS) == {each.name for each in FORMATS}


def test_scenes_are_a_dataset_like_any_other(tmp_path):
    write_scenes(tmp_path, "toybox", range(2))
    assert len(open_dataset(tmp_path).records) == 2
    (tmp_path / "images" / "toybox_0000000.png").unlink()
    data = open_dataset(tmp_path, on_error="skip")
    assert len(data.records) == 1 and describe_counts(data.skipped) == "1 absent"


def test_an_unknown_folder_says_what_was_looked_for_and_what_is_there(tmp_path):
    with pytest.raises(DataError, match="found nothing"):
        open_dataset(tmp_path)
    for name in ("notes.txt", "new\nline"):
        (tmp_path / name).write_text("")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError) as error:
        open_dataset(tmp_path)
    message = str(error.value)
    assert "\n" not in message and all(each.looked_for in message for each in FORMATS)
    assert message.endswith("found new\\nline, notes.txt, other/, pictures/")
    for i in range(20):
        (tmp_path / f"{i:02}").write_text("")
    with pytest.raises(DataError, match="and 12 more"):
        open_dataset(tmp_path)


def test_files_absent_folders_and_formats_that_are_none(tmp_path):
    path = write_coco(tmp_path)
    with pytest.raises(DataError, match="is a file; give its folder, or use read_coco"):
        open_dataset(path)
    with pytest.raises(DataError, match="no such folder"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(ValueError, match="format must be one of coco, refcoco"):
        open_dataset(tmp_path, format="tfrecord")
    with pytest.raises(ValueError, match="on_error must be one of"):
        open_dataset(tmp_path, on_error="ignore")


def test_a_folder_that_is_two_formats_is_not_guessed(tmp_path):
    make_coco(tmp_path)
    write_set(tmp_path)
    with pytest.raises(DataError, match="is coco and yolo at once; name one of them with format=NAME, such as 'coco'"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, format="yolo").records[0].labels == ("dog",)


def test_the_folder_of_all_odinw_sets_points_to_its_reader(tmp_path):
    for name in ("pothole", "Packages/Raw"):
        write_coco(tmp_path / name, coco_of("a.jpg"), "valid/annotations_without_background.json")
        draw(tmp_path / name / "valid" / "a.jpg")
    with pytest.raises(DataError, match="holds 2 sets of ODINW; use read_odinw"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path / "Packages").records  # one folder in between


# --- whatever is in the files, the error is ours --------------------------------------------------------------------------
ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 12)
    | st.floats()
    | st.sampled_from(["", "a.jpg", "../x", "/x", "\0", "cat", "val", "7"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "bbox", "x"]), inner, max_size=2),
    max_leaves=6,
)


def places(value, path=()):
    """Where something can be replaced: every place of a JSON value but the whole."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def replaced(value, path, new):
    value = json.loads(json.dumps(value))
    at = value
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = new
    return value


def assert_ours(read):
    for policy in ("fail", "skip"):
        try:
            data = read(policy)
        except DataError as error:
            assert "\n" not in str(error) and len(str(error)) < 1500
        else:
            for record in data.records:
                assert (record.boxes_xyxy_px >= 0).all() and (record.boxes_xyxy_px[:, ::2] <= record.width).all()


FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@FUZZ
@given(data=st.data())
def test_broken_coco_is_a_data_error(tmp_path_factory, data):
    good = coco_of("a.jpg", images=[*coco_of("a.jpg")["images"], {"id": 8, "file_name": "a.jpg", "width": 9, "height": 9}])
    folder = tmp_path_factory.mktemp("coco")
    coco = replaced(good, data.draw(st.sampled_from(list(places(good)))), data.draw(ANY))
    path = write_coco(folder, coco)
    draw(folder / "images" / "a.jpg")
    assert_ours(lambda policy: read_coco(path, on_error=policy, require_pictures=True))
    shutil.rmtree(folder)


@FUZZ
@given(data=st.data())
def test_broken_refcoco_is_a_data_error(tmp_path_factory, data):
    good = {"refs": [reference(1, 8, "a"), reference(2, [9], "b")], "instances": INSTANCES}
    broken = replaced(good, data.draw(st.sampled_from([p for p in places(good) if len(p) > 1])), data.draw(ANY))
    folder = tmp_path_factory.mktemp("refcoco")
    write_refcoco(folder, broken["refs"], instances=broken["instances"])
    assert_ours(lambda policy: read_refcoco(folder, "val", on_error=policy))
    shutil.rmtree(folder)


@FUZZ
@given(data=st.data())
def test_broken_visual_genome_is_a_data_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("genome")
    write_genome(folder)
    name = data.draw(st.sampled_from(["objects.json", "region_descriptions.json", "image_data.json"]))
    good = json.loads((folder / name).read_text())
    broken = replaced(good, data.draw(st.sampled_from(list(places(good)))), data.draw(ANY))
    (folder / name).write_text(json.dumps(broken))
    for split in ("objects", "regions"):
        assert_ours(lambda policy, split=split: read_visual_genome(folder, split, on_error=policy))
    shutil.rmtree(folder)


@FUZZ
@given(solution=ANY, maps=ANY)
def test_broken_vision_r1_rows_are_data_errors(tmp_path_factory, solution, maps):
    folder = tmp_path_factory.mktemp("hub")
    write_parquet(folder / "a.parquet", [row(), row(solution=json.dumps(solution), target_id_maps=json.dumps(maps))])
    assert_ours(lambda policy: open_dataset(folder, on_error=policy))
    shutil.rmtree(folder)


@FUZZ
@given(text=st.text(st.sampled_from("01 .-\nnaeif9"), max_size=40))
def test_broken_yolo_lines_are_data_errors(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("yolo")
    write_set(folder, text)
    assert_ours(lambda policy: open_dataset(folder, on_error=policy))
    shutil.rmtree(folder)


@FUZZ
@given(cut=st.integers(0, 400), new=st.binary(max_size=6))
def test_broken_xml_is_a_data_error(tmp_path_factory, cut, new):
    folder = tmp_path_factory.mktemp("voc")
    path = write_kit(folder)
    content = path.read_bytes()
    path.write_bytes(content[:cut] + new + content[cut + len(new) :])
    assert_ours(lambda policy: open_dataset(folder, on_error=policy))
    shutil.rmtree(folder)
