"""Run folders: what counts as done, what goes stale and why, and what a killed process leaves behind."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from vr1kit import runs
from vr1kit.runs import RunError, open_run, project_root, read_csv, read_json
from vr1kit.safekeeping import files, manifests, provenance

CONFIG = {"seed": 3, "grpo": {"learning_rate": 1e-4, "steps": 20}}


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    """A toy package and an empty runs folder: tests edit code without touching the real one."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "rewards.py").write_text("def f(x):\n    return x\n")
    (folder / "grpo.py").write_text("from vr1kit.rewards import f\n\nrate = f(1)\n")
    (folder / "evaluate.py").write_text("def score():\n    return 1\n")
    (folder / "figures.py").write_text("colour = 'red'\n")
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("VR1KIT_TRACE", raising=False)
    return folder


def make(name="train", config=CONFIG, inputs=None, metrics=None, run="demo", code=None):
    step = open_run(run).step(name, config, inputs, code)
    step.begin()
    step.write_json("result.json", {"value": 1})
    step.finish(metrics or {"AP": 45.3})
    return step


@pytest.mark.parametrize("name", ["a/b", "../up", ".hidden", "", "two words", "a\\b", "naïve", "."])
def test_bad_run_names_are_refused_in_one_line(name):
    with pytest.raises(RunError) as error:
        open_run(name)
    assert "\n" not in str(error.value) and "letters, digits" in str(error.value)


@pytest.mark.parametrize("name", ["tiny", "2026-11-21", "a.b_c-D", "_x"])
def test_good_run_names_create_nothing(name):
    assert not open_run(name).path.exists()


@pytest.mark.parametrize("name", ["a//b", "/a", "a/../b", "a/"])
def test_bad_step_names_are_refused(name):
    with pytest.raises(RunError):
        open_run("demo").step(name, {})


def test_a_finished_step_is_done_and_its_manifest_lists_its_files():
    step = make()
    again = open_run("demo").step("train", dict(reversed(CONFIG.items())))  # the order of keys does not matter
    assert (again.state(), again.why()) == ("done", "done and unchanged")
    manifest = read_json(step.path / "manifest.json")
    assert set(manifest["artefacts"]) == {"result.json", "metrics.json", "provenance.json"}
    assert manifest["fingerprint"] == again.fingerprint
    assert again.metrics() == {"AP": 45.3}
    assert not step.has("attempt.json")


def test_a_step_that_never_ran_is_missing():
    step = open_run("demo").step("train", CONFIG)
    assert (step.state(), step.why()) == ("missing", "has not run yet")


def test_a_changed_setting_is_named_with_both_values():
    make()
    step = open_run("demo").step("train", {"seed": 3, "grpo": {"learning_rate": 2e-4, "steps": 20}, "beta": 0.2})
    assert step.state() == "stale"
    assert step.why() == "config changed: beta added, grpo.learning_rate 0.0001 -> 0.0002"


def test_changed_code_is_named_but_comments_docstrings_and_figures_do_not_count(package):
    step = make()
    (package / "figures.py").write_text("colour = 'blue'\n")
    (package / "rewards.py").write_text('"""New prose."""\n\ndef f(x):\n    """More."""\n    return x  # why\n')
    assert step.state() == "done"
    (package / "rewards.py").write_text('"""New prose."""\n\ndef f(x):\n    """More."""\n    return 2 * x\n')
    assert step.why() == "code changed since: rewards"
    (package / "rewards.py").unlink()
    assert step.state() == "stale"


def test_code_can_be_narrowed_to_a_module_and_what_it_imports(package):
    step = make(code=["grpo"])
    (package / "evaluate.py").write_text("def score():\n    return 2\n")
    assert step.state() == "done"
    (package / "rewards.py").write_text("def f(x):\n    return 2 * x\n")
    assert step.why() == "code changed since: rewards"


