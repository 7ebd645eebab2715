"""What `gpu.sh` found, in one table: python benchmarks/gpu_results.py FOLDER -> FOLDER/results.csv"""

import json
import re
import sys
from pathlib import Path

from vr1kit.runs import open_run
from vr1kit.safekeeping.files import write_csv_atomic

EVALUATED = {"base": "gpu_base", "SFT": "gpu_sft", "Vision-R1": "gpu_vision_r1"}
TRAINED = {"tiny-gpu": "tiny-gpu", "Qwen2.5-VL-3B's shape": "random-3b", "the same in 4 bits": "random-3b-4bit"}


def list_results(folder: Path) -> list[dict]:
    """A row for each figure: what it is of, its name, value, and what it is to be held against."""
    rows = []
    for name, run in EVALUATED.items():
        ap = json.loads((open_run(run).path / "evaluation" / "metrics.json").read_text())["AP"]
        rows.append({"what": f"tiny-gpu, {name}", "figure": "AP, %", "value": round(ap, 1), "against": "base and SFT"})
    for name, label in TRAINED.items():
        log = open_run("gpu").path / "training" / label / "log.jsonl"
        if log.exists():
            steps = [json.loads(line) for line in log.read_text().splitlines()]
            rows.append(
                {"what": name, "figure": "tokens sampled a second", "value": tokens_per_second(steps, log), "against": ""}
            )
    parts = dict(re.findall(r"(peak|reserve) +([0-9.]+)", (folder / "plan.txt").read_text()))
    planned = float(parts["peak"]) - float(parts["reserve"])  # what torch counts, without the driver's share
    for name, file in (("Qwen2.5-VL-3B's shape", "peak.json"), ("the same in 4 bits", "peak-4bit.json")):
        peak = json.loads((folder / file).read_text())["peak_bytes"] if (folder / file).exists() else None
        if peak is not None:  # on a CPU nothing is measured
            plan = planned if file == "peak.json" else None
            against = f"the plan's {plan} GB: {peak / 1e9 / plan:.2f} of it (aim: 0.85 to 1.15)" if plan else ""
            rows.append({"what": name, "figure": "peak memory, GB", "value": round(peak / 1e9, 2), "against": against})
    return rows


def tokens_per_second(steps: list[dict], log: Path) -> float | str:
    """Of the second step on, since the first one warms up; "" where there are no two."""
    settings = json.loads((log.parent / "manifest.json").read_text())["config"]["settings"]
    answers = settings["prompts_per_step"] * settings["num_generations"]
    seconds = steps[-1]["seconds"] - steps[0]["seconds"]
    return round(answers * sum(step["tokens"] for step in steps[1:]) / seconds, 1) if len(steps) > 1 and seconds > 0 else ""


def main() -> None:
    folder = Path(sys.argv[1])
    rows = list_results(folder)
    write_csv_atomic(folder / "results.csv", rows)
    print((folder / "gpu.txt").read_text().strip())
    for row in rows:
        print(f"{row['what']:<24} {row['figure']:<24} {row['value']:>8}  {row['against']}")
    print(f"in {folder / 'results.csv'}; a publication belongs in runs/published, with gpu.txt and this command")


if __name__ == "__main__":
    main()
