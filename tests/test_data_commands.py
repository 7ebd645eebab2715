"""`vr1kit curate`, `leakage` and `doctor` from folders: every kind of bad input under both policies, with its count in the card."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from test_coco import annotation, draw, image, write_coco

from vr1kit import cli
from vr1kit.curation.shards import list_shards, stream_examples
from vr1kit.scenes import write_scenes


def huge_png(path, side=50_000):
    """A header of side x side and no pixels: what a decoder would believe."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))


def truncate(path):
    noise = np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:900])


PICTURES = {  # what is wrong with 8.png -> how it is made
    "truncated": truncate,
    "too_large": huge_png,
    "cmyk": lambda path: Image.new("CMYK", (100, 50)).save(path, "JPEG"),
    "deep_colour": lambda path: Image.new("I;16", (100, 50)).save(path),
    "unreadable": lambda path: path.write_text("<html>"),
    "picture_size": lambda path: Image.new("RGB", (50, 25)).save(path),
}
RECORDS = {  # what is wrong -> changes to the file; the record that a message names
    "absent": ({"images": [image(7), image(8, file_name="gone.png")]}, "image 8"),
    "outside": ({"annotations": [annotation(1), annotation(2, 8, bbox=[200, 0, 9, 9])]}, "annotation 2"),
    "no_area": ({"annotations": [annotation(1), annotation(2, 8, bbox=[9, 9, -5, 4])]}, "annotation 2"),
    "not_finite": ({"annotations": [annotation(1), annotation(2, 8, bbox=[0, 0, float("nan"), 1])]}, "annotation 2"),
    "unknown_category": ({"annotations": [annotation(1), annotation(2, 8, category_id=9)]}, "annotation 2"),
    "duplicate_id": ({"annotations": [annotation(2), annotation(2, 8)]}, "annotation 2"),
    "unknown_picture": ({"annotations": [annotation(1), annotation(2, 99)]}, "annotation 2"),
    "leaves_folder": ({"images": [image(7), image(8, file_name="../8.png")]}, "image 8"),
    "malformed": ({"images": [image(7), image(8, file_name=3)]}, "image 8"),
}


def make(folder, **changes):
    for name in ("7.png", "8.png"):
        draw(folder / "images" / name)
    boxes = [annotation(1), annotation(2, 8)]
    return write_coco(folder, **{"images": [image(7), image(8)], "annotations": boxes, **changes})


def curate(folder, *words):
    return cli.main(["curate", str(folder), "--out", str(folder / "out"), "--min-side-px", "1", *words])


def complaint(capsys):
    error = capsys.readouterr().err
    assert error.startswith("vr1kit: ") and error.count("\n") == 1 and "; " in error, "one line, with a remedy"
    return error


@pytest.mark.parametrize("reason", RECORDS)
def test_a_bad_record_stops_or_is_counted_in_the_card(tmp_path, capsys, reason):
    changes, which = RECORDS[reason]
    path = make(tmp_path, **changes)
    assert curate(tmp_path) == 2
    error = complaint(capsys)
    assert str(path) in error and which in error
    assert curate(tmp_path, "--on-error", "skip") == 0
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["sources"][0]["skipped"] == {reason: 1}
    assert f"| 1 {reason} |" in (tmp_path / "out" / "README.md").read_text()
    assert 7 in [example.record.image_id for example in stream_examples(tmp_path / "out")]


@pytest.mark.parametrize("reason", PICTURES)
def test_a_bad_picture_stops_or_is_counted_in_the_card(tmp_path, capsys, reason):
    make(tmp_path)
    PICTURES[reason](tmp_path / "images" / "8.png")
    assert curate(tmp_path, "--check-pictures") == 2
    assert str(tmp_path / "images" / "8.png") in complaint(capsys)
    assert curate(tmp_path, "--check-pictures", "--on-error", "skip") == 0
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert card["sources"][0]["skipped"] == {reason: 1} and card["curated"]["pictures"] == 1


def test_empty_sets_and_broken_json_stop_under_either_policy(tmp_path, capsys):
    path = make(tmp_path, images=[], annotations=[])
    for policy in ("fail", "skip"):
        assert curate(tmp_path, "--on-error", policy) == 2
        assert "the set is empty, it has no pictures" in complaint(capsys)
    path.write_text('{"images": [{"id": 1}, {')
    for policy in ("fail", "skip"):
        assert curate(tmp_path, "--on-error", policy) == 2
        assert "not JSON" in (error := complaint(capsys)) and "at byte 24" in error
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_filters_leave_nothing_or_something(tmp_path, capsys):
    make(tmp_path)
    assert curate(tmp_path, "--min-instances", "2") == 2
    assert "the curated set is empty; loosen the filters" in complaint(capsys)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder / "train", "toybox", range(12))
    write_scenes(folder / "test", "toybox", range(9, 14))
    return folder


