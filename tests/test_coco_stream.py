"""The streaming reader gives what `read_coco` gives: records, categories, counts, errors; from tiny batches and from bad input."""

import json

import numpy as np
import pytest
from coco_sets import random_set
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coco import BAD, SETS, annotation, coco_of, draw, image, write_coco

import vr1kit.formats.coco_stream
from vr1kit.formats.coco import read_coco, read_coco_folder
from vr1kit.formats.coco_stream import stream_coco, stream_coco_folder
from vr1kit.records import DataError


def as_plain(data):
    records = [
        (str(r.image_path), r.image_id, r.width, r.height, r.boxes_xyxy_px.tolist(), r.labels, r.source, r.ignored, r.truncated)
        for r in data.records
    ]
    return records, dict(data.categories), dict(data.skipped), data.clipped, data.name


def outcome(read):
    try:
        return as_plain(read())
    except DataError as error:
        return str(error)


@pytest.fixture(params=[2, 8192], autouse=True)
def rows(request, monkeypatch):
    """Two pictures a batch, so that boxes are sorted into many files."""
    monkeypatch.setattr(vr1kit.formats.coco_stream, "ROWS", request.param)


@pytest.mark.parametrize("seed", range(12))
def test_random_sets_are_read_alike(tmp_path, seed):
    coco, _ = random_set(seed)
    path = write_coco(tmp_path, coco)
    assert as_plain(stream_coco(path, on_error="skip").to_set()) == as_plain(read_coco(path, on_error="skip"))


@pytest.mark.parametrize("first", ["annotations", "categories", "images"])
def test_the_order_of_the_lists_does_not_matter(tmp_path, first):
    coco, _ = random_set(3)
    path = write_coco(tmp_path, {first: coco[first], "info": {"x": [1, {}]}, **{k: v for k, v in coco.items() if k != first}})
    assert as_plain(stream_coco(path).to_set()) == as_plain(read_coco(path))


@pytest.mark.parametrize("case", BAD, ids=lambda case: str(case[0])[:60])
def test_bad_records_end_alike(tmp_path, case):
    for name in ("7.png", "8.png"):
        draw(tmp_path / "images" / name)
    path = write_coco(tmp_path, **{"images": [image(7), image(8)], "annotations": [], **case[0]})
    for policy in ("fail", "skip"):
        options = {"on_error": policy, "require_pictures": True}
        found = outcome(lambda options=options: stream_coco(path, **options).to_set())
        assert found == outcome(lambda options=options: read_coco(path, **options))


BOX = st.lists(st.sampled_from([0, 1, 5.5, 40, 99, 100, 150, -1, -9]), min_size=4, max_size=4)
ENTRY = st.fixed_dictionaries(
    {"id": st.integers(1, 12), "image_id": st.sampled_from([7, 8, 9, 10]), "category_id": st.sampled_from([3, 3, 3, 4]), "bbox": BOX},
    optional={"iscrowd": st.sampled_from([0, 1, True, None]), "segmentation": st.just([[1, 2], {"counts": "}, {"}])},
)  # fmt: skip
PICTURE = st.builds(lambda i, w: image(i, width=w), st.sampled_from([7, 8, 9]), st.sampled_from([100, 100, 0]))


@settings(max_examples=150, deadline=None)
@given(images=st.lists(PICTURE, max_size=4), boxes=st.lists(ENTRY, max_size=10))
def test_faults_of_all_kinds_at_once_are_counted_alike(tmp_path_factory, images, boxes):
    path = write_coco(tmp_path_factory.mktemp("coco"), images=images, annotations=boxes)
    found = outcome(lambda: stream_coco(path, on_error="skip").to_set())
    assert found == outcome(lambda: read_coco(path, on_error="skip"))
    failed = [outcome(lambda read=read: read(path)) for read in (lambda p: stream_coco(p).to_set(), read_coco)]
    assert isinstance(failed[0], str) == isinstance(failed[1], str)  # which of several faults is named first may differ


@pytest.mark.parametrize("cut", [0, 1, 30, 120, -30, -2, -1])
def test_broken_json_says_at_which_byte(tmp_path, cut):
    path = write_coco(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"annotations.json: not JSON, .* at byte \d+; fetch the file again"):
        stream_coco(path)


@pytest.mark.parametrize(("form", "file", "name", "picture", "split", "asked"), SETS, ids=lambda v: str(v)[:40])
def test_each_layout_is_read_alike(tmp_path, form, file, name, picture, split, asked):
    write_coco(tmp_path, coco_of(name), file)
    draw(tmp_path / picture)
    for each in asked:
        assert as_plain(stream_coco_folder(tmp_path, each).to_set()) == as_plain(read_coco_folder(tmp_path, each))
    (tmp_path / picture).unlink()
    with pytest.raises(DataError, match="which is not in"):
        stream_coco_folder(tmp_path)


def test_an_empty_set_and_an_absent_file(tmp_path):
    with pytest.raises(DataError, match="the set is empty, it has no pictures"):
        stream_coco(write_coco(tmp_path, images=[], annotations=[])).to_set()
    with pytest.raises(DataError, match="no such file"):
        stream_coco(tmp_path / "absent.json")


def test_memory_does_not_grow_with_the_boxes(tmp_path):
    """What Python holds at the most, by tracemalloc: four times the boxes, the same peak but for some bytes a picture."""
    import tracemalloc

    def peak(times):
        boxes = [
            annotation(k, 1 + k % (100 * times), bbox=[1, 2, 3.25, 4], segmentation=[[0.5] * 60]) for k in range(20_000 * times)
        ]
        path = write_coco(tmp_path, images=[image(k + 1) for k in range(100 * times)], annotations=boxes, file=f"{times}.json")
        del boxes
        stream = stream_coco(path)
        tracemalloc.start()
        count = sum(batch.num_rows for batch in stream.batches)
        high = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == 100 * times
        return high

    if vr1kit.formats.coco_stream.ROWS == 2:
        assert peak(4) < 1.2 * peak(1) + 2**20


def test_numbers_keep_their_last_digit(tmp_path):
    value = 0.1 + 0.2
    path = write_coco(tmp_path, annotations=[annotation(1, bbox=[value, 1e-3, 1 / 3, 7])])
    (record,) = stream_coco(path).to_set().records
    assert np.array_equal(record.boxes_xyxy_px, read_coco(path).records[0].boxes_xyxy_px)
    assert json.loads(path.read_text())["annotations"][0]["bbox"][0] == record.boxes_xyxy_px[0, 0]
