"""`vr1kit evaluate` and `compare` as a user meets them: with the tiny policy, on a few pictures, cut off half-way, on bad input."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from vr1kit import evaluations
from vr1kit.asking import detect
from vr1kit.cli import main
from vr1kit.commands.evaluation import SETTINGS
from vr1kit.data import read_coco
from vr1kit.evaluations import Settings, describe_evaluation, evaluate, read_evaluation
from vr1kit.measures.scorecard import score_set
from vr1kit.records import DataError
from vr1kit.reporting.comparison import compare, compare_sets, describe_comparison, read_sets, write_comparison
from vr1kit.safekeeping.files import RunError, read_csv, read_json
from vr1kit.scenes import write_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data and two evaluations of it that many tests read: base policies `mixed` and `converged` on six road pictures."""
    root = tmp_path_factory.mktemp("evaluations")
    write_scenes(root / "road", "road", range(6))
    for model in ("mixed", "converged"):
        evaluate(model, root / "road", root / model, Settings(score="token_prob"), batch=2)
    return root


@pytest.fixture
def road(folder, tmp_path):
    shutil.copytree(folder / "road", tmp_path / "road")
    return tmp_path / "road"


def test_the_numbers_are_those_of_the_parts(folder):
    from vr1kit.models import load_policy

    step, data = read_evaluation(folder / "mixed"), read_coco(folder / "road" / "annotations.json")
    by_hand = detect(load_policy("mixed"), data, "all", "token_prob", "mean", max_new_tokens=512)
    found = read_json(step.path / "detections.json")
    assert [{**d, "score": 0} for d in found] == [{**d, "score": 0} for d in by_hand.detections] and found
    assert [d["score"] for d in found] == pytest.approx([d["score"] for d in by_hand.detections], abs=1e-5)
    card, metrics = score_set(data.annotations, by_hand.detections), step.metrics()
    assert {k: v for k, v in metrics.items() if k in card.metrics and v is not None} == pytest.approx(
        {k: v for k, v in card.metrics.items() if not np.isnan(v)}
    )
    for name, ends in metrics["intervals"].items():
        assert ends is None if metrics[name] is None else ends[0] <= metrics[name] <= ends[1], name
    assert set(metrics["intervals"]) == set(card.metrics)
    assert metrics["AP"] > 5 and metrics["counts"]["queries"] == 6 and metrics["counts"]["cut_off"] == 0
    said = "\n".join(describe_evaluation(step))
    assert "mixed on road: detection, protocol all, score token_prob mean, 6 queries" in said
    assert re.search(r"^  APs +\d+\.\d  \[\d+\.\d, \d+\.\d\]$", said, re.MULTILINE), said
    assert not (step.path / "checkpoints").exists() and step.state() == "done"


@pytest.mark.slow
def test_two_processes_answer_as_one_does(folder, road, tmp_path):
    command = ["evaluate", "--model", "mixed", "--data", str(road), "--out", str(tmp_path / "two"), "--batch", "2"]
    assert main([*command, "--score", "token_prob", "--processes", "2"]) == 0
    texts = [
        [json.loads(line)["text"] for line in (run / "evaluation/answers.jsonl").read_text().splitlines()]
        for run in (tmp_path / "two", folder / "mixed")
    ]
    assert texts[0] == texts[1]  # batches differ, and with them the last digits of the scores
    assert not (tmp_path / "two/evaluation/checkpoints").exists()


def test_an_interrupted_evaluation_goes_on_where_it_stopped(folder, road, tmp_path, monkeypatch, capsys):
    from vr1kit import asking

    command = ["evaluate", "--model", "mixed", "--data", str(road), "--out", str(tmp_path / "again"), "--batch", "2"]
    command += ["--score", "token_prob"]
    asked, real = [], asking.answer_queries

    def fail_later(policy, paths, prompts, **options):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(paths))
        return real(policy, paths, prompts, **options)

    monkeypatch.setattr(asking, "answer_queries", fail_later)
    assert main(command) == 130
    with pytest.raises(RunError, match="was interrupted; the command that began it goes on"):
        read_evaluation(tmp_path / "again")
    kept = tmp_path / "again" / "evaluation" / "checkpoints" / "answers-0.jsonl"
    assert len(kept.read_text().splitlines()) == 4
    with open(kept, "a") as file:
        file.write('{"place": 4, "te')  # killed while writing
    asked.clear()
    assert main(command) == 0 and asked == [2]
    assert "AP " in capsys.readouterr().out
    same = ("detections.json", "answers.jsonl", "truth.json", "categories.csv")
    for name in same:
        assert (tmp_path / "again/evaluation" / name).read_text() == (folder / "mixed/evaluation" / name).read_text(), name
    asked.clear()
    assert main(command) == 0 and asked == []