def test_a_mix_is_chosen_shuffled_and_made_again_the_same(scenes, tmp_path, capsys):
    def mix(out, seed):
        words = ["curate", f"a={scenes / 'train'}", f"b={scenes / 'test'}", "--n", "8", "--quotas", "6", "2", "--balanced"]
        assert cli.main([*words, "--seed", str(seed), "--out", str(tmp_path / out)]) == 0
        return [path.read_bytes() for path in list_shards(tmp_path / out)]

    assert mix("one", 1) == mix("again", 1) != mix("two", 2)
    card = json.loads((tmp_path / "one" / "card.json").read_text())
    assert card["curated"]["sources"] == {"a": 6, "b": 2} and card["made"]["seed"] == 1
    paths = [str(example.record.image_path) for example in stream_examples(tmp_path / "one")]
    assert all((scenes / path).is_file() for path in paths), "relative to what both folders have in common"
    for picture in ("contact_sheet.png", "histograms.png"):
        assert Image.open(tmp_path / "one" / picture).size[0] > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "several sets are a mix; say how many pictures with --n"),
        (["--hard", "0.5"], "--hard is about choosing pictures; say how many with --n"),
        (["--recipe", "mine"], "there is no recipe 'mine'; there are paper_49k"),
        (["--recipe", "paper_49k", "--scale", "0.001"], "source 'coco' has too few pictures that are"),
    ],
)
def test_options_that_do_not_go_together(scenes, tmp_path, capsys, words, message):
    assert cli.main(["curate", str(scenes / "train"), str(scenes / "test"), "--out", str(tmp_path / "o"), *words]) == 2
    assert message in complaint(capsys)


def test_two_sets_of_one_name(scenes, tmp_path, capsys):
    assert cli.main(["curate", str(scenes / "train"), str(scenes / "train"), "--n", "2", "--out", str(tmp_path / "o")]) == 2
    assert "two sets are called 'train'; give them names: NAME=" in complaint(capsys)


def test_what_leaks_is_reported_and_left_out(scenes, tmp_path, capsys):
    report = tmp_path / "leaks.csv"
    words = ["leakage", str(scenes / "train"), "--against", str(scenes / "test"), "--out", str(report)]
    assert cli.main(words) == 0
    assert "3 exact and 0 perceptual matches of 5 pictures (60.00%)" in capsys.readouterr().out
    for extra, pictures in (([], 9), (["--n", "9"], 9)):
        assert (
            cli.main(
                [
                    "curate",
                    str(scenes / "train"),
                    "--max-instances",
                    "99",
                    "--min-side-px",
                    "1",
                    "--exclude",
                    str(report),
                    "--out",
                    str(tmp_path / "o"),
                    *extra,
                ]
            )
            == 0
        )
        names = {example.record.image_path.name for example in stream_examples(tmp_path / "o")}
        assert len(names) == pictures and not names & {f"toybox_{k:07}.png" for k in (9, 10, 11)}
    report.write_text("a,b\n1,2\n")
    assert cli.main(["curate", str(scenes / "train"), "--exclude", str(report), "--out", str(tmp_path / "o")]) == 2
    assert "not a leakage report" in complaint(capsys)


def test_the_doctor_names_the_space_and_its_exit_code_says_whether_all_is_well(scenes, tmp_path, capsys):
    coco = json.loads((scenes / "train" / "annotations.json").read_text())
    names = {each["id"]: each["name"] for each in coco["categories"]}
    lines = []
    for picture in coco["images"]:
        own = [each for each in coco["annotations"] if each["image_id"] == picture["id"]]
        scale = 1000 / picture["width"], 1000 / picture["height"]
        items = [
            {
                "bbox_2d": [round(x * scale[0]), round(y * scale[1]), round((x + w) * scale[0]), round((y + h) * scale[1])],
                "label": names[each["category_id"]],
            }
            for each in own
            for x, y, w, h in [each["bbox"]]
        ]
        lines.append(json.dumps({"image_id": picture["id"], "completion": json.dumps(items)}))
    (tmp_path / "answers.jsonl").write_text("\n".join(lines))
    words = ["doctor", str(scenes / "train"), "--answers", str(tmp_path / "answers.jsonl")]
    assert cli.main([*words, "--coordinates", "pixels"]) == 1
    out = capsys.readouterr().out
    assert "problem" in out and "answers are in norm1000, not in pixels" in out and "read them with --coordinates norm1000" in out
    assert cli.main([*words, "--coordinates", "norm1000"]) == 0
    assert "labels are categories" in capsys.readouterr().out
    assert cli.main(words[:2]) == 2
    assert "nothing to look at; give --answers, --model or --processor" in complaint(capsys)


@pytest.mark.slow
def test_the_doctor_asks_a_model(scenes, capsys):
    assert cli.main(["doctor", str(scenes / "train"), "--model", "converged", "--pictures", "4"]) == 0
    assert "answers are in model-input" in capsys.readouterr().out