def test_what_is_finished_stays_as_it_is_where_that_is_asked_for(package, monkeypatch):
    make()
    (package / "rewards.py").write_text("def f(x):\n    return 2 * x\n")
    monkeypatch.setenv("VR1KIT_AS_IS", "1")
    step = open_run("demo").step("train", {**CONFIG, "beta": 2}, {"data": "abc"})
    assert (step.state(), step.why()) == ("done", "done, taken as it is")
    after = open_run("demo").step("after", {}, {"train": step})
    assert not after.request()["inputs"]["train"]["hash"].startswith("pending"), "what follows takes it as it is"
    (step.path / "result.json").unlink()
    assert step.why() == "artefact result.json is missing"


def test_a_module_that_does_not_exist_is_refused(package):
    with pytest.raises(ValueError, match="vr1kit.gpro, which does not exist"):
        open_run("demo").step("train", CONFIG, code=["gpro"])


def test_a_changed_input_makes_the_next_step_stale_and_an_equal_remake_does_not():
    data = make("data", {"pictures": 10}, metrics={})
    make("train", inputs={"data": data})
    data = make("data", {"pictures": 10}, metrics={})  # made again, with the same result
    step = open_run("demo").step("train", CONFIG, {"data": data})
    assert step.state() == "done"
    other = open_run("demo").step("data", {"pictures": 11})  # asked for differently, not yet made
    step = open_run("demo").step("train", CONFIG, {"data": other})
    assert (step.state(), step.why()) == ("stale", "input data changed")
    assert open_run("demo").step("train", CONFIG).why() == "input data was dropped"
    assert open_run("demo").step("train", CONFIG, {"data": "another hash"}).why() == "input data changed"


def test_an_input_remade_with_another_result_makes_the_next_step_stale():
    data = make("data", {"pictures": 10}, metrics={"boxes": 5})
    step = make("train", inputs={"data": data})
    assert step.state() == "done"
    make("data", {"pictures": 10}, metrics={"boxes": 6})
    assert step.why() == "input data changed"


def test_lost_and_altered_files_are_noticed():
    step = make()
    text = (step.path / "result.json").read_text()
    (step.path / "result.json").write_text(text.replace("1", "2"))  # of the same length
    assert step.why() == "artefact result.json was altered"
    (step.path / "result.json").unlink()
    assert step.why() == "artefact result.json is missing"


def test_a_damaged_manifest_is_stale_not_a_crash():
    step = make()
    (step.path / "manifest.json").write_text('{"fingerp')
    assert (step.state(), step.why()) == ("stale", "its manifest.json is damaged")


def interrupt(config=CONFIG, checkpoint=True):
    step = open_run("demo").step("train", config)
    step.begin()
    step.append_log({"step": 1, "reward": 0.5})
    with open(step.path / "log.jsonl", "a") as log:
        log.write('{"step": 2, "rew')  # killed while writing
    (step.path / "half.png").write_bytes(b"half")
    if checkpoint:
        (step.path / "checkpoints").mkdir()
        (step.path / "checkpoints" / "model").write_text("weights")
    return step


def test_an_interrupted_training_resumes_with_its_checkpoints_and_log():
    step = interrupt()
    assert (step.state(), step.why()) == ("missing", "was interrupted; it resumes from its checkpoints")
    assert step.begin() is True
    assert (step.path / "checkpoints" / "model").exists() and not (step.path / "half.png").exists()
    step.append_log({"step": 2, "reward": 0.6})
    assert [row["step"] for row in step.read_log()] == [1, 2]
    step.finish({})
    manifest = read_json(step.path / "manifest.json")
    assert set(manifest["artefacts"]) == {"log.jsonl", "metrics.json", "provenance.json"}, "checkpoints are left out"
    assert step.provenance()["resumed"] is True


def test_an_interrupted_attempt_at_something_else_starts_afresh():
    interrupt()
    step = open_run("demo").step("train", {**CONFIG, "seed": 4})
    assert step.why() == "an attempt with other settings was interrupted; it starts afresh"
    assert step.begin() is False
    assert os.listdir(step.path) == ["attempt.json"]


