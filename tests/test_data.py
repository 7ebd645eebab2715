from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vr1kit.data import DataError, DetectionSet, Part, Record, ask, curate, decode_images, read_coco, read_image, to_dataset
from vr1kit.filters import Limits, describe_shares
from vr1kit.scenes import TOYBOX, draw_scene


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


# --- hard samples, negatives, quotas ----------------------------------------------------------------------------------------
def record(image_id, n, source="set", labels=None, **changes):
    boxes = np.asarray([[10.0 * i, 0, 10.0 * i + 8, 9] for i in range(n)]).reshape(-1, 4)
    labels = tuple(labels or ["cat"] * n)
    return Record(Path(f"{source}/{image_id}.png"), image_id, 400, 50, boxes, labels, source, **changes)


def set_of(name, counts, categories=("cat", "dog"), **changes):
    records = tuple(record(i, n, name) for i, n in enumerate(counts))
    return DetectionSet(name, Path(name), records, {label: i for i, label in enumerate(categories)}, **changes)


def test_half_of_the_pictures_may_have_to_be_hard_in_each_source():
    sets = {name: set_of(name, [3] * 20 + [15] * 20 + [0] * 9) for name in ("a", "b")}
    examples, dropped = curate(sets, [Part("p", ("a", "b"), "detection", 20, hard=0.5, negatives=0.2)], seed=3)
    assert describe_shares(len(e.labels) for e in examples) == {"hard": 0.5, "negatives": 0.2} and not dropped
    for name in sets:
        own = [len(e.labels) for e in examples if e.record.source == name]
        assert len(own) == 10 and sum(n > 10 for n in own) == 5 and own.count(0) == 2
    assert len({(e.record.source, e.record.image_id) for e in examples}) == 20
    again, _ = curate(sets, [Part("p", ("a", "b"), "detection", 20, hard=0.5, negatives=0.2)], seed=3)
    assert [e.record.image_id for e in again] == [e.record.image_id for e in examples]


def test_quotas_say_how_many_of_each_source():
    sets = {name: set_of(name, [2] * 9) for name in ("a", "b", "c")}
    examples, _ = curate(sets, [Part("p", ("a", "b", "c"), "detection", 9, quotas=(6, 0, 3))], seed=0)
    assert [sum(e.record.source == name for e in examples) for name in sets] == [6, 0, 3]


def test_negatives_of_grounding_ask_for_what_is_not_there():
    sets = {"a": set_of("a", [2] * 9)}
    examples, _ = curate(sets, [Part("p", ("a",), "grounding", 6, negatives=0.5)], seed=0)
    negatives = [e for e in examples if not e.labels]
    assert len(negatives) == 3 and all("Locate every dog" in e.prompt and e.boxes_xyxy_px.shape == (0, 4) for e in negatives)
    with pytest.raises(DataError, match="has a picture with all its categories, .*; ask for negatives in detection"):
        curate({"a": set_of("a", [2], ["cat"])}, [Part("p", ("a",), "grounding", 1, negatives=1)], seed=0)


def test_a_picture_with_nothing_but_a_crowd_is_no_negative():
    crowd = replace(set_of("a", []), records=(record(1, 0, ignored=1), record(2, 0)))
    examples, dropped = curate({"a": crowd}, [Part("p", ("a",), "detection", 1, negatives=1)], seed=0)
    assert [e.record.image_id for e in examples] == [2]
    assert dropped == [{"source": "a", "image_id": 1, "reason": "too few"}]
    _, dropped = curate({"a": crowd}, [], seed=0)
    assert len(dropped) == 2, "kept only where a part asks for negatives"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hard": 1.5}, "hard must be a share between 0 and 1"),
        ({"hard": 0.7, "negatives": 0.4}, "are more than the whole of part 'p'"),
        ({"quotas": (3,)}, "one number for each source and 4 in all"),
        ({"quotas": (3, 2)}, "one number for each source and 4 in all"),
        ({"quotas": (5, -1)}, "one number for each source and 4 in all"),
    ],
)
def test_parts_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        Part("p", ("a", "b"), "detection", 4, **options)


def test_a_source_without_enough_of_a_kind_is_named():
    with pytest.raises(DataError, match=r"source 'a' has too few pictures that are hard for part 'p' \(4\)"):
        curate({"a": set_of("a", [2] * 9)}, [Part("p", ("a",), "detection", 4, hard=0.5)], seed=0)
    with pytest.raises(DataError, match="too few pictures that are negative"):
        curate({"a": set_of("a", [2] * 9)}, [Part("p", ("a",), "detection", 4, negatives=0.5)], seed=0)
    with pytest.raises(DataError, match="source 'b' has too few pictures for part"):
        curate({"a": set_of("a", [2] * 9)}, [Part("p", ("b",), "detection", 4)], seed=0)


def test_phrases_are_asked_for_one_at_a_time():
    sets = {"ref": set_of("ref", [2] * 3, (), phrases=True)}
    examples, _ = curate(sets, [Part("p", ("ref",), "grounding", 3)], seed=0)
    assert all(e.task == "grounding" and "Locate every cat" in e.prompt for e in examples)
    for part in (Part("p", ("ref",), "detection", 1), Part("p", ("ref",), "grounding", 1, negatives=1)):
        with pytest.raises(DataError, match="'ref' has phrases for some objects only; make it a grounding part"):
            curate(sets, [part], seed=0)


def test_published_questions_are_asked_as_they_are():
    example = ask(record(1, 2, prompt="Outline the position of each cat."), ["cat"])
    assert example.task == "published" and example.prompt == "Outline the position of each cat." and len(example.labels) == 2
    assert ask(example.record, ["cat"], "cat").task == "grounding"


def test_limits_are_the_filters(tmp_path):
    data = set_of("a", [2, 40, 0])
    _, dropped = curate({"a": data}, [], seed=0, limits=Limits(max_instances=50, max_area=0.001))
    assert [d["reason"] for d in dropped] == ["degenerate", "degenerate", "too few"]


def test_a_broken_picture_is_one_line(tmp_path):
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(DataError, match="a.png: the picture is no picture of a known format"):
        read_image(str(tmp_path / "a.png"))