def test_another_evaluation_is_never_overwritten(folder, road, tmp_path, monkeypatch):
    shutil.copytree(folder / "mixed", tmp_path / "mixed")
    with pytest.raises(
        RunError, match=r"holds another evaluation \(config changed: .*protocol \"all\" -> \"present\".* another --out"
    ):
        evaluate("mixed", road, tmp_path / "mixed", Settings(protocol="present"))
    with pytest.raises(RunError, match="input model changed|model"):
        evaluate("converged", folder / "road", tmp_path / "mixed", Settings(score="token_prob"))
    begun = tmp_path / "begun"
    step, _ = evaluations.open_step("mixed", road, begun, Settings())
    step.begin()
    with pytest.raises(RunError, match="it was begun with other settings"):
        evaluate("mixed", road, begun, Settings(limit=2))
    assert read_evaluation(tmp_path / "mixed").config["protocol"] == "all"


def test_present_asks_once_per_category_that_is_there(road, tmp_path):
    step = evaluate("mixed", road, tmp_path / "present", Settings(protocol="present", limit=3), batch=8)
    data = read_coco(road / "annotations.json")
    assert step.metrics()["counts"]["queries"] == sum(len(set(r.labels)) for r in data.records[:3])
    assert len(read_json(step.path / "truth.json")["images"]) == 3


def test_votes_are_scores_and_can_be_repeated(road, tmp_path):
    found = [
        evaluate("mixed", road, tmp_path / name, Settings(score="vote", samples=2, limit=2, max_new_tokens=64)) for name in "ab"
    ]
    one, other = (read_json(step.path / "detections.json") for step in found)
    assert one == other and {d["score"] for d in one} <= {0, 0.5, 1}


def test_other_formats_are_scored_against_their_own_boxes(road, tmp_path):
    """YOLO's text files have no COCO file to score against: one is made of the records."""
    data = read_coco(road / "annotations.json")
    for name in ("images", "labels"):
        (tmp_path / "yolo" / name).mkdir(parents=True)
    names = list(data.categories)
    (tmp_path / "yolo" / "data.yaml").write_text("names: [" + ", ".join(names) + "]\n")
    for r in data.records:
        shutil.copy(r.image_path, tmp_path / "yolo/images")
        x1, y1, x2, y2 = (r.boxes_xyxy_px / [r.width, r.height, r.width, r.height]).T
        rows = zip(r.labels, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, strict=True)
        lines = [f"{names.index(label)} " + " ".join(f"{v:.9f}" for v in box) for label, *box in rows]
        (tmp_path / "yolo/labels" / f"{r.image_path.stem}.txt").write_text("\n".join(lines))
    step = evaluate("mixed", tmp_path / "yolo", tmp_path / "out", Settings())
    coco = evaluate("mixed", road, tmp_path / "coco", Settings())
    assert step.metrics()["AP"] == pytest.approx(coco.metrics()["AP"], abs=0.5)