def test_a_finished_step_done_again_starts_afresh():
    step = make()
    (step.path / "checkpoints").mkdir()
    assert step.begin() is False
    assert os.listdir(step.path) == ["attempt.json"] and step.state() == "missing"


def test_a_step_being_cleared_is_no_longer_done_whatever_happens(monkeypatch):
    step = make()

    def fail(*arguments):
        raise OSError("disk trouble")

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(Path, "iterdir", fail)
        step.begin()
    assert step.state() == "missing"


def test_code_edited_while_a_step_runs_makes_its_result_stale(package):
    step = open_run("demo").step("train", CONFIG)
    step.begin()
    (package / "rewards.py").write_text("def f(x):\n    return 2 * x\n")
    step.finish({})
    assert step.why() == "code changed since: rewards"


def test_a_process_killed_before_the_manifest_leaves_a_step_that_is_not_done(tmp_path):
    script = (
        "import os\nfrom vr1kit import runs\nfrom vr1kit.safekeeping import files\n"
        "step = runs.open_run('demo').step('train', {})\nstep.begin()\nstep.write_json('r.json', 1)\n"
        "real = os.replace\n"
        "def replace(source, target):\n"
        "    if str(target).endswith('manifest.json'): os._exit(9)\n"
        "    real(source, target)\n"
        "os.replace = replace\nstep.finish({})\n"
    )
    root = Path(runs.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, check=False)
    assert done.returncode == 9
    step = open_run("demo").step("train", {})
    assert step.has("metrics.json") and not step.has("manifest.json") and step.state() == "missing"


def test_writing_without_begin_and_after_finish_is_refused():
    step = open_run("demo").step("train", CONFIG)
    for write in (lambda: step.write_json("a.json", 1), lambda: step.append_log({}), lambda: step.finish({})):
        with pytest.raises(RunError, match="call begin"):
            write()
    step = make()
    with pytest.raises(RunError, match="call begin"):
        step.append_log({})


def test_steps_must_not_lie_inside_each_other():
    make("policies/mixed")
    with pytest.raises(RunError, match="inside the other"):
        open_run("demo").step("policies/mixed/seed0", {}).begin()
    with pytest.raises(RunError, match="inside the other"):
        open_run("demo").step("policies", {}).begin()
    assert open_run("demo").step("policies/mixed2", {}).begin() is False


def test_a_frozen_run_is_taken_as_it_is_and_never_written(package):
    step = make()
    run = open_run("demo")
    run.freeze("made by a test")
    (package / "rewards.py").write_text("def f(x):\n    return 2 * x\n")
    (step.path / "result.json").unlink()  # large files of published runs are not committed
    frozen = run.step("train", {"other": 1})
    assert frozen.state() == "done"
    for write in (frozen.begin, lambda: frozen.write_json("a.json", 1), lambda: frozen.finish({})):
        with pytest.raises(RunError, match="frozen"):
            write()
    with pytest.raises(RunError, match="frozen and has no step 'eval': use another run name"):
        run.step("eval", {})


def test_find_gives_back_the_step_as_it_was_made(package):
    data = make("data", {"pictures": 10})
    make("train", inputs={"data": data, "extra": "abc"}, code=["grpo"])
    run = open_run("demo")
    assert run.step_names() == ["data", "train"]
    assert run.find("train").state() == "done"
    (package / "rewards.py").write_text("def f(x):\n    return 2 * x\n")
    assert run.find("train").state() == "stale"
    with pytest.raises(RunError, match="no step 'nope'; among its 2 are: data, train"):
        run.find("nope")


def test_steps_are_listed_while_another_process_makes_and_removes_checkpoints():
    make("policies/done")
    step = open_run("demo").step("policies/training", CONFIG)
    step.begin()
    over = threading.Event()

    def train():
        while not over.is_set():
            for k in range(20):
                (step.path / "checkpoints" / f"checkpoint-{k}").mkdir(parents=True)
            shutil.rmtree(step.path / "checkpoints")

    thread = threading.Thread(target=train)
    thread.start()
    try:
        assert all(open_run("demo").step_names() == ["policies/done", "policies/training"] for _ in range(300))
    finally:
        over.set()
        thread.join()


