"""The five notebooks as one pipeline over papermill: skip what is done, resume what was cut short, report.

    vr1kit reproduce --run tiny --profile tiny

Each notebook is a step `notebooks/<stem>` of the run, with executed.ipynb, params.json, metrics.json,
provenance.json and the manifest that makes it done. It runs again when its code cells, its parameters, an earlier
notebook, the modules it imports or any step it used have changed, and says which. A failed notebook is kept as
failed.ipynb, never as executed.ipynb.

1. papermill only warns about an unknown parameter and goes on: here it is refused before anything runs.
2. papermill starts whichever kernel is registered as python3, perhaps another environment's: here it is always
   ipykernel under this very interpreter.
3. papermill cannot resume inside a notebook. It need not: inside, every costly thing is a step of its own.
"""

import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import papermill
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets import default

from vr1kit.profiles import get_profile
from vr1kit.runs import Run, RunError, Step, open_run, project_root, read_json
from vr1kit.safekeeping import failures, locks
from vr1kit.safekeeping.differences import shorten
from vr1kit.safekeeping.files import write_text_atomic
from vr1kit.safekeeping.interruption import PATIENCE, sigterm_as_ctrl_c
from vr1kit.safekeeping.provenance import notebook_modules, set_environment
from vr1kit.terminal import NotebookOutput, Screen, format_seconds

NOTEBOOKS = ("01_data_curation", "02_reward_ablations", "03_two_stage_grpo", "04_evaluation", "05_figures")
SIMPLE_TYPES = {"int": int, "float": (int, float), "bool": bool, "str": str}


@dataclass(frozen=True)
class Task:
    """One notebook with the parameters it will get."""

    path: Path
    parameters: dict[str, Any]
    step: Step
    minutes: float

    @property
    def stem(self) -> str:
        return self.path.stem


def reproduce(
    run: str,
    profile: str,
    only: str | None = None,
    force: bool = False,
    parameters: Mapping[str, Any] | None = None,
) -> int:
    """Run the notebooks that need it and build the report; the exit code: 0, 1 (a cell failed) or 130 (Ctrl-C)."""
    opened = open_run(run)
    minutes = get_profile(profile).minutes
    folder = project_root() / "notebooks"
    tasks = plan(opened, [folder / f"{stem}.ipynb" for stem in NOTEBOOKS], profile, parameters or {}, minutes)
    command = os.environ.get("VR1KIT_COMMAND") or _spell_command(run, profile, only, force, parameters or {})
    screen = Screen()
    code = run_tasks(opened, tasks, screen, command, only, force)
    if code == 0 and all(task.step.state() == "done" for task in tasks):
        _report(opened, screen)
    return code


def _spell_command(run: str, profile: str, only: str | None, force: bool, parameters: Mapping[str, Any]) -> str:
    words = ["vr1kit reproduce", f"--run {run}", f"--profile {profile}"]
    words += [f"--only {only}"] if only else []
    words += ["--force"] if force else []
    words += [f"-p {name} {shlex.quote(json.dumps(value))}" for name, value in parameters.items()]
    return " ".join(words)


def _report(run: Run, screen: Screen) -> None:
    from vr1kit.reporting import report

    path = report.build_report(run.path)
    screen.line()
    for line in report.verdict_lines(run.path):
        screen.line(line)
    screen.line(f"\nreport: {_shown(path)}")


# --- planning --------------------------------------------------------------------------------------------------


def plan(
    run: Run, paths: Sequence[Path], profile: str, parameters: Mapping[str, Any], minutes: Mapping[str, float]
) -> list[Task]:
    """The notebooks as steps, each depending on those before it; refuses whatever could only fail later."""
    if run.frozen:
        raise RunError(f"run '{run.name}' is frozen: give another run name, e.g. --run tiny")
    known = {path: _known_parameters(path) for path in paths}
    for name in parameters:
        if not any(name in names for names in known.values()):
            offered = sorted({name for names in known.values() for name in names})
            raise RunError(f"no notebook has a parameter '{name}'; there are: {', '.join(offered)}")
    tasks, inputs = [], {}
    for path in paths:
        given = {"run": run.name, "profile": profile}
        given |= {name: value for name, value in parameters.items() if name in known[path]}
        for name, value in given.items():
            _check_parameter(path, known[path], name, value)
        task = Task(path, given, notebook_step(run, path, given, inputs), float(minutes.get(path.stem, 1.0)))
        inputs = {**inputs, path.stem: task.step.fingerprint}
        tasks.append(task)
    return tasks


def notebook_step(run: Run, path: Path, parameters: Mapping[str, Any], inputs: Mapping[str, str]) -> Step:
    """The step of one notebook: its code cells, parameters, the modules it imports, the notebooks before it."""
    code = "\n\n".join(cell.source for cell in _read_notebook(path).cells if cell.cell_type == "code")
    try:
        modules = sorted(notebook_modules(code))
    except SyntaxError as error:
        raise RunError(f"notebook {path.stem} has a syntax error: {error.msg}: {(error.text or '').strip()}") from error
    cells = {"code cells": hashlib.sha256(code.encode()).hexdigest()}
    return run.step(f"notebooks/{path.stem}", {"parameters": dict(parameters)}, {**cells, **inputs}, code=modules)