def test_expressions_and_questions(road, tmp_path):
    data = read_coco(road / "annotations.json")
    coco = read_json(road / "annotations.json")
    names = {c["id"]: c["name"] for c in coco["categories"]}
    refs = [
        {"ref_id": k, "ann_id": a["id"], "image_id": a["image_id"], "category_id": a["category_id"], "split": "testA",
         "sentences": [{"sent": names[a["category_id"]]}]}
        for k, a in enumerate(coco["annotations"][:5])
    ]  # fmt: skip
    (tmp_path / "refcoco").mkdir()
    shutil.copytree(road / "images", tmp_path / "refcoco/images")
    (tmp_path / "refcoco/refs(unc).json").write_text(json.dumps(refs))
    (tmp_path / "refcoco/instances.json").write_text(json.dumps(coco))
    step = evaluate("mixed", tmp_path / "refcoco", tmp_path / "referring", Settings(), split="testA")
    rows, metrics = read_csv(step.path / "rows.csv"), step.metrics()
    assert len(rows) == metrics["counts"]["queries"] == 5 and {"without_box", "several_boxes"} <= set(metrics["counts"])
    assert metrics["accuracy"] == pytest.approx(100 * np.mean([r["iou"] >= 0.5 for r in rows]))

    questions = [
        {"image": f"images/{r.image_path.name}", "question": "How many cars are there?", "answer": str(k), "kind": kind}
        for k, (r, kind) in enumerate(zip(data.records, ("even", "odd") * 3, strict=True))
    ]
    (road / "questions.jsonl").write_text("\n".join(map(json.dumps, questions)))
    steps = [
        evaluate(m, road / "questions.jsonl", tmp_path / f"q_{m}", Settings(max_new_tokens=8)) for m in ("mixed", "converged")
    ]
    metrics = steps[0].metrics()
    assert metrics["accuracy"] == pytest.approx((metrics["accuracy even"] + metrics["accuracy odd"]) / 2)
    compared = compare(*steps, resamples=50)
    assert [r["group"] for r in compared.groups] == ["even", "odd"] and sum(r["objects"] for r in compared.changes) == 6
    assert compared.rows[0]["difference"] == pytest.approx(steps[1].metrics()["accuracy"] - metrics["accuracy"])
    assert "accuracy" in write_comparison(compared, tmp_path / "q.html").read_text()
    with pytest.raises(RunError, match="they were not asked the same"):
        compare(step, steps[0])


# --- comparison ----------------------------------------------------------------------------------------------------------


def test_a_comparison_is_paired_and_says_what_changed(folder):
    compared = compare(read_evaluation(folder / "mixed"), read_evaluation(folder / "converged"), resamples=200)
    ap = next(r for r in compared.rows if r["metric"] == "AP")
    assert ap["difference"] == pytest.approx(ap["after"] - ap["before"]) and ap["low"] < ap["difference"] < ap["high"]
    objects = sum(r["objects"] for r in compared.changes)
    truth = read_json(folder / "mixed/evaluation/truth.json")
    assert objects == len(truth["annotations"]) and {r["kind"] for r in compared.errors} >= {"missed", "duplicate"}
    changes = [abs(card.change) for card in compared.cards]
    assert changes == sorted(changes, reverse=True) and 0 < len(changes) <= 6 and all(c.thumbnail for c in compared.cards)
    same = compare(compared.before, compared.before, resamples=20)
    assert all(r["low"] in (0, None) and r["high"] in (0, None) for r in same.rows) and not same.cards
    text = "\n".join(describe_comparison(compared))
    assert re.search(r"AP +\d+\.\d -> +\d+\.\d +[+-]\d+\.\d  \[[+-]\d+\.\d, [+-]\d+\.\d\]", text) and "missed" in text


def test_sets_are_compared_one_by_one_and_in_the_mean(folder, tmp_path, capsys):
    for name, models in (("a", ("mixed", "mixed")), ("b", ("mixed", "converged"))):
        for place, model in zip(("before", "after"), models, strict=True):
            shutil.copytree(folder / model, tmp_path / place / name)
    assert main(["compare", str(tmp_path / "before"), str(tmp_path / "after"), "--resamples", "100"]) == 0
    rows = compare_sets(read_sets(tmp_path / "before"), read_sets(tmp_path / "after"), 100)
    assert [r["metric"] for r in rows] == ["b", "a", "mean of 2"] and len(capsys.readouterr().out.splitlines()) == 5
    page = (tmp_path / "after/compared_with_before.html").read_text()
    for name in "ab":
        assert f'<a href="{name}/compared_with_before.html">{name}</a>' in page and "mean of 2" in page
        assert "pictures whose answers changed most" in (tmp_path / "after" / name / "compared_with_before.html").read_text()
    gained, same, mean = rows
    assert (same["difference"], same["low"], same["high"]) == (0, 0, 0)
    assert mean["difference"] == pytest.approx(gained["difference"] / 2) and mean["low"] < mean["difference"] < mean["high"]
    shutil.rmtree(tmp_path / "after" / "a")
    with pytest.raises(RunError, match="only one of the two has a; evaluate both on all sets"):
        compare_sets(read_sets(tmp_path / "before"), read_sets(tmp_path / "after"))


