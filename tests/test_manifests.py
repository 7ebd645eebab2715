"""Records in run folders are files like any other: whatever they hold, there is a verdict and no crash."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vr1kit.rerun import list_commands
from vr1kit.runs import open_run
from vr1kit.safekeeping import provenance
from vr1kit.safekeeping.files import RunError, read_json
from vr1kit.safekeeping.manifests import read_attempt, read_manifest
from vr1kit.safekeeping.verify import verify_run

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def step(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VR1KIT_RUNS", str(tmp_path_factory.mktemp("runs")))
        step = open_run("a").step("data", {"n": 1}, {"base": "abc"}, code=["boxes"])
        step.begin()
        step.finish({})
        yield step


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_manifest_gets_a_verdict(step, data):
    whole = read_json(step.path / "manifest.json")
    kind = data.draw(st.sampled_from(("field", "whole", "bytes")))
    try:
        if kind == "field":
            field = data.draw(st.sampled_from(sorted(whole)))
            damaged = json.dumps({**whole, field: data.draw(VALUES)}).encode()
        elif kind == "whole":
            damaged = json.dumps(data.draw(VALUES)).encode()
        else:
            text = json.dumps(whole).encode()
            at = data.draw(st.integers(0, len(text)))
            damaged = text[:at] + data.draw(st.binary(max_size=4)) + text[at + data.draw(st.integers(0, 4)) :]
        (step.path / "manifest.json").write_bytes(damaged)
        assert step.state() in ("done", "stale") and "\n" not in step.why()
        verify_run(step.run)
        for read in (lambda: read_manifest(step.path), lambda: step.run.find("data"), lambda: list_commands(step.run, "b")):
            try:
                read()
            except RunError as error:
                assert "\n" not in str(error)
        assert step.output_hash() if kind != "bytes" else True
    except RunError as error:
        assert "\n" not in str(error)
    finally:
        (step.path / "manifest.json").write_text(json.dumps(whole))


@given(value=VALUES)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_attempt_is_whole_or_refused(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("attempt")
    (folder / "attempt.json").write_text(json.dumps(value))
    with pytest.raises(RunError):
        read_attempt(folder)


def git(folder: Path, *words: str) -> None:
    done = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words]
    subprocess.run(done, cwd=folder, check=True, capture_output=True)


def test_the_diff_in_a_step_gives_back_the_code_that_made_it(tmp_path, monkeypatch):
    package = tmp_path / "project" / "vr1kit"
    package.mkdir(parents=True)
    (package / "rewards.py").write_text("x = 1\n")
    git(tmp_path / "project", "init")
    git(tmp_path / "project", "add", ".")
    git(tmp_path / "project", "commit", "-m", "one")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))

    clean = open_run("a").step("clean", {})
    clean.begin()
    clean.finish({})
    assert clean.provenance()["git_dirty"] is False and not clean.has("changes.diff")

    (package / "rewards.py").write_text("x = 2\n")
    (package / "new.py").write_text("y = 'é'\n")
    step = open_run("a").step("dirty", {"seed": 4}, {"weights": "abc"})
    step.begin()
    step.finish({})
    record = step.provenance()
    assert record["git_dirty"] is True and len(record["git_commit"]) == 40
    assert record["config"] == {"seed": 4} and record["inputs"]["weights"] == {"hash": "abc"} and record["seed"] == 4

    (package / "new.py").unlink()
    git(tmp_path / "project", "checkout", "--", ".")
    git(tmp_path / "project", "apply", str(step.path / "changes.diff"))
    assert (package / "rewards.py").read_text() == "x = 2\n" and (package / "new.py").read_text() == "y = 'é'\n"


def test_a_package_inside_somebody_elses_repository_records_nothing_of_it(tmp_path, monkeypatch):
    package = tmp_path / "theirs" / "lib" / "vr1kit"
    package.mkdir(parents=True)
    (tmp_path / "theirs" / "secret.txt").write_text("theirs")
    git(tmp_path / "theirs", "init")
    git(tmp_path / "theirs", "add", ".")
    git(tmp_path / "theirs", "commit", "-m", "one")
    (tmp_path / "theirs" / "secret.txt").write_text("changed")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    assert provenance.describe_code() == {"git_commit": None, "git_dirty": None} and provenance.diff_code() == ""
