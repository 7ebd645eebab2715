"""Several processes from one call: start them, follow their log, end all when one ends, and say in one line what happened.

    rows = open_run("models").path / "training" / "tiny-grpo" / "log.jsonl"
    launch(["train", "--profile", "tiny", "--data", "scenes"], processes=2, log=Path("launch.log"), on_poll=follow(rows))

Each process runs `vr1kit WORDS` itself, by torch's own launcher on CPUs and by `accelerate launch` where a configuration file is
given. All their output goes to one file. Works from a shell, from JupyterLab and from papermill: nothing is asked, nothing is
forked, and Ctrl-C or an interrupted kernel ends every process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vr1kit.scale.ways import read_way

FOLLOWED = ("step", "stage", "reward", "dual_format", "recall", "precision", "tokens", "loss", "seconds")
GRACE = 20  # seconds that processes have to end after one of them did
_KILLED = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", re.DOTALL)
_COMPLAINT = re.compile(r"^(?:\[rank\d+\]:\s*)?((?:vr1kit: |\w*(?:Error|Refused|Exception)\b:? ).*)$", re.MULTILINE)


class LaunchError(RuntimeError):
    """A process failed or was killed; the message is one line."""


def build_command(words: Sequence[str], processes: int, accelerate: Path | None = None) -> list[str]:
    """The command line that starts `vr1kit WORDS` that many times on this machine."""
    if accelerate is not None:
        start = ["accelerate.commands.launch", "--config_file", str(accelerate), "--num_processes", str(processes), "-m"]
    else:
        start = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m"]
    return [sys.executable, "-m", *start, "--", "vr1kit.cli", *words]  # "--": or torch takes our --run for its --run-path


def launch(
    words: Sequence[str],
    processes: int,
    log: Path,
    accelerate: Path | None = None,
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run `vr1kit WORDS` in so many processes until all are done; output goes to `log`. Raises LaunchError, in one line."""
    if (machines := read_way(accelerate, {}).machines) > 1:
        start = f"accelerate launch --config_file {accelerate} --machine_rank N --main_process_ip FIRST -m vr1kit.cli"
        raise ValueError(f"{accelerate} is for {machines} machines; start `{start} {words[0]} ...` on each of them")
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONUNBUFFERED": "1"}
    began = log.stat().st_size if log.exists() else 0
    with open(log, "ab") as out:
        group = subprocess.Popen(
            build_command(words, processes, accelerate), stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            while group.poll() is None:
                on_poll()
                time.sleep(0.3)
        finally:  # Ctrl-C, or an error of on_poll's
            _end(group)
    on_poll()
    if group.returncode:
        text = log.read_bytes()[began:].decode(errors="replace")
        raise LaunchError(
            f"{explain(text, processes)}; the same command goes on from the last checkpoint; all output is in {log}"
        )


def follow(log: Path, say: Callable[[str], None] = print, keep: Sequence[str] = FOLLOWED) -> Callable[[], None]:
    """For `on_poll`: says each new row of a training's log.jsonl in one line. What is there already is not said."""
    position = log.stat().st_size if log.exists() else 0

    def poll() -> None:
        nonlocal position
        if not log.exists():
            return
        position = min(position, log.stat().st_size)  # a resumed training cuts its log back
        with open(log, "rb") as file:
            file.seek(position)
            whole, _, _ = file.read().rpartition(b"\n")  # a last line may still be being written
        if whole:
            position += len(whole) + 1
            for row in map(json.loads, whole.splitlines()):
                say("  ".join(f"{name} {row[name]}" for name in keep if name in row))

    return poll


def explain(text: str, processes: int) -> str:
    """What ended a group of processes, from their output: a process killed from outside, or the first complaint."""
    killed = _KILLED.search(text)
    if killed and int(killed[2]) < 0:
        name = signal.Signals(-int(killed[2])).name
        hint = " (out of memory is the usual reason)" if name == "SIGKILL" else ""
        return f"process {int(killed[1]) + 1} of {processes} was killed by {name}{hint}, and the others were ended"
    complaints = _COMPLAINT.findall(text)
    said = complaints[0] if complaints else "no reason is in their output"
    return (
        f"process {int(killed[1]) + 1} of {processes} failed: {said.removeprefix('vr1kit: ')}"
        if killed
        else f"the launcher failed: {said}"
    )


def _end(group: subprocess.Popen) -> None:
    """End the launcher and whatever it started."""
    for ask, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        if group.poll() is not None:
            return
        os.killpg(group.pid, ask)
        try:
            group.wait(patience)
        except subprocess.TimeoutExpired:
            continue
