"""Subcommands about what a run holds: status, verify, rerun."""

import argparse
import shlex
from typing import Any

from vr1kit.commands.arguments import add_subcommand


def add_status(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "status", run_status, "list the steps of a run: state, time, why", """\
examples:
  vr1kit status tiny
  vr1kit status published

done     finished, and its settings, inputs, code and files are unchanged
stale    finished, but something it depends on has changed since
missing  begun and not finished""")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="a folder under runs/")


def run_status(arguments: argparse.Namespace) -> int:
    from vr1kit.runs import open_run, runs_root

    run = open_run(arguments.run)
    if not run.path.is_dir():
        there = sorted(path.name for path in runs_root().glob("*") if path.is_dir())
        raise ValueError(f"there is no run '{run.name}'; there are: {', '.join(there) or 'none yet'}")
    rows = []
    for name in run.step_names():
        step = run.find(name)
        seconds = step.provenance()["seconds"] if step.has("provenance.json") else None
        rows.append((step.state(), name, "" if seconds is None else f"{seconds:.0f} s", step.why()))
    print(f"run '{run.name}'{' (frozen)' if run.frozen else ''}: {len(rows)} steps")
    wide = max((len(row[1]) for row in rows), default=0)
    for state, name, seconds, why in rows:
        print(f"  {state:<8}{name:<{wide}}  {seconds:>7}  {why}")
    return 0


def add_verify(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "verify", run_verify, "hash every file of a run again and compare with its manifests", """\
examples:
  vr1kit verify runs/tiny
  vr1kit verify published

Exit code 0 if every file is what its manifest says, 1 if not.""")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="a folder under runs/")


def run_verify(arguments: argparse.Namespace) -> int:
    from vr1kit.runs import open_run
    from vr1kit.safekeeping.verify import verify_run

    run = open_run(_run_name(arguments.run))
    verdict = verify_run(run)
    for fault in verdict.faults:
        print(f"  {fault}")
    left = f"; {verdict.left_behind} large files were not published" if verdict.left_behind else ""
    unfinished = f"; unfinished: {', '.join(verdict.unfinished)}" if verdict.unfinished else ""
    print(f"run '{run.name}': {verdict.steps} steps, {verdict.files} files, {len(verdict.faults)} faults{left}{unfinished}")
    return 1 if verdict.faults else 0


def _run_name(text: str) -> str:
    """runs/tiny, as the shell completes it, is tiny."""
    return text.rstrip("/").removeprefix("./").removeprefix("runs/")


def add_rerun(subcommands: Any) -> None:
    parser = add_subcommand(subcommands, "rerun", run_rerun, "repeat a run from its own record and say what differs", """\
examples:
  vr1kit rerun runs/tiny                  into runs/tiny-rerun
  vr1kit rerun published --into again     what is done there already is only compared

Exit code 0 if every result is the same, 1 if not.""")  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="a folder under runs/")
    parser.add_argument("--into", metavar="NAME", help="folder under runs/ for the repetition (RUN-rerun)")


def run_rerun(arguments: argparse.Namespace) -> int:
    from vr1kit.rerun import compare_runs, list_commands
    from vr1kit.runs import open_run
    from vr1kit.safekeeping.provenance import set_environment

    old = open_run(_run_name(arguments.run))
    new = open_run(arguments.into or f"{old.name}-rerun")
    if new.name == old.name:
        raise ValueError(f"a run cannot be repeated into itself: give --into another name than {old.name}")
    for words in list_commands(old, new.name):
        again = arguments.parse(words)
        print(f"$ vr1kit {shlex.join(words)}", flush=True)
        with set_environment(VR1KIT_COMMAND=f"vr1kit {shlex.join(words)}"):
            if code := again.run_subcommand(again):
                return code
    found = compare_runs(old, new)
    for title, lines in (("made with", found.surroundings), ("came out", found.results)):
        print(f"{title}: {'no difference' if not lines else ''}")
        print("".join(f"  {line}\n" for line in lines), end="")
    print(f"{found.steps} steps, {found.files} files compared; {len(found.results)} differences in results")
    return 1 if found.results else 0
