"""The paper's tables: every number of the paper is there, ours are the run's, and what was not run says so."""

import csv
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vr1kit.reporting import paper_tables
from vr1kit.reporting.paper_tables import NOT_RUN, TITLES, build_tables, write_tables
from vr1kit.results import read_paper
from vr1kit.runs import open_run, runs_root
from vr1kit.safekeeping.files import RunError, read_csv, read_json

PUBLISHED = runs_root() / "published"
PAPER = read_paper()


@pytest.fixture(scope="module")
def tables():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paper_tables, "RESAMPLES", 20)
        return build_tables("published")


def numbers(value):
    if isinstance(value, dict):
        return [n for key, inner in value.items() if key != "columns" for n in numbers(inner)]
    return [n for inner in value for n in numbers(inner)] if isinstance(value, list) else [float(value)]


KEYS = {
    "table1": "table1_main", "table2": "table2_out_of_domain", "table3": "table3_matcher_griffon",
    "table4": "table4_rewards_griffon_detection_only", "table5": "table5_step_griffon", "table9": "table9_odinw13_map",
    "table10": "table10_step_qwen", "table6_11": "table6_11_general_qa",
}  # fmt: skip


@pytest.mark.parametrize("name", KEYS)
def test_every_number_of_the_paper_is_there_once(tables, name):
    ours = [row["paper"] for row in tables[name] if row["paper"] is not None and row["measure"] != "mean"]
    assert sorted(ours) == sorted(numbers(PAPER[KEYS[name]]))
    assert set(KEYS) == set(TITLES) == set(tables)


def find(rows, **where):
    return [row for row in rows if all(row[key] == value for key, value in where.items())]


def test_hand_looked_up_cells(tables):
    place = {"model": "Qwen2.5-VL-7B", "method": "Vision-R1"}
    main = read_csv(PUBLISHED / "results" / "main.csv")
    seeds = {
        r["seed"]: r["value"]
        for r in main
        if (r["base_policy"], r["policy"], r["suite"], r["metric"]) == ("mixed", "vision_r1", "in_domain", "AP")
    }
    (cell,) = find(tables["table1"], **place, measure="COCO AP")
    assert cell["paper"] == 26.6 and cell["ours"] == pytest.approx(np.mean(list(seeds.values())))
    (row,) = [
        r
        for r in read_csv(PUBLISHED / "results" / "intervals.csv")
        if (r["base_policy"], r["suite"], r["metric"], r["policy"], r["kind"])
        == ("mixed", "in_domain", "AP", "vision_r1", "value")
    ]
    assert (cell["low"], cell["high"]) == (row["low"], row["high"])
    assert cell["interval"] == f"[{row['low']:.1f}, {row['high']:.1f}]"
    (cell,) = find(tables["table1"], **place, measure="ODINW pothole AP")
    assert cell["paper"] == 13.3 and cell["ours"] == NOT_RUN and cell["interval"] == ""
    (cell,) = find(tables["table6_11"], **place, measure="mean")
    assert cell["paper"] == pytest.approx((61.0 + 80.3 + 86.0 + 75.5) / 4) and isinstance(cell["ours"], float)
    (cell,) = find(tables["table4"], method="precision only", measure="COCO AP50")
    assert cell["paper"] == 55.6 and cell["low"] < cell["ours"] < cell["high"] and "“mixed”" in cell["what ours is"]


def test_no_row_puts_a_drawn_domain_beside_a_set_of_the_paper(tables):
    for name in ("table2", "table9"):
        single = [row for row in tables[name] if "mean" not in row["measure"]]
        assert single and all((row["paper"] is None) != (row["ours"] == NOT_RUN) for row in single)
    drawn = {row["measure"] for row in tables["table9"] if row["paper"] is None}
    assert len(drawn) == 13


def test_a_run_without_results_or_of_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path))
    with pytest.raises(RunError, match=r"has no results/main.csv: run notebook 04"):
        build_tables("mine")
    shutil.copytree(PUBLISHED / "results", tmp_path / "mine" / "results")
    rows = (tmp_path / "mine/results/main.csv").read_text().replace("base_policy", "base_model")
    (tmp_path / "mine/results/main.csv").write_text(rows)
    with pytest.raises(RunError, match="main.csv has no column base_policy: it is of another version of vr1kit"):
        build_tables("mine")


def test_each_file_names_run_and_commit(tmp_path, monkeypatch, tables):
    monkeypatch.setattr(paper_tables, "build_tables", lambda *_: tables)
    written = write_tables("published", tmp_path)
    commit = read_json(PUBLISHED / "results" / "provenance.json")["git_commit"]
    assert {f.suffix for f in written} == {".md", ".tex", ".csv"} and len(written) == 3 * len(TITLES)
    assert all("published" in f.read_text() and commit in f.read_text() for f in written)
    rows = list(csv.DictReader(open(tmp_path / "table10.csv", newline="")))
    assert len(rows) == len(tables["table10"]) and rows[0]["run"] == "published" and rows[0]["paper"] == "17.7"
    assert "18.0 in Table 1, 18.8 in Table 10" in (tmp_path / "table10.md").read_text()
    assert NOT_RUN in (tmp_path / "table1.md").read_text() and r"\toprule" in (tmp_path / "table1.tex").read_text()


@pytest.mark.slow
def test_one_command_rebuilds_all_without_torch_in_under_a_minute(tmp_path):
    script = "import sys\nfor name in ('torch', 'transformers', 'trl', 'peft', 'accelerate'): sys.modules[name] = None\n"
    script += "import time\nfrom vr1kit.cli import main\ncode = main(sys.argv[1:])\nprint('seconds', time.process_time())\nsys.exit(code)"
    words = ["tables", "--run", "published", "--out", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"seconds ([\d.]+)", done.stdout)[1]) < 60, "processor time: the machine may be busy"
    commit = read_json(open_run("published").path / "results" / "provenance.json")["git_commit"]
    built = {f.stem for f in tmp_path.glob("*.png")}
    assert {"main", "before_after", "rewards_mixed", "domains", "ablations", "set_gains_paper", "scenes"} <= built
    assert built == {f.stem for f in tmp_path.glob("*.pdf")}
    for path in [*tmp_path.glob("*.png"), *tmp_path.glob("*.pdf")]:
        said = path.read_bytes()
        assert f"run published, commit {commit}".encode() in said, path.name
