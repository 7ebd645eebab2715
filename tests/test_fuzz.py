"""A quick share of benchmarks/fuzz.py: 2,000 random answers, and proof that its checks can fail."""

import json
from collections import Counter
from dataclasses import replace

import fuzz
import numpy as np
import pytest
from fuzz_cases import JUNK_EVERY, make_case

from vr1kit.completions import REASONS, parse_completion

CASES, LARGEST = 2000, 30_000  # the last is junk


def test_two_thousand_answers_raise_nothing_and_add_up():
    total = fuzz.run_range((0, 0, CASES, float("inf"), LARGEST))
    assert total.wrong == []
    assert set(total.cases) == {"intact", "mild", "wild", "junk"} and min(total.cases["intact"], total.cases["mild"]) > 500
    # The cases are worth their time: every reason occurs, and so do well-formed answers and boxes in number.
    assert set(REASONS) <= set(total.counts)
    assert total.counts["well-formed"] > 200 and total.counts["boxes"] > 3000
    # Linear, with much room for a busy machine: quadratic in a text of 100,000 would be far beyond.
    assert max(rate for rate, _ in total.worst.values()) < 50_000


def test_a_case_is_a_function_of_seed_and_number():
    assert [make_case(3, number) for number in range(50)] == [make_case(3, number) for number in range(50)]
    assert make_case(3, 7) != make_case(4, 7)
    junk = make_case(0, JUNK_EVERY - 1)
    assert junk.kind == "junk" and len(junk.text) >= 10_000


def test_much_is_known_of_most_cases():
    known = Counter((case.kind, case.items is not None) for case in (make_case(0, number) for number in range(600)))
    assert known["intact", True] > 4 * known["intact", False] and known["mild", True] > 2 * known["mild", False]


SOME = [make_case(0, number) for number in range(100)]
CASE = next(case for case in SOME if case.kind == "mild" and len(case.boxes or ()) > 2)
PARSED = parse_completion(CASE.text, CASE.size)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"boxes_xyxy": PARSED.boxes_xyxy.tolist()}, "no (P, 4) floats"),
        ({"boxes_xyxy": PARSED.boxes_xyxy[:, :3]}, "no (P, 4) floats"),
        ({"boxes_xyxy": PARSED.boxes_xyxy[:-1]}, "items, but"),
        ({"boxes_xyxy": np.where(PARSED.boxes_xyxy > 0, np.nan, 0.0)}, "not finite"),
        ({"boxes_xyxy": PARSED.boxes_xyxy[:, [2, 3, 0, 1]]}, "not ordered"),
        ({"boxes_xyxy": PARSED.boxes_xyxy + 5000}, "outside"),
        ({"boxes_xyxy": PARSED.boxes_xyxy[::-1]}, "boxes should be"),
        ({"labels": PARSED.labels[1:]}, "labels do not match"),
        ({"labels": (None,) * len(PARSED.labels)}, "labels do not match"),
        ({"reasons": ()}, "format is 1.0, the strict grammar says False"),
        ({"reasons": (*PARSED.reasons, "unheard_of")}, "unknown or out of order"),
        ({"reasons": ("outside", *PARSED.reasons)}, "unknown or out of order"),
        ({"reasons": (*PARSED.reasons, "no_box")}, "items, but"),
        ({"_spans": PARSED.spans[::-1]}, "offset"),
        ({"_spans": ()}, "offset"),
    ],
)
def test_every_check_can_fail(changes, problem):
    assert fuzz.find_problems(CASE, PARSED) == []
    assert any(problem in found for found in fuzz.find_problems(CASE, replace(PARSED, **changes)))


def test_an_object_among_the_coordinates_is_one_fault():
    assert parse_completion('[{"bbox_2d": [{}, 2, 3, 4], "label": "a"}]', (100, 80)).reasons == ("box_type",)


def test_a_well_formed_answer_taken_for_none_is_found():
    case = next(case for case in SOME if case.kind == "intact" and parse_completion(case.text, case.size).dual_format)
    torn = replace(parse_completion(case.text, case.size), reasons=("junk",))
    assert any("the strict grammar says True" in found for found in fuzz.find_problems(case, torn))


def test_the_command_finds_saves_and_exits(tmp_path, monkeypatch, capsys):
    options = ["--workers", "1", "--failures", str(tmp_path / "bad"), "--out", str(tmp_path / "fuzz.json")]
    assert fuzz.main(["--cases", "30", "--limit", "1e9", *options]) == 0
    assert "0 wrong outcomes; 0 cases over 1e+09 ms/MB" in capsys.readouterr().out
    assert not (tmp_path / "bad").exists()
    written = json.loads((tmp_path / "fuzz.json").read_text())
    assert written["settings"]["cases"] == 30 and sum(written["outcome"]["cases"].values()) == 30

    assert fuzz.main(["--cases", "3", "--limit", "1e-9", *options]) == 1
    assert "0 wrong outcomes; 3 cases over" in capsys.readouterr().out

    def fail(text, size):
        raise IndexError("out of range")

    monkeypatch.setattr(fuzz, "parse_completion", fail)  # the workers are forked, or this would not reach them
    monkeypatch.setattr(fuzz.multiprocessing, "Pool", fuzz.multiprocessing.get_context("fork").Pool)
    assert fuzz.main(["--cases", "1", "--first", "5", "--seed", "9", *options]) == 1
    printed = capsys.readouterr().out
    assert "wrong: case 5: raised: " in printed and "IndexError: out of range" in printed
    assert (tmp_path / "bad" / "9-5.txt").read_bytes().decode("utf-8", "surrogatepass") == make_case(9, 5).text
