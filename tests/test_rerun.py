"""A run is repeated from its own record; what differs, in surroundings and results, is said, and nothing else."""

import pytest

from vr1kit import cli
from vr1kit.drawing.style import new_chart, save_figure
from vr1kit.rerun import compare_runs, list_commands
from vr1kit.runs import RunError, open_run
from vr1kit.safekeeping import provenance
from vr1kit.safekeeping.files import read_json, write_json_atomic


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("VR1KIT_COMMAND", raising=False)
    return tmp_path / "runs"


def make(run, name="policies/a", metrics=None, rows=(), command="vr1kit study --run x --profile smoke", **files):
    step = open_run(run).step(name, {"seed": 1}, {"base": "abc"}, code=["boxes"])
    step.begin()
    for row in rows:
        step.append_log(row)
    for stem, rows_of in files.items():
        step.write_csv(f"{stem}.csv", rows_of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VR1KIT_COMMAND", command)
        step.finish(metrics or {"AP": 45.3, "train_seconds": 3.0})
    return open_run(run)


def test_commands_come_from_the_record_once_each_under_the_new_name():
    make("x", command="vr1kit study --run x --profile smoke --part policies")
    make("x", "b", command="vr1kit study --run=x --profile smoke --part policies")
    make("x", "c", command="make reproduce RUN=x PROFILE=smoke")
    make("x", "d", command="vr1kit reproduce --run x --profile smoke --force -p seeds '[1, 2]'")
    commands = list_commands(open_run("x"), "y")
    assert sorted(commands) == sorted([
        ["study", "--profile", "smoke", "--part", "policies", "--run", "y"],
        ["reproduce", "--profile", "smoke", "--run", "y"],
        ["reproduce", "--profile", "smoke", "-p", "seeds", "[1, 2]", "--run", "y"],
    ])  # fmt: skip
    for words in commands:
        assert cli.build_parser().parse_args(words).run == "y"


@pytest.mark.parametrize("command", ["jupyter", "rm -rf /", "vr1kit publish x", "vr1kit 'study", "", "vr1kit"])
def test_nothing_but_studies_and_pipelines_is_repeated(command):
    make("x", command=command or " ")
    with pytest.raises(RunError, match="can only be repeated by hand"):
        list_commands(open_run("x"), "y")
    make("x", "b", command="vr1kit study --run x")
    assert list_commands(open_run("x"), "y") == [["study", "--run", "y"]], "what can be repeated is"


@pytest.fixture
def clean_checkout(monkeypatch):
    """As if nothing was changed since the commit, whatever the developer is at."""
    monkeypatch.setattr(provenance, "describe_code", lambda: {"git_commit": "abc", "git_dirty": False})


def test_equal_results_are_equal_whatever_the_times(clean_checkout):
    rows = [{"step": 1, "reward": 0.5, "seconds": 1.0}]
    old = make("x", rows=rows, table=[{"a": 1}])
    new = make("y", rows=[{**rows[0], "seconds": 2.0}], metrics={"AP": 45.3, "train_seconds": 9.0}, table=[{"a": 1}])
    found = compare_runs(old, new)
    assert (found.steps, found.results, found.surroundings) == (1, [], [])


def test_every_difference_is_named_by_step_and_file():
    rows = [{"step": n, "reward": 0.5} for n in (1, 2, 3)]
    old = make("x", rows=rows, table=[{"a": 1}, {"a": 2}])
    make("x", "evaluation/a")
    new = make("y", rows=[*rows[:2], {"step": 3, "reward": 0.6}], metrics={"AP": 45.2}, table=[{"a": 1}, {"a": 3}])
    record = read_json(new.path / "policies/a/provenance.json")
    write_json_atomic(
        new.path / "policies/a/provenance.json",
        {**record, "packages": {**record["packages"], "numpy": "1.0"}, "git_commit": "def"},
    )
    found = compare_runs(old, new)
    assert found.results == [
        "evaluation/a: was not made",
        "policies/a: log.jsonl: from step 3 on: reward 0.5 -> 0.6",
        "policies/a: metrics.json: AP 45.3 -> 45.2",
        "policies/a: table.csv: 1 of 3 lines differ",
    ]
    assert any('packages.numpy "' in line and line.endswith('-> "1.0"') for line in found.surroundings)
    assert any(line.startswith("git_commit ") for line in found.surroundings)


def test_figures_are_compared_by_what_they_show():
    def draw(run, points, commit):
        chart = new_chart(3, 2)
        chart.add_subplot().plot(points)
        step = open_run(run).step("figures", {})
        step.begin()
        save_figure(chart, "main", step.path, {"run": run, "commit": commit})
        step.finish({})
        return open_run(run)

    old, same, other = draw("x", [1, 2], "abc"), draw("a-longer-name", [1, 2], "def"), draw("z", [1, 3], "abc")
    for name in ("main.png", "main.pdf"):
        assert (old.path / "figures" / name).read_bytes() != (same.path / "figures" / name).read_bytes()
    assert compare_runs(old, same).results == []
    assert compare_runs(old, other).results == [
        "figures: main.pdf: shows something else",
        "figures: main.png: shows something else",
    ]


def test_a_run_is_not_repeated_into_itself_nor_without_steps(capsys):
    assert cli.main(["rerun", "x"]) == 2
    assert "no finished step" in capsys.readouterr().err
    make("x")
    assert cli.main(["rerun", "runs/x", "--into", "x"]) == 2
    assert "into itself" in capsys.readouterr().err


@pytest.mark.slow
def test_a_study_repeated_from_its_record_gives_the_same_answers_rewards_and_ap(capsys):
    """Determinism, end to end: pictures, mix, two-stage GRPO with sampling, weights, predictions, AP."""
    assert cli.main(["study", "--run", "one", "--profile", "smoke", "--only", "mixed-seed0-vision_r1"]) == 0
    for name in open_run("one").step_names():  # pytest was what called it
        path = open_run("one").path / name / "provenance.json"
        write_json_atomic(
            path, {**read_json(path), "command": "vr1kit study --run one --profile smoke --only mixed-seed0-vision_r1"}
        )
    capsys.readouterr()
    code = cli.main(["rerun", "one"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "0 differences in results" in said and "came out: no difference" in said
    weights = "policies/mixed-seed0-vision_r1/model/model.safetensors"
    assert (open_run("one").path / weights).read_bytes() == (open_run("one-rerun").path / weights).read_bytes()
