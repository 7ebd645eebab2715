"""GQA, ChartQA, AI2D and SEED-Bench in the layout of their publishers, of lmms-eval's parquet files and of VLMEvalKit's tables."""

import base64
import csv
import io
import json
import re

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from vr1kit.asking import Answer
from vr1kit.cli import main
from vr1kit.formats.question_sets import open_question_set
from vr1kit.measures.accuracy import judge_answer, list_questions
from vr1kit.records import DataError


def encode(tone=90):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (tone, 120, 60)).save(buffer, "PNG")
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(
        content if isinstance(content, str) else json.dumps(content)
    )
    return path


def read(folder, split=None, images=None):
    found = open_question_set(folder, split, images)
    return list_questions(found), found.left_out


# An entry of GQA's testdev_balanced_questions.json, with all its fields.
GQA = {
    "semantic": [{"operation": "select", "dependencies": [], "argument": "scene"}],
    "entailed": ["20644645"], "equivalent": ["20644644"], "question": "Which room is it?", "imageId": "n250821",
    "isBalanced": True, "groups": {"global": "room", "local": "02q-room"}, "answer": "bedroom",
    "semanticStr": "select: scene->query: room [0]", "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
    "types": {"detailed": "place", "semantic": "global", "structural": "query"}, "fullAnswer": "It is a bedroom.",
}  # fmt: skip


@pytest.mark.parametrize("place", ["", "questions1.2"])
def test_gqa(tmp_path, place):
    other = {**GQA, "question": "Is it dark?", "answer": "no", "types": {**GQA["types"], "structural": "verify"}}
    put(tmp_path / place / "testdev_balanced_questions.json", {"20644644": GQA, "20644645": other})
    put(tmp_path / place / "val_balanced_questions.json", {"1": GQA})
    put(tmp_path / "images/n250821.jpg", encode())
    (first, second), _ = read(tmp_path, "testdev")
    assert (first.id, first.kind, first.answers, first.rule) == ("20644644", "query", ("bedroom",), "exact")
    assert first.prompt == "Which room is it?\nAnswer the question using a single word or phrase."
    assert second.kind == "verify" and first.image == second.image == "n250821" and first.image_path.is_file()
    with pytest.raises(DataError, match=r"has the splits testdev_balanced, val_balanced; name one"):
        open_question_set(tmp_path)


def test_gqas_test_split_has_no_answers(tmp_path):
    put(tmp_path / "test_balanced_questions.json", {"7": {"isBalanced": True, "question": "?", "imageId": "n1"}})
    put(tmp_path / "images/n1.jpg", encode())
    with pytest.raises(DataError, match=r"test_balanced_questions.json: question '7' has no 'answer'"):
        open_question_set(tmp_path)


@pytest.mark.parametrize("place", ["", "ChartQA Dataset"])
def test_chartqa(tmp_path, place):
    human = [{"imgname": "41699051005347.png", "query": "How many food item is shown?", "label": "14"}]
    augmented = [{"imgname": "two_col_1.png", "query": "What was the share?", "label": "12%"}, {**human[0], "label": "3.5"}]
    put(tmp_path / place / "test/test_human.json", human)
    put(tmp_path / place / "test/test_augmented.json", augmented)
    put(tmp_path / place / "val/val_human.json", human)
    for name in ("41699051005347.png", "two_col_1.png"):
        put(tmp_path / place / "test/png" / name, encode())
    asked, _ = read(tmp_path, "test")
    assert [(q.id, q.kind, q.answers, q.rule) for q in asked] == [
        ("human 1", "human", ("14",), "relaxed"), ("augmented 1", "augmented", ("12%",), "relaxed"),
        ("augmented 2", "augmented", ("3.5",), "relaxed"),
    ]  # fmt: skip
    assert asked[0].prompt == "How many food item is shown?\nAnswer the question with a single word."
    with pytest.raises(
        DataError, match=r"val_human.json: question number 1 names the picture '41699051005347.png'.*no folder of pictures"
    ):
        open_question_set(tmp_path, "val")