def test_what_does_not_compare_is_refused(folder, road, tmp_path):
    before = read_evaluation(folder / "mixed")
    evaluate("mixed", road, tmp_path / "present", Settings(protocol="present", score="token_prob"))
    with pytest.raises(RunError, match="mixed has protocol all, present present: protocols do not compare"):
        compare(before, read_evaluation(tmp_path / "present"))
    coco = read_json(road / "annotations.json")
    coco["annotations"][0]["bbox"][2] += 1
    (road / "annotations.json").write_text(json.dumps(coco))
    moved = evaluate("mixed", road, tmp_path / "moved", Settings(score="token_prob"))
    with pytest.raises(RunError, match="were tested on different data"):
        compare(before, moved)


def test_other_scores_are_said(folder, tmp_path):
    constant = evaluate("mixed", folder / "road", tmp_path / "constant", Settings())
    compared = compare(constant, read_evaluation(folder / "mixed"), resamples=20)
    assert "constant before and token_prob mean after" in "\n".join(describe_comparison(compared))
    assert not compared.cards, "the same answers, only scored differently"


def test_the_command_compares_and_writes_the_page(folder, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["compare", str(folder / "mixed"), str(folder / "converged"), "--resamples", "50", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "mixed -> converged, difference with its 95 % interval" in said and str(out) in said
    page = out.read_text()
    assert page.count("<article") == page.count('<image id="') and "<script" not in page
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page), "nothing is fetched"


def test_run_folders_that_cannot_be_read_are_refused(folder, tmp_path, capsys):
    def refused(message, path):
        assert main(["compare", str(folder / "mixed"), str(path)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and re.search(message, error), error

    refused("no such folder", tmp_path / "none")
    refused("holds no result of `vr1kit evaluate`", tmp_path)
    shutil.copytree(folder / "mixed", tmp_path / "old")
    manifest = tmp_path / "old/evaluation/manifest.json"
    record = read_json(manifest)
    manifest.write_text(json.dumps({**record, "format": 7, "vr1kit": "8.0"}))
    refused(r"written by another version of vr1kit \(8.0, format 7; this is .*format 1\)", tmp_path / "old")
    manifest.write_text(json.dumps({**record, "config": {"split": "test"}}))
    refused("not one of `vr1kit evaluate`, or of another version", tmp_path / "old")


# --- bad input -----------------------------------------------------------------------------------------------------------


def test_bad_settings_and_data_are_refused_in_one_line(road, tmp_path, capsys):
    def refused(message, *words, data=road):
        assert main(["evaluate", "--model", "mixed", "--data", str(data), "--out", str(tmp_path / "x"), *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and re.search(message, error), error

    refused("protocol must be one of present, all", "--protocol", "positive")
    refused("score must be one of constant", "--score", "logit")
    refused("limit must be at least 1", "--limit", "0")
    refused("no such folder", data=tmp_path / "none")
    refused("no dataset is recognised", data=road / "images")
    refused("'has space' is not usable", "--out", str(tmp_path / "has space"))
    coco = read_json(road / "annotations.json")
    (road / "annotations.json").write_text(json.dumps({**coco, "annotations": []}))
    refused("nothing is annotated in it", "--limit", "1")
    with pytest.raises(DataError):
        evaluate("mixed", tmp_path / "q.jsonl", tmp_path / "x")


def test_the_help_says_the_defaults():
    defaults = {f.name: f.default for f in fields(Settings)}
    assert {name: re.search(r"\((\w+)\)$", what)[1] for name, _, what in SETTINGS} == {k: str(v) for k, v in defaults.items()}


def test_comparing_needs_no_torch(folder, tmp_path):
    script = "import sys\nfor name in ('torch', 'transformers', 'trl'): sys.modules[name] = None\n"
    script += "from vr1kit.cli import main\nsys.exit(main(sys.argv[1:]))"
    words = ["compare", str(folder / "mixed"), str(folder / "converged"), "--resamples", "20", "--out", str(tmp_path / "p.html")]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
