"""Is memory flat over a long evaluation? The same evaluation of sets of more and more pictures, its peak read from its own record.

    python benchmarks/evaluation_memory.py [PICTURES ...]     # by default 500 1000 4000: about five minutes; writes the CSV beside it

Each row is a process of its own, `vr1kit evaluate` with the policy `mixed`, scores by `token_prob`. `peak_mib` is the largest
resident set, `times_peak` its ratio to the first row's. What grows is what AP needs of every box until the end; pictures do not stay.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from vr1kit.safekeeping.files import read_json, write_csv_atomic
from vr1kit.scenes import write_scenes

PICTURES = (500, 1000, 4000)


def evaluate(pictures: int, folder: Path) -> dict:
    data, out = folder / f"toybox-{pictures}", folder / f"run-{pictures}"
    write_scenes(data, "toybox", range(pictures))
    words = ["evaluate", "--model", "mixed", "--data", str(data), "--score", "token_prob", "--out", str(out)]
    subprocess.run([sys.executable, "-m", "vr1kit.cli", *words], check=True, stdout=subprocess.DEVNULL)
    record = read_json(out / "evaluation" / "provenance.json")
    return {"pictures": pictures, "seconds": record["seconds"], "peak_mib": record["peak_memory_mib"]}


def main(sizes: list[int]) -> None:
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        for pictures in sizes:
            row = evaluate(pictures, Path(folder))
            rows.append({**row, "times_peak": round(row["peak_mib"] / (rows or [row])[0]["peak_mib"], 3)})
            print(rows[-1], flush=True)
    write_csv_atomic(Path(__file__).with_suffix(".csv"), rows)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(PICTURES))