def write_ai2d(folder, letters=False):
    questions = {
        "What letter represents the roots?": {
            "abcLabel": True, "answerTexts": ["D", "F", "B", "A"], "correctAnswer": 1, "questionId": "2.png-0"},
        "What eats the plant?": {
            "abcLabel": False, "answerTexts": ["hawk", "snail", "owl", "snail"], "correctAnswer": 1, "questionId": "2.png-1"},
    }  # fmt: skip
    for name in ("2.png", "10.png"):
        mine = {q: {**e, "questionId": e["questionId"].replace("2.png", name)} for q, e in questions.items()}
        put(folder / "questions" / f"{name}.json", {"imageName": name, "questions": mine})
        put(folder / "images" / name, encode())
        if letters:
            put(folder / "abc_images" / name, encode(1))
    put(folder / "annotations/2.png.json", {"text": {}})
    put(folder / "categories.json", {"2.png": "foodChainsWebs"})


def test_ai2d_without_drawn_letters_asks_about_words_only_and_says_so(tmp_path):
    write_ai2d(tmp_path)
    asked, left_out = read(tmp_path)
    assert [q.id for q in asked] == ["2.png-1", "10.png-1"] and left_out == {"letters_not_drawn": 2}
    assert asked[0].prompt == (
        "What eats the plant?\nA. hawk\nB. snail\nC. owl\nD. snail\nAnswer with the option's letter from the given choices directly."
    )
    assert asked[0].answers == ("B",) and not judge_answer("D", asked[0].answers, "choice", asked[0].options)


def test_ai2d_with_letters_and_its_test_split(tmp_path):
    write_ai2d(tmp_path, letters=True)
    put(tmp_path / "ai2d_test_ids.csv", "10\n77\n")
    (letters, words), left_out = read(tmp_path, "test")
    assert (letters.id, words.id) == ("10.png-0", "10.png-1") and not left_out
    assert letters.image_path.parent.name == "abc_images" and words.image_path.parent.name == "images"
    # The right option is B, whose text is F: the option that reads "B" is C, and wrong.
    assert letters.answers == ("B",)
    right = [letter for letter in "ABCD" if judge_answer(letter, letters.answers, "choice", letters.options)]
    assert right == ["B"]
    assert [q.id for q in read(tmp_path, "train")[0]] == ["2.png-0", "2.png-1"]
    put(
        tmp_path / "questions/10.png.json",
        {"imageName": "10.png", "questions": {"?": {"answerTexts": ["a"], "correctAnswer": 1}}},
    )
    with pytest.raises(DataError, match=r"10.png.json: question number 1 has the answer number 1 of 1 options"):
        open_question_set(tmp_path, "test")


SEED = {
    "answer": "C", "choice_a": "One", "choice_b": "Two", "choice_c": "Three", "choice_d": "Four",
    "data_id": "1454426_2591111986", "data_type": "image", "question": "How many towels are in the image?",
    "question_id": "101669", "question_type_id": 5,
}  # fmt: skip


def test_seed_bench(tmp_path):
    video = {
        **SEED,
        "data_type": "video",
        "data_id": "12349.webm",
        "question_id": "v1",
        "question_type_id": 10,
        "segment": [0, 9],
    }
    put(
        tmp_path / "SEED-Bench.json",
        {"questions": [SEED, video], "question_type": {"Instances Counting": 5, "Action Recognition": 10}},
    )
    put(tmp_path / "SEED-Bench-image/1454426_2591111986", encode())  # published without a suffix
    (asked,), left_out = read(tmp_path)
    assert (asked.id, asked.kind, asked.answers, asked.options) == (
        "101669",
        "Instances Counting",
        ("C",),
        ("One", "Two", "Three", "Four"),
    )
    assert left_out == {"video": 1} and asked.image_path.is_file()
    put(tmp_path / "SEED-Bench.json", {"questions": [video], "question_type": {}})
    with pytest.raises(DataError, match="holds no question that can be asked; left out are {'video': 1}"):
        open_question_set(tmp_path)


