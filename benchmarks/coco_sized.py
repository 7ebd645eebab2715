"""Curating annotations of the size of COCO train2017, beside what pycocotools takes merely to load them.

    python benchmarks/coco_sized.py [RUNS]     # about five minutes and 3 GB of disk; writes benchmarks/coco_sized.csv

The file is generated: 118,287 pictures, 860,001 boxes of 80 categories in an order of their own, as COCO's are. `polygons` has an
outline for each box, as the published file of 448 MB has; `boxes` has none. Each run is a process of its own, by turns; a row is the
least of its runs, in seconds of the processor and in memory, the largest resident set (VmHWM). Rows

  pycocotools    COCO(path), nothing else
  vr1kit         the file read, filtered, prompted and saved as parquet shards, by `curate_stream`
  vr1kit x 4     the same for four times the pictures and boxes
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vr1kit.safekeeping.files import write_csv_atomic

PICTURES, BOXES, CATEGORIES = 118_287, 860_001, 80
RUNS = 5


def write_coco(path: Path, times: int, polygons: bool, seed: int = 0) -> Path:
    """A COCO file of `times` the size of train2017, written in pieces. Key order is COCO's: pictures, boxes, categories."""
    rng = np.random.default_rng(seed)
    pictures, boxes = times * PICTURES, times * BOXES
    ids = rng.permutation(np.arange(1, 5 * pictures))[:pictures]
    of = rng.integers(0, pictures, boxes)
    with open(path, "w") as file:
        file.write('{"info": {"description": "generated"}, "licenses": [{"url": "", "id": 1, "name": ""}], "images": [')
        for k, image_id in enumerate(ids.tolist()):
            entry = {"license": 1, "file_name": f"{image_id:012}.jpg", "coco_url": f"http://example.org/{image_id:012}.jpg",
                     "height": 480, "width": 640, "date_captured": "2013-11-14 11:18:45", "id": image_id}  # fmt: skip
            file.write((", " if k else "") + json.dumps(entry))
        file.write('], "annotations": [')
        shapes = [json.dumps([[round(v, 2) for v in row]]) for row in rng.uniform(0, 480, (1000, 40)).tolist()]
        for start in range(0, boxes, 50_000):
            n = min(50_000, boxes - start)
            corner, side = np.round(rng.uniform(0, (400, 300), (n, 2)), 2), np.round(rng.uniform(5, (240, 180), (n, 2)), 2)
            xywh, area = np.hstack([corner, side]).tolist(), np.round(side.prod(axis=1), 4).tolist()
            labels, image_ids = rng.integers(1, CATEGORIES + 1, n).tolist(), ids[of[start : start + n]].tolist()
            for k in range(n):
                outline = f'"segmentation": {shapes[(start + k) % 1000]}, ' if polygons else ""
                file.write(
                    f'{", " if start + k else ""}{{{outline}"area": {area[k]}, "iscrowd": 0, "image_id": {image_ids[k]}, '
                    f'"bbox": {xywh[k]}, "category_id": {labels[k]}, "id": {start + k + 1}}}'
                )
        categories = [{"supercategory": "thing", "id": i + 1, "name": f"category {i}"} for i in range(CATEGORIES)]
        file.write('], "categories": ' + json.dumps(categories) + "}")
    return path


def peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def run_pycocotools(path: Path, out: Path) -> None:
    from pycocotools.coco import COCO

    COCO(path)


def run_vr1kit(path: Path, out: Path) -> None:
    from vr1kit.curation.sets import curate_stream
    from vr1kit.formats.coco_stream import stream_coco

    curate_stream(stream_coco(path, name="coco"), out)


def measure(run: str, path: Path) -> tuple[float, float]:
    """(seconds of processor time, MB at the peak) of one fresh process."""
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, __file__, run, str(path), out]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        seconds, megabytes = map(float, done.stdout.splitlines()[-1].split())
        return seconds, megabytes


def main(runs: int) -> None:
    rows = []
    for form in ("boxes", "polygons"):
        with tempfile.TemporaryDirectory() as folder:
            once, four = (write_coco(Path(folder) / f"{times}.json", times, form == "polygons") for times in (1, 4))
            measured: dict[str, list[tuple[float, float]]] = {}
            for _ in range(runs):  # by turns: what else the machine does slows one as much as the other
                for label, run, path in (
                    ("pycocotools", "pycocotools", once),
                    ("vr1kit", "vr1kit", once),
                    ("vr1kit x 4", "vr1kit", four),
                ):
                    measured.setdefault(label, []).append(measure(run, path))
            sizes = {"pycocotools": once.stat().st_size, "vr1kit": once.stat().st_size, "vr1kit x 4": four.stat().st_size}
        for label, values in measured.items():
            seconds, megabytes = (min(each) for each in zip(*values, strict=True))
            row = {"file": form, "file_mb": round(sizes[label] / 1e6), "path": label, "runs": runs, "seconds": round(seconds, 2),
                   "peak_mb": round(megabytes)}  # fmt: skip
            base = next((each for each in rows if each["file"] == form), row)
            row["times_seconds"] = round(seconds / base["seconds"], 2)
            row["times_peak"] = round(megabytes / base["peak_mb"], 2)
            rows.append(row)
            print(row, flush=True)
    write_csv_atomic(Path(__file__).with_suffix(".csv"), rows)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        {"pycocotools": run_pycocotools, "vr1kit": run_vr1kit}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
        print(time.process_time(), peak_mb())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else RUNS)
