"""One writer at a time: the second is told who the first is; what a killed one left locks nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vr1kit import runs
from vr1kit.runs import RunError, open_run, project_root
from vr1kit.safekeeping import locks

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom vr1kit.safekeeping import locks\n"
    "locks.acquire(Path(sys.argv[1]), 'it')\nprint('held', flush=True)\ntime.sleep(60)\n"
)


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("VR1KIT_COMMAND", raising=False)


@pytest.fixture
def holder(tmp_path):
    """A process that holds tmp_path/lock."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "lock")], cwd=project_root(), stdout=subprocess.PIPE) as p:
        assert p.stdout.readline() == b"held\n"
        yield p
        p.kill()


def test_the_second_process_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(RunError, match=rf"run 'x' is in use by process {holder.pid} \(.*\), since 2\d\d\d-.* UTC: wait for it"):
        locks.acquire(tmp_path / "lock", "run 'x'")


def test_the_lock_of_a_killed_process_is_stale_and_says_whose_it_was(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    left = locks.acquire(tmp_path / "lock", "it")
    assert left["process"] == holder.pid
    assert f"process {holder.pid} (" in locks.describe(left)
    locks.release(tmp_path / "lock")
    assert locks.acquire(tmp_path / "lock", "it") is None, "this one ended well"
    locks.release(tmp_path / "lock")


def test_waiting_is_rewarded(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)  # and only reaped later
    assert locks.acquire(tmp_path / "lock", "it", wait=10) is not None
    locks.release(tmp_path / "lock")


def test_the_same_process_may_ask_again_and_its_lock_file_may_be_rubbish(tmp_path):
    (tmp_path / "lock").write_bytes(b'{"process": 1, "ho\xff')
    assert locks.acquire(tmp_path / "lock", "it") is None
    assert locks.acquire(tmp_path / "lock", "it") is None
    locks.release(tmp_path / "lock")
    locks.release(tmp_path / "lock")


def test_a_step_that_another_process_makes_is_refused_and_a_finished_one_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LOCK_WAIT", 0.2)
    script = (
        "import time\nfrom vr1kit.runs import open_run\nstep = open_run('a').step('x/y', {}, code=[])\n"
        "step.begin()\nprint('begun', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=project_root(), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        step = open_run("a").step("x/y", {}, code=[])
        with pytest.raises(RunError, match=f"step 'x/y' of run 'a' is in use by process {process.pid}"):
            step.begin()
        assert step.has("attempt.json"), "what the other makes is untouched"
        open_run("a").step("x/z", {}, code=[]).begin()
        process.kill()
    step.begin()
    step.finish({})
    assert (Path(step.run.path) / ".locks" / "x+y.lock").read_text() == ""


def test_a_run_in_use_is_refused():
    script = "import time\nfrom vr1kit.runs import open_run\nwith open_run('a').locked():\n    print(1, flush=True)\n    time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], cwd=project_root(), stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(RunError, match="run 'a' is in use by process"), open_run("a").locked():
            pass
        process.kill()
    with open_run("a").locked() as left:
        assert left["process"] == process.pid