def _read_notebook(path: Path) -> nbformat.NotebookNode:
    if not path.is_file():
        raise RunError(f"notebook {_shown(path)} is not there: run this in a checkout of the repository")
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, KeyError) as error:
        raise RunError(f"{_shown(path)} is not a readable notebook: restore it with git checkout") from error


def _known_parameters(path: Path) -> dict[str, dict[str, str]]:
    cells = _read_notebook(path).cells
    if not any("parameters" in cell.metadata.get("tags", []) for cell in cells):
        raise RunError(f"notebook {path.stem} has no cell tagged 'parameters': tag the one that sets run and profile")
    try:
        return papermill.inspect_notebook(path)
    except ValueError as error:
        raise RunError(f"notebook {path.stem} names no kernel or language: save it once in JupyterLab") from error


def _check_parameter(path: Path, known: Mapping[str, Mapping[str, str]], name: str, value: Any) -> None:
    if name not in known:
        raise RunError(
            f"notebook {path.stem} does not know the parameter '{name}'; its parameters cell sets: "
            f"{', '.join(known) or 'nothing'} (an '=' in a comment there hides a parameter)"
        )
    wanted = SIMPLE_TYPES.get(known[name]["inferred_type_name"])
    if wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool)):
        raise RunError(f"parameter '{name}' of notebook {path.stem} is {known[name]['inferred_type_name']}, not {value!r}")


def choose(tasks: Sequence[Task], only: str | None) -> list[Task]:
    """All tasks, or the one whose name starts so: '03' or '03_two_stage_grpo'."""
    if only is None:
        return list(tasks)
    found = [task for task in tasks if task.stem == only] or [task for task in tasks if task.stem.startswith(only)]
    if len(found) != 1:
        raise RunError(f"no single notebook is called '{only}': take one of {', '.join(task.stem for task in tasks)}")
    return found


def why_run(task: Task, force: bool = False) -> str | None:
    """Why the notebook must run, or None if it is done and everything it used is still as it was."""
    if force:
        return "asked for by --force"
    if task.step.state() != "done":
        return task.step.why()
    for name, fingerprint in task.step.metrics()["steps"].items():
        if not (task.step.run.path / name / "manifest.json").is_file():
            return f"step {name} that it made or used is gone"
        used = task.step.run.find(name)
        if used.state() != "done":
            return f"step {name}: {used.why()}"
        if used.fingerprint != fingerprint:
            return f"step {name} has been made anew since"
    return None


# --- running ---------------------------------------------------------------------------------------------------


@dataclass
class Pace:
    """Time left: the profile's expected minutes, corrected by how the notebooks so far kept to them."""

    expected: dict[str, float]  # seconds still planned, by notebook
    planned: float = 0.0
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def factor(self) -> float:
        return min(4.0, max(0.25, self.spent / self.planned)) if self.planned >= 10 else 1.0

    def finish(self, stem: str, seconds: float) -> None:
        self.planned += self.expected.pop(stem, 0.0)
        self.spent += seconds

    def left(self, stem: str, seconds: float) -> float:
        later = sum(value for key, value in self.expected.items() if key != stem) * self.factor
        here = self.expected.get(stem, 0.0) * self.factor
        return later + max(here - seconds, 0.1 * here)


def run_tasks(run: Run, tasks: Sequence[Task], screen: Screen, command: str, only: str | None = None, force: bool = False) -> int:
    """Run the tasks in order, skipping what is done; the exit code."""
    chosen = choose(tasks, only)
    pace = Pace({task.stem: 60 * task.minutes for task in chosen if why_run(task, force)})
    screen.line(f"run '{run.name}' in {_shown(run.path)}")
    with run.locked() as left, sigterm_as_ctrl_c(), set_environment(VR1KIT_RUNS=str(run.path.parent), VR1KIT_COMMAND=command):
        if left:
            screen.line(f"the last one to work here was {locks.describe(left)}; it ended before it was done")
        for task in chosen:
            title = f"[{tasks.index(task) + 1}/{len(tasks)}] {task.stem}"
            reason = why_run(task, force)
            if reason is None:
                screen.line(f"{title}: skipped, done and unchanged")
                pace.expected.pop(task.stem, None)
                continue
            left = format_seconds(pace.left(task.stem, 0))
            screen.line(f"{title}: runs, because: {reason} (about {left} left in all)")
            began = time.monotonic()
            try:
                _execute(task, screen, _status(title.split()[0], task, pace, began))
            except KeyboardInterrupt:
                _keep(task, "interrupted.ipynb")
                screen.line(f"\nInterrupted in {task.stem}. Finished steps are kept. To continue:\n  {command}")
                return 130
            except (PapermillExecutionError, DeadKernelError) as error:
                kept = _keep(task, "failed.ipynb")
                _explain_failure(task, error, kept, time.time() - (time.monotonic() - began), command, screen)
                return 1
            pace.finish(task.stem, time.monotonic() - began)
            screen.line(f"{title}: done in {format_seconds(time.monotonic() - began)}")
    screen.line(f"finished in {format_seconds(time.monotonic() - pace.started)}")
    return 0


