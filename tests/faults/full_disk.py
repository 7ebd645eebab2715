"""Fill the disk at random moments of the study: it must say so, name the disk, keep what was finished, and go on with room.

    python tests/faults/full_disk.py --times 10 --seed 0 --out full_disk.json        # root, for a small tmpfs

Runs lie on a tmpfs. At a random moment a file takes all of its room that is left; the study must end by itself with exit
code 1 and a message that names the disk. Then `vr1kit verify` must find no fault and every step that was finished before
must still be; the file is removed and the same command continued. Where it is through in between, its results are compared
with an undisturbed study's and another begun. Exit code 0: all of this held, 1: something did not, 2: no tmpfs could be mounted.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vr1kit.rerun import compare_runs
from vr1kit.runs import Run
from vr1kit.safekeeping.files import write_json_atomic
from vr1kit.safekeeping.verify import verify_run

WAIT = 600  # s for the study to notice


def start(runs: Path, run: str, policy: str, log: Path) -> subprocess.Popen:
    environment = {**os.environ, "VR1KIT_RUNS": str(runs), "PYTHONUNBUFFERED": "1"}
    words = ["study", "--run", run, "--profile", "smoke", "--only", policy]
    with open(log, "wb") as out:
        return subprocess.Popen([sys.executable, "-m", "vr1kit.cli", *words], env=environment, stdout=out, stderr=out)


def fill(disk: Path) -> None:
    with open(disk / "filler", "ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue


def finished(run: Run) -> set[str]:
    return {name for name in run.step_names() if (run.path / name / "manifest.json").is_file()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10, help="that the disk is full while there is work to do (10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30, help="fill no more after this long (30)")
    parser.add_argument("--policy", default="mixed-seed0-vision_r1")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()

    folder = Path(tempfile.mkdtemp(prefix="full-disk-"))
    disk, rng, began = folder / "disk", random.Random(arguments.seed), time.monotonic()
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)], capture_output=True, text=True)
    if mounted.returncode:
        print(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
        return 2
    try:
        events, compared, problems = _run(arguments, folder, disk, rng, began)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    if arguments.out:
        write_json_atomic(arguments.out, {"events": events, "compared": compared, "problems": problems})
    print(f"{len(events)} times full, {compared} runs compared, {len(problems)} problems")
    print("".join(f"  {problem}\n" for problem in problems), end="")
    return 1 if problems else 0


def _run(arguments, folder: Path, disk: Path, rng: random.Random, began: float) -> tuple[list[dict], int, list[str]]:
    if start(folder / "runs", "whole", arguments.policy, folder / "whole.txt").wait():
        return [], 0, [f"the undisturbed study failed: see {folder / 'whole.txt'}"]
    seconds, number, compared = time.monotonic() - began, 1, 0
    events, problems = [], []
    while sum(event["code"] != 0 for event in events) < arguments.times and time.monotonic() - began < 60 * arguments.minutes:
        run, log = Run(f"full-{number}", disk / f"full-{number}"), folder / "study.txt"
        process, moment = start(disk, run.name, arguments.policy, log), rng.uniform(1, seconds)
        try:
            code = process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            fill(disk)
            before = finished(run)
            code = process.wait(timeout=WAIT)
            said = log.read_text(errors="replace")
            (disk / "filler").unlink()
            verdict = verify_run(run) if run.path.is_dir() else None
            event = {"after": round(moment, 1), "code": code, "finished": len(before), "names the disk": f"the disk at {disk}" in said,
                     "faults": verdict.faults if verdict else []}  # fmt: skip
            events.append(event)
            print(f"{len(events):3} {event}", flush=True)
            if code and not (code == 1 and event["names the disk"]):
                problems.append(f"it ended with {code} and said: {said[-600:]}")
            problems += event["faults"] + [f"{name} was lost" for name in before - finished(run)]
            continue
        if code:
            problems.append(f"it did not go on: {log.read_text(errors='replace')[-600:]}")
            break
        problems += compare_runs(Run("whole", folder / "runs" / "whole"), run).results
        compared, number = compared + 1, number + 1
        subprocess.run(["rm", "-rf", str(run.path)], check=True)
    if not problems and start(disk, f"full-{number}", arguments.policy, folder / "study.txt").wait() == 0:
        problems += compare_runs(Run("whole", folder / "runs" / "whole"), Run("last", disk / f"full-{number}")).results
        compared += 1
    return events, compared, problems


if __name__ == "__main__":
    sys.exit(main())
