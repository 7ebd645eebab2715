"""Kill the study at random moments, continue it, and compare what comes out with an undisturbed study.

    python tests/faults/kills.py --kills 20 --seed 0 --out kills.json        # about a quarter of an hour on two free cores
    python tests/faults/kills.py --policy mixed-seed0-vision_r1              # one policy instead of all: about five minutes

A kill is `kill -9`, of the whole process group or of the first process alone; Ctrl-C and SIGTERM are tried, too, and must
end with 130 within 20 seconds. After each, `vr1kit verify` must find no fault, and the same command must go on. Where
a run is through before its next kill, it is compared and another begun. Exit code 0: all equal, 1: something was not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vr1kit.rerun import compare_runs
from vr1kit.runs import Run
from vr1kit.safekeeping.files import write_json_atomic
from vr1kit.safekeeping.verify import verify_run

GOOD = (0, 130, -signal.SIGINT, -signal.SIGTERM)  # through; stopped; ended by the signal itself, before it had begun
KINDS = ("KILL all", "KILL one", "TERM one", "INT all")


def start(runs: Path, run: str, arguments: argparse.Namespace) -> subprocess.Popen:
    command = ["study", "--run", run, "--profile", "smoke", "--part", "policies"]
    command += ["--only", arguments.policy] if arguments.policy else []
    if arguments.notebooks:
        command = ["reproduce", "--run", run, "--profile", "smoke"]
    environment = {**os.environ, "VR1KIT_RUNS": str(runs), "PYTHONUNBUFFERED": "1"}
    log = open(runs.parent / f"{run}.txt", "ab")
    return subprocess.Popen(
        [sys.executable, "-m", "vr1kit.cli", *command], env=environment, stdout=log, stderr=log, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )  # fmt: skip


def hit(process: subprocess.Popen, kind: str) -> tuple[int, float]:
    """(exit code, seconds until it had ended)"""
    name, reach = kind.split()
    began, number = time.monotonic(), signal.Signals[f"SIG{name}"]
    os.killpg(process.pid, number) if reach == "all" else process.send_signal(number)
    code = process.wait(timeout=300)
    return code, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30, help="begin no further kill after this long (30)")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for Ctrl-C and SIGTERM on a free machine (20)")
    parser.add_argument("--notebooks", action="store_true", help="the five notebooks instead of `vr1kit study`")
    parser.add_argument("--policy", help="of the study only this policy, e.g. mixed-seed0-vision_r1")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--folder", type=Path, help="where runs go (a temporary folder)")
    parser.add_argument("--out", type=Path, help="write what happened there, as JSON")
    arguments = parser.parse_args()

    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="kills-"))
    runs, rng, began = folder / "runs", random.Random(arguments.seed), time.monotonic()
    runs.mkdir(parents=True, exist_ok=True)
    whole = Run("whole", runs / "whole")
    if start(runs, "whole", arguments).wait():
        print(f"the undisturbed run failed: see {folder / 'whole.txt'}")
        return 1
    seconds = time.monotonic() - began
    print(f"undisturbed: {seconds:.0f} s, {verify_run(whole).files} files", flush=True)

    events, compared, problems, number = [], [], [], 1

    def check(run: Run) -> None:
        found = compare_runs(whole, run)
        compared.append({"run": run.name, "steps": found.steps, "files": found.files, "differences": found.results})
        problems.extend(f"{run.name}: {difference}" for difference in found.results)
        print(f"{run.name} is through: {found.files} files compared, {len(found.results)} differ", flush=True)

    process, first = start(runs, f"killed-{number}", arguments), time.monotonic()
    while len(events) < arguments.kills and time.monotonic() - began < 60 * arguments.minutes:
        run, kind, moment = (
            Run(f"killed-{number}", runs / f"killed-{number}"),
            rng.choice(arguments.kinds),
            rng.uniform(1, seconds),
        )
        try:
            code = process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            code, took = hit(process, kind)
            verdict = verify_run(run) if run.path.is_dir() else None
            faults = verdict.faults if verdict else []
            events.append({"run": run.name, "kind": kind, "after": round(moment, 1), "code": code, "seconds": round(took, 1),
                           "finished": verdict.steps if verdict else 0, "faults": faults})  # fmt: skip
            print(f"{len(events):3} {events[-1]}", flush=True)
            problems += [f"{run.name}: {fault}" for fault in faults]
            if not kind.startswith("KILL") and (code not in GOOD or took > arguments.limit):
                problems.append(f"{run.name}: {kind} ended with {code} after {took:.1f} s")
        else:
            if code:
                problems.append(f"{run.name}: did not go on, exit code {code}: see {folder / run.name}.txt")
                break
            seconds = min(seconds, max(5.0, time.monotonic() - first))  # the machine may have got faster
            check(run)
            number, first = number + 1, time.monotonic()
        process = start(runs, f"killed-{number}", arguments)
    if process.wait():
        problems.append(f"killed-{number}: did not go on: see {folder / f'killed-{number}.txt'}")
    elif not problems or compared:
        check(Run(f"killed-{number}", runs / f"killed-{number}"))
    result = {"kills": len(events), "seconds": round(time.monotonic() - began), "undisturbed": round(seconds), "events": events,
              "compared": compared, "problems": problems}  # fmt: skip
    if arguments.out:
        write_json_atomic(arguments.out, result)
    print(f"{len(events)} kills, {len(compared)} runs compared, {len(problems)} problems")
    print("".join(f"  {problem}\n" for problem in problems), end="")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
