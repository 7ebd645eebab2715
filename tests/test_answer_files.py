"""Answers shared over processes: each question once, whatever happened in between."""

import json

import pytest

from vr1kit.answer_files import answer_share, list_missing, question_key, read_answers

PATHS = [f"pictures/{k}.png" for k in range(10)]
PROMPTS = [f"find {'x' * (k % 3)}" for k in range(10)]
KEYS = [question_key(*pair) for pair in zip(PATHS, PROMPTS, strict=True)]


class Model:
    """Answers with the picture's name; may stop after so many batches, as a killed process does."""

    def __init__(self, batches=10**9):
        self.asked, self.left = [], batches

    def __call__(self, paths, prompts):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked += paths
        return [f"{path}|{prompt}" for path, prompt in zip(paths, prompts, strict=True)]


EXPECTED = {k: f"{PATHS[k]}|{PROMPTS[k]}" for k in range(10)}


@pytest.mark.parametrize("processes", [1, 2, 3, 16])
def test_all_processes_together_answer_everything_once(tmp_path, processes):
    model, missing = Model(), list_missing(PATHS, PROMPTS, tmp_path)
    for rank in range(processes):
        answer_share(model, PATHS, PROMPTS, tmp_path, rank, processes, batch=2, missing=missing)
    assert read_answers(tmp_path, KEYS) == EXPECTED and sorted(model.asked) == PATHS


def test_an_interrupted_evaluation_continues_on_another_number_of_processes(tmp_path):
    missing = list_missing(PATHS, PROMPTS, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        answer_share(Model(batches=2), PATHS, PROMPTS, tmp_path, 0, 2, batch=2, missing=missing)
    answer_share(Model(), PATHS, PROMPTS, tmp_path, 1, 2, batch=2, missing=missing)
    assert len(missing := list_missing(PATHS, PROMPTS, tmp_path)) == 1
    model = Model()
    for rank in range(3):
        answer_share(model, PATHS, PROMPTS, tmp_path, rank, 3, batch=2, missing=missing)
    assert read_answers(tmp_path, KEYS) == EXPECTED and model.asked == [PATHS[missing[0]]]


def test_a_line_cut_short_is_answered_again(tmp_path):
    answer_share(Model(), PATHS, PROMPTS, tmp_path)
    file = tmp_path / "answers-0.jsonl"
    file.write_bytes(file.read_bytes()[:-10])
    assert len(list_missing(PATHS, PROMPTS, tmp_path)) == 1
    answer_share(Model(), PATHS, PROMPTS, tmp_path)
    assert read_answers(tmp_path, KEYS) == EXPECTED


def test_answers_to_other_questions_are_refused(tmp_path):
    (tmp_path / "answers-0.jsonl").write_text(json.dumps({"index": 0, "key": "other", "answer": "x"}) + "\n")
    with pytest.raises(ValueError, match="answers to other questions; delete it"):
        list_missing(PATHS, PROMPTS, tmp_path)