# --- parquet files -------------------------------------------------------------------------------------------------------


def write_parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


CELL = {"bytes": encode(), "path": "1.png"}
HUB = {
    "lmms-lab/ChartQA": (
        [{"type": "human_test", "question": "How many?", "answer": "14", "image": CELL}], ("human_test", ("14",), "relaxed", ())),
    "HuggingFaceM4/ChartQA": (
        [{"image": CELL, "query": "How many?", "label": ["14"], "human_or_machine": 1}], ("augmented", ("14",), "relaxed", ())),
    "lmms-lab/ai2d": (
        [{"question": "What?", "options": ["a", "b", "c"], "answer": "1", "image": CELL}], ("all", ("B",), "choice", ("a", "b", "c"))),
    "lmms-lab/SEED-Bench": (
        [{**SEED, "segment": None, "image": [CELL]}], ("type 5", ("C",), "choice", ("One", "Two", "Three", "Four"))),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_parquet_files_number_their_questions_as_lmms_eval_does(tmp_path, name):
    rows, want = HUB[name]
    for k in range(2):
        write_parquet(tmp_path / "data" / f"test-0000{k}-of-00002.parquet", rows)
    asked, _ = read(tmp_path)
    assert [(q.kind, q.answers, q.rule, q.options) for q in asked] == [want, want] and [q.id for q in asked] == [0, 1]
    assert asked[0].image_path.read_bytes() == encode() and asked[0].image == asked[1].image


def test_videos_keep_their_number_in_parquet_files(tmp_path):
    rows = [{**SEED, "image": [CELL] * n, "data_type": kind} for n, kind in ((1, "image"), (8, "video"), (1, "image"))]
    write_parquet(tmp_path / "test-00000-of-00001.parquet", rows)
    asked, left_out = read(tmp_path)
    assert [q.id for q in asked] == [0, 2] and left_out == {"video": 1}


def test_gqas_parquet_files_have_their_pictures_beside_them(tmp_path):
    row = {
        "id": "201307251",
        "imageId": "n161313",
        "question": "Is it overcast?",
        "answer": "no",
        "fullAnswer": "No.",
        "isBalanced": True,
    }
    write_parquet(tmp_path / "testdev_balanced_instructions/testdev-00000-of-00001.parquet", [row])
    with pytest.raises(DataError, match="testdev_balanced_images, and there are none; fetch that folder, too"):
        open_question_set(tmp_path, "testdev")
    write_parquet(tmp_path / "testdev_balanced_images/testdev-00000-of-00001.parquet", [{"id": "n161313", "image": CELL}])
    (asked,), _ = read(tmp_path)
    assert (asked.id, asked.image, asked.answers, asked.rule) == (0, "n161313", ("no",), "exact")


def test_other_folders_are_no_questions(tmp_path):
    write_parquet(tmp_path / "hub/data/train.parquet", [{"image": CELL, "problem": "x", "solution": "[]"}])
    assert open_question_set(tmp_path / "hub") is None and open_question_set(tmp_path) is None
    assert open_question_set(tmp_path / "none") is None


# --- VLMEvalKit ----------------------------------------------------------------------------------------------------------


def write_tsv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_vlmevalkits_tables(tmp_path):
    image = base64.b64encode(encode()).decode()
    choice = {
        "index": 4,
        "image": image,
        "question": "What?",
        "A": "a",
        "B": "b",
        "C": "",
        "D": "",
        "answer": "B",
        "category": "x",
    }
    rows = [choice, {**choice, "index": 9, "image": "4", "answer": "A"}]  # the picture of row 4
    first, second = read(write_tsv(tmp_path / "AI2D_TEST.tsv", rows))[0]
    assert (first.id, first.kind, first.answers, first.options) == (4, "x", ("B",), ("a", "b")) and second.id == 9
    assert first.image_path == second.image_path and first.image_path.parent.name == "AI2D_TEST_pictures"
    chart = [{"index": 0, "image": image, "question": "How\nmany?", "answer": "14", "split": "test_human"}]
    (asked,), _ = read(write_tsv(tmp_path / "ChartQA_TEST.tsv", chart))
    assert (asked.kind, asked.rule) == ("test_human", "relaxed") and asked.prompt.startswith("How\nmany?")
    for message, name, bad in (
        ("which set it is follows from VLMEvalKit's name", "MMStar.tsv", chart),
        ("ChartQA_TEST.tsv: row 1 has the picture of row '7', which is not before it", "ChartQA_TEST.tsv", [{**chart[0], "image": "7"}]),
        ("not base64", "ChartQA_TEST.tsv", [{**chart[0], "image": "?" * 99}]),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            open_question_set(write_tsv(tmp_path / name, bad))


# --- asked and exported --------------------------------------------------------------------------------------------------


def test_a_published_set_is_asked_judged_and_exported(tmp_path, monkeypatch, capsys):
    """With a policy whose answers are known: the numbers of ChartQA's halves, and the logs of both tools."""
    monkeypatch.setattr(
        "vr1kit.asking.answer_queries", lambda p, paths, prompts, **o: [[Answer(("14", "3")["B" in q], [], [])] for q in prompts]
    )
    rows = [
        {"type": kind, "question": q, "answer": "14", "image": CELL}
        for kind, q in (("human_test", "A?"), ("augmented_test", "B?"))
    ]
    write_parquet(tmp_path / "hub/test-00000-of-00001.parquet", rows)
    run = ["--out", str(tmp_path / "run")]
    assert main(["evaluate", "--model", "mixed", "--data", str(tmp_path / "hub"), *run]) == 0
    said = capsys.readouterr().out
    assert re.search(r"accuracy +50\.0 .*accuracy human_test +100\.0 .*accuracy augmented_test +0\.0 ", said, re.DOTALL), said
    assert main(["export", str(tmp_path / "run"), "--to", "lmms-eval", "--task", "chartqa", "--out", str(tmp_path / "logs")]) == 0
    log = json.loads((tmp_path / "logs/chartqa.json").read_text())
    assert [(row["doc_id"], row["resps"]) for row in log["logs"]] == [(0, [["14"]]), (1, [["3"]])]
    words = ["export", str(tmp_path / "run"), "--task", "ChartQA_TEST", "--out", str(tmp_path / "work"), "--to"]
    capsys.readouterr()
    assert main([*words, "vlmevalkit"]) == 2
    assert "vlmevalkit knows its questions by their place in VLMEvalKit's .tsv, and" in capsys.readouterr().err

    table = [
        {"index": 30 + k, "image": base64.b64encode(encode()).decode(), "question": r["question"], "answer": "14"}
        for k, r in enumerate(rows)
    ]
    tsv = write_tsv(tmp_path / "ChartQA_TEST.tsv", table)
    assert main(["evaluate", "--model", "mixed", "--data", str(tsv), "--out", str(tmp_path / "run2")]) == 0
    assert main(["export", str(tmp_path / "run2"), *words[2:], "vlmevalkit"]) == 0
    (written,) = (tmp_path / "work").rglob("*.tsv")
    assert written.read_text() == "index\tprediction\n30\t14\n31\t3\n"


# --- what is not as published --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("question '1' has no 'imageId'", {"imageId": None}),
        ("question '1' .*leaves the folder", {"imageId": "../secret"}),
        ("question '1' has 7 as 'question'", {"question": 7}),
        ("question '1' names the picture 'n9.jpg', which is not in", {"imageId": "n9"}),
    ],
)
def test_what_is_not_as_published_is_refused_by_name(tmp_path, message, change):
    put(tmp_path / "images/n250821.jpg", encode())
    entry = {k: v for k, v in {**GQA, **change}.items() if v is not None}
    put(tmp_path / "testdev_balanced_questions.json", {"1": entry})
    with pytest.raises(DataError, match=message):
        open_question_set(tmp_path)
