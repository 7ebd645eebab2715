"""Ctrl-C and SIGTERM: what runs saves and ends in time, whatever runs; a dead parent leaves nobody behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vr1kit.runs import project_root
from vr1kit.safekeeping import interruption
from vr1kit.safekeeping.interruption import sigterm_as_ctrl_c, stop_at_next_step


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_step_is_finished_first(number):
    steps, before = 0, signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop_at_next_step() as stop:
        while not stop.requested:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), signal.SIGTERM)  # clusters ask more than once
            steps += 1
    assert steps == 1 and signal.getsignal(number) is before


def test_a_second_ctrl_c_does_not_wait():
    with pytest.raises(KeyboardInterrupt), stop_at_next_step():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("should not get here")


def test_a_step_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(interruption, "GRACE", 0.2)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), stop_at_next_step():
        os.kill(os.getpid(), signal.SIGTERM)
        while time.monotonic() < began + 10:
            time.sleep(0.05)
    assert time.monotonic() - began < 5


def test_nothing_asked_nothing_raised():
    with stop_at_next_step() as stop:
        pass
    assert not stop.requested


def test_sigterm_is_ctrl_c():
    with pytest.raises(KeyboardInterrupt), sigterm_as_ctrl_c():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)


# A process with two workers: one that saves when asked to, and one that ignores everything.
POOL = """
import signal, sys, time
from pathlib import Path
from vr1kit.safekeeping import interruption
interruption.PATIENCE = 2.0

def careful(path):
    with interruption.sigterm_as_ctrl_c(), interruption.stop_at_next_step() as stop:
        Path(path + ".begun").touch()
        while not stop.requested:
            time.sleep(0.05)
        Path(path + ".saved").touch()

def deaf(path):
    interruption.PATIENCE = 2.0
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path + ".begun").touch()
    time.sleep(120)

if __name__ == "__main__":
    with interruption.sigterm_as_ctrl_c(), interruption.worker_pool(2) as pool:
        futures = [pool.submit(careful, sys.argv[1] + "/careful"), pool.submit(deaf, sys.argv[1] + "/deaf")]
        while True:
            time.sleep(0.1)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_save_and_end_with_the_process_that_started_them(tmp_path, number):
    (tmp_path / "pool.py").write_text(POOL)
    environment = {**os.environ, "PYTHONPATH": str(project_root())}
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "pool.py"), str(tmp_path)], env=environment, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )  # fmt: skip
    wait_for(lambda: (tmp_path / "careful.begun").exists() and (tmp_path / "deaf.begun").exists())
    workers = children_of(process.pid)
    assert len(workers) >= 2
    process.send_signal(number)
    process.communicate(timeout=60)
    wait_for(lambda: not any(map(is_alive, workers)))
    assert (tmp_path / "careful.saved").exists()


def wait_for(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def children_of(process_id: int) -> list[int]:
    with open(f"/proc/{process_id}/task/{process_id}/children") as file:
        return [int(word) for word in file.read().split()]


def is_alive(process_id: int) -> bool:
    try:
        with open(f"/proc/{process_id}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
