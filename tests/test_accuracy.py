import json

import numpy as np
import pytest
from PIL import Image

from vr1kit.data import read_coco
from vr1kit.measures.accuracy import (
    count_by_picture,
    find_accuracy,
    judge_answer,
    judge_expression,
    list_expressions,
    read_choice,
    read_questions,
)
from vr1kit.records import DataError, DetectionSet, Record

CHOICES = ("a cat", "a dog", "a boat")


@pytest.mark.parametrize(
    ("text", "answers", "rule", "right"),
    [
        ("Yes.", ("yes",), "exact", True),
        (" on the left ", ("On the left",), "exact", True),
        ("yes, it is", ("yes",), "exact", False),
        ("sofa", ("couch", "sofa"), "exact", True),
        ("", ("yes",), "exact", False),
        ("52.5", ("50",), "relaxed", True),  # 5 % exactly
        ("52.6", ("50",), "relaxed", False),
        ("47.5", ("50",), "relaxed", True),
        ("12%", ("0.12",), "relaxed", True),
        ("12", ("12%",), "relaxed", False),
        ("0.0", ("0",), "relaxed", False),  # a true 0 has no 5 %: text decides, as in lmms-eval
        ("0", ("0",), "relaxed", True),
        ("-9.6", ("-10",), "relaxed", True),
        ("France", ("france",), "relaxed", True),
        ("nan", ("50",), "relaxed", False),
        ("inf", ("50",), "relaxed", False),
        ("B", ("B",), "choice", True),
        ("B. a dog", ("B",), "choice", True),
        ("The answer is (B).", ("B",), "choice", True),
        ("A dog", ("B",), "choice", False),  # the first character is a letter of an option: the rule is blunt
        ("a dog", ("B",), "choice", True),
        ("A or B", ("B",), "choice", False),
        ("Because", ("B",), "choice", False),
        ("D", ("B",), "choice", False),
        ("B", ("a dog",), "choice", True),
    ],
)
def test_hand_checked_answers(text, answers, rule, right):
    assert judge_answer(text, answers, rule, CHOICES) is right


def test_relaxed_match_is_lmms_evals():
    """Its rule, from its description: 5 % of a true number that is not 0, percent signs divided out, else text without case."""

    def reference(said, true):
        def number(text):
            try:
                return float(text[:-1]) / 100 if text.endswith("%") else float(text)
            except ValueError:
                return None

        p, t = number(said), number(true)
        return abs(p - t) / abs(t) <= 0.05 if p is not None and t else said.lower() == true.lower()

    texts = ["0", "0%", "1", "1.04", "1.06", "104%", "-1", "Red", "red", "1e3", "1,000", "", "5 %"]
    for said in texts:
        for true in texts:
            if true:
                assert judge_answer(said, (true,), "relaxed") == reference(said, true), (said, true)


def test_a_choice_is_read_or_left_open():
    assert read_choice("C", CHOICES) == "C" and read_choice("", CHOICES) is None and read_choice("E", CHOICES) is None
    assert read_choice("It is C, surely", CHOICES) == "C" and read_choice("I'd say C's fine", CHOICES) is None
    with pytest.raises(ValueError, match="exact, relaxed, choice"):
        judge_answer("x", ("x",), "fuzzy")


def test_an_expression_is_judged_by_the_first_box():
    truth = np.array([0, 0, 10, 10.0])
    assert judge_expression(np.array([[0, 0, 10, 5.0]]), truth) == 0.5
    assert judge_expression(np.array([[20, 20, 30, 30.0], [0, 0, 10, 10]]), truth) == 0
    assert judge_expression(np.zeros((0, 4)), truth) == 0


def test_expressions_are_those_of_a_phrase_set(toybox_folder, tmp_path):
    boxes = np.array([[0, 0, 4, 4.0], [5, 5, 9, 9], [1, 1, 3, 3]])
    record = Record(tmp_path / "a.png", 1, 10, 10, boxes, ("left man", "dog", "dog"), "refcoco")
    found = list_expressions(DetectionSet("refcoco", tmp_path, (record,), {}, phrases=True))
    assert [(e.phrase, e.box_xyxy_px[0]) for e in found] == [("left man", 0), ("dog", 5), ("dog", 1)]
    assert found[0].prompt == "Locate every left man in the image and output the coordinates in JSON format."
    with pytest.raises(DataError, match="has categories, not expressions"):
        list_expressions(read_coco(toybox_folder / "annotations.json"))


def write(folder, *rows):
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "q.jsonl").write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return folder / "q.jsonl"


ROW = {"image": "a.png", "question": "How many?", "answer": "3"}


def test_questions_get_the_rule_and_words_of_their_benchmark(tmp_path):
    plain, chart, ai2d, seed = read_questions(
        write(
            tmp_path, ROW, "", {**ROW, "benchmark": "chartqa", "answer": 3, "id": "x"}, {**ROW, "options": ["2", "3"]},
            {**ROW, "options": ["2", "3"], "answer": "B", "benchmark": "seed", "kind": "counting"},
        )
    )  # fmt: skip
    assert (plain.rule, plain.prompt, plain.kind, plain.id) == ("exact", "How many?", "all", 1)
    assert (chart.rule, chart.answers, chart.kind, chart.id) == ("relaxed", ("3",), "chartqa", "x")
    assert ai2d.rule == seed.rule == "choice" and seed.kind == "counting"
    assert seed.prompt == "How many?\nA. 2\nB. 3\nAnswer with the option's letter from the given choices directly."
    assert judge_answer("B", ai2d.answers, ai2d.rule, ai2d.options)


BAD = {
    "is not JSON": "{",
    "give at least image, question and answer": {"image": "a.png", "answer": "3"},
    "as answer; give a text": {**ROW, "answer": []},
    "None as answer": {"image": "a.png", "question": "?"},
    "has the benchmark 'vqa'; known are gqa": {**ROW, "benchmark": "vqa"},
    "as options; give a list": {**ROW, "options": "ab"},
    "none of its options": {**ROW, "options": ["2", "4"]},
    "none of its options; give options": {**ROW, "benchmark": "ai2d"},
    "b.png": {**ROW, "image": "b.png"},
    "folder": {**ROW, "image": "../a.png"},
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_question_is_refused_by_its_line(tmp_path, message):
    with pytest.raises(DataError, match=f"line 2 .*{message}"):
        read_questions(write(tmp_path, ROW, BAD[message]))


def test_bad_files_of_questions(tmp_path):
    with pytest.raises(DataError, match="holds no question"):
        read_questions(write(tmp_path))
    with pytest.raises(DataError, match="line 1 and line 2 have the same id 7"):
        read_questions(write(tmp_path, {**ROW, "id": 7}, {**ROW, "id": 7}))
    with pytest.raises(DataError, match="cannot be read"):
        read_questions(tmp_path / "none.jsonl")


def test_accuracy_weighs_pictures_with_all_their_questions():
    rows = [{"image_id": p, "right": r} for p, r in (("a", True), ("a", False), ("a", True), ("b", False))]
    counts = count_by_picture(rows, ["b", "a", "c"])
    assert counts.tolist() == [[0, 1], [2, 3], [0, 0]]
    assert find_accuracy(counts) == 50
    assert find_accuracy(counts, np.array([[1, 0, 2], [0, 2, 1], [2, 1, 0]])).tolist() == pytest.approx([0, 200 / 3, 40])
