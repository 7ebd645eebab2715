"""Corrupted input of many kinds: each ends in one line that names the thing and says what to do; never in a traceback,
a hang, or a result."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from vr1kit import cli
from vr1kit.data import read_coco, read_image
from vr1kit.formats.images import check_pictures
from vr1kit.models import POLICIES, PolicyError, load_policy
from vr1kit.records import DataError
from vr1kit.runs import open_run
from vr1kit.safekeeping.files import RunError

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 50}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 10], "area": 300, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "cat"}],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    Image.new("RGB", (100, 50), "red").save(tmp_path / "a.png")
    write(tmp_path)
    return tmp_path


def write(folder: Path, coco=COCO) -> None:
    (folder / "annotations.json").write_text(coco if isinstance(coco, str) else json.dumps(coco))


def with_(part: str, **changes) -> dict:
    """COCO with the only entry of a part changed."""
    return {**COCO, part: [{**COCO[part][0], **changes}]}


# --- annotations -------------------------------------------------------------------------------------------------------------

ANNOTATIONS = {
    "cut off": json.dumps(COCO)[:-20],
    "empty": "",
    "a list": "[]",
    "nested without end": "[" * 100_000,
    "a number of thousands of digits": '{"images": ' + "9" * 10_000 + "}",
    "no images": {key: value for key, value in COCO.items() if key != "images"},
    "images that are none": {**COCO, "images": [3]},
    "a box of text": with_("annotations", bbox="10 20 30 10"),
    "a box of three numbers": with_("annotations", bbox=[10, 20, 30]),
    "a box that is not finite": with_("annotations", bbox=[10, 20, float("nan"), 10]),
    "a box outside the picture": with_("annotations", bbox=[400, 20, 30, 10]),
    "a category that is none": with_("annotations", category_id=7),
    "a picture that is none": with_("annotations", image_id=7),
    "a picture of no size": with_("images", width=0),
    "a picture's name that leaves the folder": with_("images", file_name="../../secret"),
    "a picture whose name is a number": with_("images", file_name=3),
    "a category without a name": with_("categories", name=None),
}


@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_annotations(folder, kind):
    write(folder, ANNOTATIONS[kind])
    is_one_clear_line(DataError, lambda: read_coco(folder / "annotations.json"), "annotations.json")


def test_annotations_that_are_no_text(folder):
    (folder / "annotations.json").write_bytes(b"\x80\x04\x95 a pickle")
    is_one_clear_line(DataError, lambda: read_coco(folder / "annotations.json"), "annotations.json")


# --- pictures ----------------------------------------------------------------------------------------------------------------


def huge_png(side: int) -> bytes:
    """A PNG of a few bytes whose header claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


