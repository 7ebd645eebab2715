"""Is memory flat over a long evaluation? The same evaluation of sets of more and more pictures, its peak read from its own record.

    python benchmarks/evaluation_memory.py [PICTURES ...]     # by default 500 1000 4000: about five minutes; writes the CSV beside it

Each row is a process of its own, `vr1kit evaluate` with the policy `mixed`, scores by `token_prob`. `asking_mib` is the largest
resident set until the last answer, `times_asking` its ratio to the first row's; `peak_mib` that of the whole, with COCO's own
evaluation at the end, which holds every box of every picture.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vr1kit.safekeeping.files import read_json, write_csv_atomic
from vr1kit.safekeeping.manifests import CHECKPOINTS
from vr1kit.scenes import write_scenes

PICTURES = (500, 1000, 4000)


def evaluate(pictures: int, folder: Path) -> dict:
    data, out = folder / f"toybox-{pictures}", folder / f"run-{pictures}"
    write_scenes(data, "toybox", range(pictures))
    words = ["evaluate", "--model", "mixed", "--data", str(data), "--score", "token_prob", "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-m", "vr1kit.cli", *words], stdout=subprocess.DEVNULL)
    answers, asking = out / "evaluation" / CHECKPOINTS / "answers-0.jsonl", 0.0
    while process.poll() is None:
        if answers.is_file() and answers.read_bytes().count(b"\n") < pictures:
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            asking = max(asking, int(found[1]) / 1024 if found else 0)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    record = read_json(out / "evaluation" / "provenance.json")
    return {
        "pictures": pictures,
        "seconds": record["seconds"],
        "asking_mib": round(asking, 1),
        "peak_mib": record["peak_memory_mib"],
    }


def main(sizes: list[int]) -> None:
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        for pictures in sizes:
            row = evaluate(pictures, Path(folder))
            rows.append({**row, "times_asking": round(row["asking_mib"] / (rows or [row])[0]["asking_mib"], 3)})
            print(rows[-1], flush=True)
    write_csv_atomic(Path(__file__).with_suffix(".csv"), rows)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(PICTURES))
