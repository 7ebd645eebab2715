"""The quick benchmarks run, and write what their heads say. Their figures are in benchmarks/README.md."""

import csv
from pathlib import Path

import pytest
import rewards as benchmark

from vr1kit.baselines import BASELINES
from vr1kit.rewards import VARIANTS

FOLDER = Path(benchmark.__file__).parent


def test_rewards_are_timed_beside_their_yardstick(tmp_path, capsys):
    rows = benchmark.main(["--rounds", "1", "--out", str(tmp_path / "rewards.csv")])
    with open(tmp_path / "rewards.csv", newline="") as file:
        assert [row["way"] for row in csv.DictReader(file)] == [row["way"] for row in rows]
    for p, g in benchmark.LIMITS:
        times = {row["way"]: row["times"] for row in rows if (row["P"], row["G"]) == (p, g)}
        assert {"yardstick", "paper, cut off", *VARIANTS, *BASELINES} <= set(times)
        assert times["yardstick"] == 1.0 and 1.0 < times["paper"] < 20  # the real limits want a quiet machine
    assert "paper" in capsys.readouterr().out


def test_the_committed_figures_keep_the_limits():
    with open(FOLDER / "rewards.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["limit"]:
            assert float(row["times"]) < float(row["limit"])
            theirs = [float(r["us"]) for r in rows if (r["P"], r["way"][:7]) == (row["P"], "theirs:") and "only" not in r["way"]]
            assert all(float(row["us"]) < us for us in theirs)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")) + sorted(FOLDER.glob("*.sh")), ids=lambda path: path.name)
def test_every_benchmark_has_a_row(path):
    assert f"`{path.name}`" in (FOLDER / "README.md").read_text()