def test_the_trace_lists_the_steps_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_TRACE", str(tmp_path / "trace"))
    open_run("demo").step("a/b", {})
    assert json.loads((tmp_path / "trace").read_text()) == ["demo", "a/b"]


def test_provenance_says_what_made_the_numbers_and_names_no_folder(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/vr1kit", "study", "/somewhere/else/data.json"])
    monkeypatch.delenv("VR1KIT_COMMAND", raising=False)
    record = make().provenance()
    assert record["command"] == "vr1kit study data.json" and record["seed"] == 3
    assert record["packages"]["numpy"] == np.__version__ and record["python"].startswith("3.")
    assert record["seconds"] >= 0 and record["peak_memory_mib"] > 1 and record["cpu_count"] >= 1
    assert "somewhere" not in json.dumps(record)


def test_numbers_survive_json_and_csv(tmp_path):
    value = {"a": np.float32(0.5), "b": (1, np.int64(2)), "c": float("nan"), "d": np.arange(2), "e": np.bool_(True)}
    files.write_json_atomic(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == {"a": 0.5, "b": [1, 2], "c": None, "d": [0, 1], "e": True}
    rows = [
        {"suite": "in_domain", "value": 0.1 + 0.2, "n": 3, "gap": None},
        {"suite": "4", "value": 1e-7, "n": 0, "gap": "x,y"},
    ]
    files.write_csv_atomic(tmp_path / "x.csv", rows)
    assert read_csv(tmp_path / "x.csv") == [rows[0], {**rows[1], "suite": 4}]
    with pytest.raises(ValueError, match="row 1 differs in its columns: b"):
        files.write_csv_atomic(tmp_path / "y.csv", [{"a": 1}, {"a": 1, "b": 2}])
    with pytest.raises(TypeError, match="cannot store"):
        files.write_json_atomic(tmp_path / "y.json", {"path": tmp_path})
    assert sorted(os.listdir(tmp_path)) == ["package", "x.csv", "x.json"], "failed writes leave nothing behind"


def test_damaged_json_is_one_clear_line(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(RunError, match="not valid JSON"):
        read_json(tmp_path / "x.json")


def test_the_runs_folder_is_found_from_the_notebooks_folder_too(tmp_path, monkeypatch):
    monkeypatch.delenv("VR1KIT_RUNS")
    project = tmp_path / "project"
    (project / "notebooks").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[project]\nname = "vr1kit"\n')
    for folder in (project, project / "notebooks"):
        monkeypatch.chdir(folder)
        assert runs.runs_root() == project / "runs"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(provenance, "PACKAGE", project / "vr1kit")
    assert runs.runs_root() == project / "runs"


def test_a_folder_from_another_version_is_refused_and_says_which():
    make()
    manifest = open_run("demo").path / "train" / "manifest.json"
    record = read_json(manifest)
    assert record["format"] == manifests.FORMAT and record["vr1kit"]
    manifest.write_text(json.dumps({**record, "format": 2, "vr1kit": "9.1"}))
    for use in (lambda: open_run("demo").find("train"), lambda: open_run("demo").step("train", CONFIG).state()):
        with pytest.raises(RunError, match=r"manifest.json was written by another version of vr1kit \(9.1, format 2; this is"):
            use()
    manifest.write_text(json.dumps({k: v for k, v in record.items() if k not in ("format", "vr1kit", "code")}))
    with pytest.raises(RunError, match="is not what vr1kit wrote there; delete it"):
        open_run("demo").find("train")
    manifest.write_text(json.dumps({k: v for k, v in record.items() if k not in ("format", "vr1kit")}))
    assert open_run("demo").find("train").state() == "done", "before the format was written it was 1"


def test_the_published_run_is_found_from_any_folder_of_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path))
    assert open_run("published").path == project_root() / "runs" / "published" and open_run("other").path == tmp_path / "other"
    (tmp_path / "published").mkdir()
    assert open_run("published").path == tmp_path / "published"