def _status(number: str, task: Task, pace: Pace, began: float) -> Callable[[str], str]:
    def status(cell: str) -> str:
        now = time.monotonic()
        left = format_seconds(pace.left(task.stem, now - began))
        return f"{number} {cell}, {format_seconds(now - pace.started)} elapsed, about {left} left"

    return status


class ThisInterpreter(AsyncKernelManager):
    """Starts ipykernel under the running interpreter, whatever kernels are registered on the machine."""

    shutdown_wait_time = 2 * (PATIENCE + 2)  # s; half of it until the kernel, which stops its workers, is told once more

    @default("transport_encryption")
    def _encrypt(self) -> str:  # or every kernel warns that its local socket is not encrypted
        return "auto" if zmq.has("curve") else "disabled"

    @property
    def kernel_spec(self) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())


def _execute(task: Task, screen: Screen, status: Callable[[str], str]) -> None:
    step, count = task.step, len(_read_notebook(task.path).cells)
    step.begin()
    step.write_json("params.json", task.parameters)
    partial, trace = step.path / "partial.ipynb", step.path / "steps.jsonl"
    trace.touch()
    cell_now = "starting"

    def on_cell_start(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal cell_now
        cell_now = f"cell {cell_index + 1}/{count + 1}"  # papermill injects one cell, the parameters
        first = cell.source.split("\n", 1)[0]
        if cell.cell_type == "markdown" and first.startswith("## "):
            screen.line(f"    {first[3:].strip()}")

    began = time.monotonic()
    screen.show(lambda: status(cell_now))
    try:
        with set_environment(VR1KIT_TRACE=str(trace)):
            executed = papermill.execute_notebook(
                task.path, partial, task.parameters, kernel_name="python3", language="python", progress_bar=False,
                stdout_file=NotebookOutput(screen), stderr_file=NotebookOutput(screen), cwd=project_root(),
                kernel_manager_class=ThisInterpreter, on_cell_start=on_cell_start,
            )  # fmt: skip
    finally:
        screen.hide()
    executed.metadata.papermill |= {"input_path": f"{task.stem}.ipynb", "output_path": "executed.ipynb"}
    write_text_atomic(step.path / "executed.ipynb", nbformat.writes(executed) + "\n")
    partial.unlink()
    step.finish({"cells": count, "seconds": round(time.monotonic() - began, 2), "steps": _used_steps(step.run, trace)})


def _used_steps(run: Run, trace: Path) -> dict[str, str]:
    """Fingerprints of the finished steps of this run that the notebook asked for."""
    names = {name for run_name, name in map(json.loads, trace.read_text().splitlines()) if run_name == run.name}
    manifests = {name: run.path / name / "manifest.json" for name in sorted(names)}
    return {name: read_json(path)["fingerprint"] for name, path in manifests.items() if path.is_file()}


def _keep(task: Task, name: str) -> Path:
    partial, kept = task.step.path / "partial.ipynb", task.step.path / name
    if partial.exists():
        os.replace(partial, kept)
    return kept


def _explain_failure(task: Task, error: Exception, kept: Path, began: float, command: str, screen: Screen) -> None:
    run, where, said = task.step.run, _find_failed_cell(kept), str(error)
    if isinstance(error, PapermillExecutionError):
        lines = [line for line in str(error.evalue).splitlines() if line.strip()] or ["(no message)"]
        what, said = f"{error.ename}: {lines[0].strip()}", f"{error.ename}: {error.evalue}"
    else:
        what, said = "the kernel died", f"the kernel died: {error}"
    cause, log = failures.find_cause(said, run.path), failures.last_log_lines(run.path, began)
    rule = "-" * 88
    screen.line(f"\n{rule}\nFAILED   {task.stem}, {where}, after {format_seconds(time.time() - began)}")
    screen.line(f"error    {what}")
    if isinstance(error, PapermillExecutionError) and len(lines) > 1:
        for line in lines[1:][-failures.LINES :]:
            screen.line(f"         {line.rstrip()}")
    elif log:
        screen.line(f"log      {_shown(log[0])} ends:")
        for line in log[1]:
            screen.line(f"         {line}")
    if cause:
        screen.line(f"cause    most likely: {cause}")
    screen.line(f"notebook {_shown(kept)}   (as far as it got, with the full traceback)")
    screen.line(f"continue {command}   (finished steps are skipped, trainings resume)\n{rule}")


def _find_failed_cell(kept: Path) -> str:
    """'cell 12 (run_jobs(run, profile, jobs))': which cell of the notebook ran when it ended."""
    cells = _read_notebook(kept).cells if kept.is_file() else []
    for number, cell in enumerate(cells, 1):
        if cell.metadata.get("papermill", {}).get("status") in ("failed", "running"):
            count = f"In [{cell.execution_count}]" if cell.get("execution_count") else f"number {number}"
            return f"cell {count} ({shorten([cell.source.strip().splitlines()[0]])})"
    return "before its first cell"


def _shown(path: Path) -> str:
    """The path as seen from here, if it is below here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
