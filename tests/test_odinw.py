"""ODINW's names and folders as data, and the reader of a suite."""

import re

import numpy as np
import pytest
from test_coco import annotation, coco_of, draw, write_coco

from vr1kit.asking import Answer
from vr1kit.cli import main
from vr1kit.formats.odinw import ODINW_13, ODINW_35, RENAMED, SETS, find_suite, read_odinw
from vr1kit.prompts import write_answer
from vr1kit.records import DataError
from vr1kit.reporting.comparison import read_sets

FLAT = ("boggleBoards", "dice", "pistols", "selfdrivingCar")  # GLIP: annotations of all splits beside the pictures


def write_set(root, name, split="valid", **changes):
    folder = root / next(each.folder for each in SETS if each.name == name)
    if name in FLAT:
        write_coco(folder, coco_of("a.jpg", **changes), f"{split.removesuffix('id')}_annotations_without_background.json")
        draw(folder / "a.jpg")
    else:
        write_coco(folder, coco_of("a.jpg", **changes), f"{split}/annotations_without_background.json")
        draw(folder / split / "a.jpg")


def test_thirteen_of_thirtyfive_with_folders_of_their_own():
    assert len(ODINW_35) == len(set(ODINW_35)) == len({each.folder for each in SETS}) == 35
    assert len(ODINW_13) == len(set(ODINW_13)) == 13 and set(ODINW_13) < set(ODINW_35)
    assert sum(each.glip_test == "mini_val" for each in SETS) == 11 and set(RENAMED) < set(ODINW_35)


def test_a_suite_is_read_in_its_order_whatever_its_files_are_called(tmp_path):
    for name in ODINW_35:
        write_set(tmp_path, name)
    for suite in (ODINW_13, ODINW_35):
        sets = read_odinw(tmp_path, suite=suite)
        assert tuple(sets) == suite and all(data.name == name for name, data in sets.items())
    assert sets["pistols"].annotations.name == "val_annotations_without_background.json"


def test_glip_tests_some_sets_on_a_smaller_split(tmp_path):
    for split in ("valid", "mini_val"):
        write_set(tmp_path, "EgoHands_generic", split)
        write_set(tmp_path, "Packages", split)
    sets = read_odinw(tmp_path, "glip", ("EgoHands_generic", "Packages"))
    assert [data.annotations.parent.name for data in sets.values()] == ["mini_val", "valid"]
    assert read_odinw(tmp_path, "valid", ("EgoHands_generic",))["EgoHands_generic"].annotations.parent.name == "valid"


def test_categories_keep_the_files_names_unless_glips_are_asked_for(tmp_path):
    categories = [{"id": 1, "name": "CoW"}, {"id": 2, "name": "chanterelle"}]
    name = "NorthAmericaMushrooms"
    write_set(tmp_path, name, categories=categories, annotations=[annotation(1, category_id=2)])
    assert read_odinw(tmp_path, suite=(name,))[name].categories == {"CoW": 1, "chanterelle": 2}
    data = read_odinw(tmp_path, suite=(name,), renamed=True)[name]
    assert data.categories == {"flat mushroom": 1, "yellow mushroom": 2} and data.records[0].labels == ("yellow mushroom",)
    write_set(tmp_path, name, categories=[*categories, {"id": 3, "name": "flat mushroom"}], annotations=[])
    with pytest.raises(DataError, match="cannot be renamed"):
        read_odinw(tmp_path, suite=(name,), renamed=True)


def test_absent_sets_are_named_together(tmp_path):
    write_set(tmp_path, "Packages")
    with pytest.raises(DataError, match="2 of 3 ODINW sets are not there: pothole, EgoHands/generic; fetch them"):
        read_odinw(tmp_path, suite=("Packages", "pothole", "EgoHands_generic"))
    with pytest.raises(ValueError, match="no ODINW set is called Cats; there are AerialMaritimeDrone_large"):
        read_odinw(tmp_path, suite=("Cats",))
    with pytest.raises(DataError, match="has no split 'train'; it has valid"):
        read_odinw(tmp_path, "train", ("Packages",))


def test_the_command_asks_all_sets_and_says_their_mean(tmp_path, monkeypatch, capsys):
    """With a policy that finds the pothole and nothing else."""

    def answer(policy, paths, prompts, **options):
        boxes, _ = policy.write_boxes(np.array([[10.0, 20, 40, 30]]), 96, 96)
        return [[Answer(write_answer(boxes, ["cat"]) if "pothole" in path else "[]", [], [])] for path in paths]

    monkeypatch.setattr("vr1kit.asking.answer_queries", answer)
    images = [{"id": 7, "file_name": "a.jpg", "width": 96, "height": 96}]
    for name in ODINW_13:
        write_set(tmp_path / "ODINW", name, images=images)
        write_set(tmp_path / "ODINW", name, "mini_val", images=images)
    command = ["evaluate", "--model", "mixed", "--data", str(tmp_path / "ODINW"), "--out", str(tmp_path / "before")]
    assert main([*command, "--suite", "odinw13", "--protocol", "present"]) == 0
    said = capsys.readouterr().out
    values = {name: step.metrics()["AP"] for name, step in read_sets(tmp_path / "before").items()}
    assert values.pop("pothole") > 65 and set(values.values()) == {0}
    match = re.fullmatch(r"mean of 13, protocol present, score constant: AP (\S+)  \[(\S+), (\S+)\]", said.splitlines()[-1])
    mean, low, high = map(float, match.groups())
    assert 5 < mean < 8 and low == high == mean, "one picture a set: a resample is the same again"
    assert {path.name for path in (tmp_path / "before").iterdir()} == set(ODINW_13)
    assert main([*command, "--suite", "odinw35"]) == 2
    error = capsys.readouterr().err
    assert "22 of 35 ODINW sets are not there: AerialMaritimeDrone/tiled" in error and error.count("\n") == 1
    assert main([*command, "--suite", "odinw14"]) == 2
    assert "suite must be one of odinw13, odinw35" in capsys.readouterr().err
    assert find_suite(tmp_path / "ODINW", "odinw13", "glip")["EgoHands_generic"][1] == "mini_val"
