"""Findings in words, each from rows that a run could have logged."""

import pytest

from vr1kit.monitor import WINDOW, Watch, examine

HEALTHY = {
    "loss": 0.01,
    "grad_norm": 1.0,
    "reward": 1.5,
    "zero_advantage": 0.1,
    "cut_off": 0.0,
    "dual_format": 0.9,
    "kl": 0.05,
    "entropy": 0.6,
}


def run(n=3 * WINDOW, **late):
    """Healthy rows; in the last WINDOW these values instead."""
    return [{"step": k + 1, **HEALTHY, **(late if k >= n - WINDOW else {})} for k in range(n)]


def test_a_healthy_run_and_a_short_one_have_no_findings():
    assert examine(run()) == examine(run(5)) == examine([]) == []


@pytest.mark.parametrize(
    ("late", "name", "words", "hopeless"),
    [
        ({"zero_advantage": 1.0}, "no_signal", "100% of the groups.*harder pictures", True),
        ({"zero_advantage": 1.0, "reward": 0.0}, "no_signal", "begin with SFT", True),
        ({"cut_off": 0.5}, "cut_off", "50% of the answers are cut.*max_completion_length", False),
        ({"dual_format": 0.2}, "format_collapse", "from 90% to 20%", True),
        ({"kl": 30.0}, "kl_explosion", "30.0", True),
        ({"entropy": 0.001}, "entropy_collapse", "no longer tries", False),
    ],
)
def test_each_finding(late, name, words, hopeless):
    import re

    (finding,) = examine(run(**late))
    assert (finding.name, finding.step, finding.hopeless) == (name, 3 * WINDOW, hopeless)
    assert re.search(words, finding.words) and "\n" not in finding.words


def test_a_loss_that_is_no_number_is_found_at_once():
    (finding,) = examine([{"step": 1, **HEALTHY, "loss": float("nan")}])
    assert finding.name == "not_finite" and finding.hopeless


def test_a_base_that_never_wrote_well_formed_answers_has_not_collapsed():
    assert examine([{**row, "dual_format": 0.02} for row in run()]) == []


def test_a_finding_is_said_once_until_it_is_gone():
    watch = Watch(run())
    bad = {"step": 99, **HEALTHY, "loss": float("nan")}
    assert [f.name for f in watch.add(bad)] == ["not_finite"]
    assert watch.add(bad) == []
    assert watch.add({"step": 100, **HEALTHY}) == []
    assert [f.name for f in watch.add(bad)] == ["not_finite"]
