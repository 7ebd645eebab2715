"""Text from files and models is text: it is shown, never followed. A hostile set goes through the whole pipeline."""

import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vr1kit.data import DataError, Part, curate, read_coco, to_dataset
from vr1kit.drawing.pictures import draw_boxes
from vr1kit.evaluate import Suites, evaluate_policy, to_detections
from vr1kit.records import describe_counts
from vr1kit.reporting import page, tables
from vr1kit.reporting.report import build_report
from vr1kit.rewards import score_completion
from vr1kit.runs import RunError, open_run
from vr1kit.safekeeping.files import write_csv_atomic
from vr1kit.settings import GrpoSettings

SCRIPT = "<script>alert(1)</script>"
HOSTILE = (SCRIPT, "../../secret", "$\\frac{1", "{0.__class__}", "%s%n", '"><img src=x onerror=alert(1)>', "__import__('os')")
PACKAGE = Path(__file__).parents[1] / "vr1kit"


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A set with a label of every kind, a picture named ../../secret beside good ones, and the secret itself outside."""
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    folder = tmp_path / "sets" / "inner"
    folder.mkdir(parents=True)
    (folder / "images").mkdir()
    Image.new("RGB", (96, 96), "blue").save(tmp_path / "sets" / "secret", "PNG")  # images/../../secret
    names = [f"{n}.png" for n in range(8)] + ["../../secret"]
    for name in names[:-1]:
        Image.new("RGB", (96, 96), "red").save(folder / "images" / name)
    coco = {
        "images": [{"id": n, "file_name": name, "width": 96, "height": 96} for n, name in enumerate(names, 1)],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1 + n % len(HOSTILE), "bbox": [10, 10, 40, 40], "area": 1600, "iscrowd": 0}
            for n in range(1, len(names) + 1)
        ],
        "categories": [{"id": n, "name": label} for n, label in enumerate(HOSTILE, 1)],
    }  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(coco))
    return folder


@pytest.mark.slow
def test_a_hostile_set_goes_through_curation_training_evaluation_and_report(hostile, random_policy, tmp_path, monkeypatch):
    from vr1kit.grpo import train_grpo

    opened, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda file, *a, **k: opened.append(str(file)) or real(file, *a, **k))
    with pytest.raises(DataError, match="leaves the folder"):
        read_coco(hostile / "annotations.json")
    data = read_coco(hostile / "annotations.json", on_error="skip")
    assert describe_counts(data.skipped) == "1 leaves_folder" and len(data.records) == 8

    examples, _ = curate({"inner": data}, [Part("d", ("inner",), "detection", 4), Part("g", ("inner",), "grounding", 4)], 0)
    dataset = to_dataset(examples, random_policy.write_boxes, hostile)
    policy = replace(random_policy, model=copy.deepcopy(random_policy.model))
    settings = GrpoSettings(steps=1, prompts_per_step=2, num_generations=2, max_completion_length=8, warmup_steps=0)
    step = open_run("a").step("policies/x", {}, code=["boxes"])
    step.begin()
    train_grpo(policy, dataset, hostile, settings, step.path, step.append_log, show=False)
    step.finish({})

    evaluation = open_run("a").step("evaluation/x", {}, code=["boxes"])
    evaluation.begin()
    rows = evaluate_policy(policy, Suites({"in_domain": [data]}, []), evaluation.path)
    evaluation.write_csv("rows.csv", rows)
    evaluation.finish({})
    detections, counts = to_detections(policy, data, [json.dumps([{"bbox_2d": [10, 10, 40, 40], "label": SCRIPT}])] * 8)
    assert len(detections) == 8 and counts["unknown_labels"] == 0, "such a label is a label like any other"

    results = open_run("a").step("results", {}, code=["boxes"])
    results.begin()
    table = [{"base_policy": SCRIPT, "seed": 0, "policy": SCRIPT, **{k: v for k, v in r.items() if k != "set"}} for r in rows]
    write_csv_atomic(results.path / "main.csv", table)
    write_csv_atomic(results.path / "domains.csv", [{**r, "set": SCRIPT} for r in table])
    results.finish({})
    is_harmless(build_report(open_run("a").path).read_text())
    figure = draw_boxes(Image.new("RGB", (96, 96)), np.array([[10, 10, 40, 40]] * len(HOSTILE)), list(HOSTILE))
    figure.savefig(tmp_path / "figure.png")

    assert opened and not [name for name in opened if "secret" in name], "what lies outside was opened"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "script" in path.name]
    assert not written and not list((tmp_path / "runs").rglob("*secret*")), "a label became the name of a file"


class Tags(HTMLParser):
    """Every tag with its attributes, as a browser would see them."""

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))


def is_harmless(html: str) -> None:
    assert "&lt;script&gt;" in html, "the label should be shown"
    tags = Tags()
    tags.feed(html)
    assert len(tags.seen) > 5
    for tag, attributes in tags.seen:
        assert tag != "script" and not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert tag != "img" or attributes["src"].startswith("data:image/png;base64,")
        assert not attributes.get("href", "#").startswith("javascript:")


def test_labels_are_escaped_in_every_table():
    rows = [{"domain": label, "AP": 1.0} for label in HOSTILE]
    is_harmless(page.page(SCRIPT, "", [(SCRIPT, tables.to_html(rows) + page.link("javascript:alert(1)", SCRIPT))]))
    assert "<" not in tables.to_markdown(rows)
    assert "\\frac" not in tables.to_latex(rows)


@pytest.mark.parametrize("label", HOSTILE)
def test_an_answer_with_such_a_label_is_scored_as_any_other(label):
    text = json.dumps([{"bbox_2d": [10, 10, 40, 40], "label": label}])
    score = score_completion(text, [[10, 10, 40, 40]], [label], (96, 96))
    assert (score.dual_format, score.recall, score.precision) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["../../secret", SCRIPT, "/etc/passwd", "a\0b"])
def test_no_name_from_outside_becomes_a_path(hostile, name, random_policy):
    with pytest.raises(RunError):
        open_run(name)
    with pytest.raises(RunError):
        open_run("a").step(name, {})
    data = replace(read_coco(hostile / "annotations.json", on_error="skip"), name=name)
    if "/" in name or "\0" in name:
        with pytest.raises(ValueError, match="cannot be called"):
            evaluate_policy(random_policy, Suites({"in_domain": [data]}, []), hostile / "out")


# What must not stand anywhere in the package, and why. A place that is safe says so by the words after the name.
FORBIDDEN = {
    r"\beval\((?!\))": "evaluates text",
    r"\bexec\(": "runs text",
    r"\bpickle\.\w": "runs code when it loads",
    r"torch\.load\((?!.*weights_only=True)": "runs code when it loads",
    r"np\.load\((?!.*(allow_pickle=False|mmap_mode))": "may run code when it loads",
    r"trust_remote_code=True": "runs a stranger's code",
    r"shell=True|os\.system": "hands text to a shell",
    r"extractall|unpack_archive|tarfile|zipfile": "unpacks archives; check every path first",
    r"yaml\.(load|unsafe_load)\(": "can make any object",
    r"Image\.open\((?!file, formats=FORMATS)": "decodes without a bound; use images.open_image",
}


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_the_package_has_no_place_that_trusts_its_input(pattern):
    found = [
        f"{path.name}:{number}: {line.strip()}: {FORBIDDEN[pattern]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line.split("  # ")[0]) and "model.eval()" not in line
    ]
    assert not found, "\n".join(found)


def test_memory_is_flat_over_a_long_evaluation(tmp_path, monkeypatch):
    """Decoded pictures are the one thing that is kept: their pixels are bounded, however many there are."""
    from vr1kit import data as module

    monkeypatch.setattr(module, "KEPT_PIXELS", 10 * 64 * 64)
    monkeypatch.setattr(module, "_kept", {})
    for n in range(40):
        Image.new("RGB", (64, 64), (n, 0, 0)).save(tmp_path / f"{n}.png")
    most = 0
    for n in [*range(40), 39, 38, 0]:
        assert module.read_image(str(tmp_path / f"{n}.png")).getpixel((0, 0)) == (n, 0, 0)
        most = max(most, len(module._kept))
    assert most == 10
    assert [Path(path).stem for path in module._kept][-3:] == ["39", "38", "0"], "the one asked for last is kept longest"