PICTURES = {
    "cut off": lambda whole: whole[:-40],
    "of other bytes": lambda whole: b"GIF89a" + whole,
    "empty": lambda whole: b"",
    "a bomb": lambda whole: huge_png(60_000),
    "with damaged pixels": lambda whole: whole[:45] + bytes(b ^ 255 for b in whole[45:60]) + whole[60:],
    "of another size than annotated": None,
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(folder, kind):
    path = folder / "a.png"
    if kind == "of another size than annotated":
        Image.new("RGB", (99, 50)).save(path)
    else:
        path.write_bytes(PICTURES[kind](path.read_bytes()))
        is_one_clear_line(DataError, lambda: read_image(str(path)), "a.png")
    is_one_clear_line(DataError, lambda: check_pictures(read_coco(folder / "annotations.json")), "a.png")


# --- checkpoints -------------------------------------------------------------------------------------------------------------


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def drop_a_weight(path: Path) -> None:
    weights = load_file(path)
    weights.pop(next(name for name in sorted(weights) if "layers" in name))
    save_file(weights, path, {"format": "pt"})


def reshape_a_weight(path: Path) -> None:
    weights = load_file(path)
    name = next(name for name in sorted(weights) if "layers" in name)
    weights[name] = np.zeros((3, 3), np.float32)
    save_file(weights, path, {"format": "pt"})


class Payload:
    """A pickle of this writes a file when it is loaded."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return Path.touch, (Path(self.target),)


def pickle_the_weights(folder: Path) -> None:
    import pickle

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(folder.parent / "ran")))


def bring_code(folder: Path) -> None:
    (folder / "evil.py").write_text(f"from pathlib import Path\nPath({str(folder.parent / 'ran')!r}).touch()\n")
    names = {"AutoConfig": "evil.Config", "AutoModelForImageTextToText": "evil.Model", "AutoProcessor": "evil.Processor"}
    edit_json(folder / "config.json", auto_map=names, model_type="evil")


CHECKPOINTS = {
    "weights cut off": lambda f: cut(f / "model.safetensors"),
    "weights of other bytes": lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 1000),
    "a weight missing": lambda f: drop_a_weight(f / "model.safetensors"),
    "a weight of another shape": lambda f: reshape_a_weight(f / "model.safetensors"),
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "weights that are a pickle": pickle_the_weights,
    "a config that is no JSON": lambda f: (f / "config.json").write_text("{"),
    "a config of an unknown family": lambda f: edit_json(f / "config.json", model_type="bert"),
    "a config that brings code": bring_code,
    "a tokenizer that is no JSON": lambda f: (f / "tokenizer.json").write_text("{"),
    "a tokenizer config that is a list": lambda f: (f / "tokenizer_config.json").write_text("[]"),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_checkpoints(tmp_path, kind):
    folder = tmp_path / "policy"
    shutil.copytree(POLICIES / "mixed", folder)
    CHECKPOINTS[kind](folder)
    is_one_clear_line(PolicyError, lambda: load_policy(folder), "policy")
    assert not (tmp_path / "ran").exists(), "code that came with the checkpoint was run"


# --- configuration and run folders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["status", "../../etc"],
        ["status", "nowhere"],
        ["verify", "nowhere"],
        ["rerun", "nowhere"],
        ["study", "--run", "a/b", "--profile", "smoke"],
        ["study", "--run", "a", "--profile", "huge"],
        ["study", "--run", "a", "--profile", "smoke", "--only", "nobody"],
        ["reproduce", "--run", ".hidden"],
        ["reproduce", "-p", "run", "x"],
        ["score", "nothing.jsonl", "--annotations", "nothing.json"],
    ],
    ids=" ".join,
)
def test_configuration(folder, capsys, words):
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith("vr1kit: ") and said.count("\n") == 1 and "Traceback" not in said


def make_run():
    step = open_run("a").step("data", {"n": 1}, code=["boxes"])
    step.begin()
    step.write_json("x.json", 1)
    step.finish({})
    return step


RUNS = {
    "a manifest that is no JSON": lambda s: (s.path / "manifest.json").write_text("{"),
    "a manifest that is a number": lambda s: (s.path / "manifest.json").write_text("3"),
    "a manifest of other fields": lambda s: (s.path / "manifest.json").write_text('{"a": 1}'),
    "a manifest of other bytes": lambda s: (s.path / "manifest.json").write_bytes(b"\xff\xfe\0"),
    "an artefact altered": lambda s: (s.path / "x.json").write_text("2"),
    "an artefact gone": lambda s: (s.path / "x.json").unlink(),
}


@pytest.mark.parametrize("kind", RUNS)
def test_run_folders(folder, capsys, kind):
    step = make_run()
    RUNS[kind](step)
    assert step.state() == "stale" and "\n" not in step.why()
    assert cli.main(["verify", "a"]) == 1
    said = capsys.readouterr().out
    assert "1 faults" in said and "Traceback" not in said
    step.begin()  # and it can be made again
    step.write_json("x.json", 1)
    step.finish({})
    assert step.state() == "done" and cli.main(["verify", "a"]) == 0


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"inputs": 3}', '{"config": {}}'])
def test_an_attempt_that_is_damaged_is_begun_afresh(folder, capsys, text):
    step = open_run("a").step("data", {"n": 1}, code=["boxes"])
    step.begin()
    (step.path / "checkpoints").mkdir()
    (step.path / "attempt.json").write_text(text)
    assert step.state() == "missing" and step.begin() is False
    (step.path / "attempt.json").write_text(text)
    is_one_clear_line(RunError, lambda: step.finish({}), "attempt.json")
    assert cli.main(["status", "a"]) in (0, 2)
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "attempt.json" in said.err + said.out


def test_there_are_at_least_25_kinds():
    kinds = [*ANNOTATIONS, *PICTURES, *CHECKPOINTS, *RUNS]
    assert len(kinds) >= 25


def is_one_clear_line(kind: type[Exception], act, names: str) -> None:
    with pytest.raises(kind) as caught:
        act()
    said = str(caught.value)
    assert "\n" not in said and names in said and 20 < len(said) < 600, said
    assert not said.startswith(("KeyError", "TypeError", "AttributeError", "IndexError"))
