"""How long the bootstrap of a COCO-val-sized result takes: by its matches, and by running COCOeval again and again.

    python benchmarks/intervals.py            # about a minute; writes benchmarks/intervals.{csv,png}

5,000 pictures, 80 categories of very unequal frequency, about 36,000 objects and as many detections: what a language model answers.
COCOeval is run once, on a tenth of the pictures, and its time multiplied by ten and by the number of resamples; its matches are
laid out ten times. Seconds are processor time of one thread; of all twelve numbers, which take two threads, on the clock.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import numpy as np

from vr1kit.drawing.style import BLUE, GREY, HATCHES, INK, new_chart, styled
from vr1kit.measures.intervals import Matches, accumulate, draw_weights, run_cocoeval
from vr1kit.measures.resampling import find_parts, resample_numbers
from vr1kit.safekeeping.files import write_csv_atomic

PICTURES, CATEGORIES, RESAMPLES, TIMES = 500, 80, 1000, 10
OBJECTS = 7.3  # mean of a picture in val2017


def draw_set(rng: np.random.Generator) -> tuple[dict, list[dict]]:
    """A COCO dictionary and detections: three quarters of the objects found, one false alarm in ten, constant scores."""
    share, annotations, detections = rng.dirichlet(np.full(CATEGORIES, 0.4)), [], []
    for image in range(1, PICTURES + 1):
        for category in rng.choice(CATEGORIES, rng.poisson(OBJECTS), p=share).tolist():
            box = [*rng.uniform(0, 500, 2), *rng.uniform(20, 140, 2)]
            row = {"image_id": image, "category_id": category + 1, "bbox": [float(v) for v in box]}
            annotations.append({**row, "id": len(annotations) + 1, "area": box[2] * box[3], "iscrowd": 0})
            for moved in [rng.normal(0, 8, 4)] * (rng.random() < 0.75) + [rng.normal(0, 90, 4)] * (rng.random() < 0.1):
                shifted = np.maximum(np.array(box) + moved, 1).tolist()
                detections.append({**row, "bbox": shifted, "score": 0.99})
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, PICTURES + 1)]
    categories = [{"id": c, "name": f"c{c}"} for c in range(1, CATEGORIES + 1)]
    return {"images": images, "annotations": annotations, "categories": categories}, detections


def lay_out(matches: Matches) -> Matches:
    """The same set TIMES over, as pictures of their own."""
    pictures = len(matches.truths)
    picture = np.concatenate([matches.picture + k * pictures for k in range(TIMES)])
    again = [np.concatenate([getattr(matches, name)] * TIMES) for name in ("category", "score", "hit", "truths")]
    ignored = None if matches.ignored is None else np.concatenate([matches.ignored] * TIMES)
    return Matches(picture, *again, ignored=ignored)


@styled
def draw_bars(rows: list[dict]):
    figure = new_chart(6.4, 2.6)
    axes = figure.add_subplot()
    for y, row in enumerate(rows):
        axes.barh(y, row["seconds"], 0.6, color=GREY if y == 0 else BLUE, ec=INK, lw=0.6, hatch=HATCHES[min(y, 1)])
        axes.annotate(
            f"{row['seconds']:,.1f} s", (row["seconds"], y), (4, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_xscale("log")
    axes.set_xlim(right=rows[0]["seconds"] * 6)
    axes.set_yticks(range(len(rows)), [row["way"] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("seconds (logarithmic)")
    axes.set_title(f"{RESAMPLES:,} resamples of {PICTURES * TIMES:,} pictures")
    return figure


def main() -> None:
    coco, detections = draw_set(np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "annotations.json"
        path.write_text(json.dumps(coco))
        began = time.process_time()
        evaluation = run_cocoeval(path, detections)
        once = TIMES * (time.process_time() - began)
        parts = {name: lay_out(found) for name, found in find_parts(evaluation, path).items()}
        matches = parts["all"]
    weights = draw_weights(PICTURES * TIMES, RESAMPLES, np.random.default_rng(1))
    began = time.process_time()
    ap = accumulate(matches, weights)["AP"]
    alone = time.process_time() - began
    began = time.perf_counter()
    twelve = resample_numbers(parts, weights)
    together = time.perf_counter() - began
    assert len(twelve) == 12 and np.allclose(twelve["AP"], ap)
    rows = [
        {"way": "COCOeval each time (one × 1,000)", "seconds": round(once * RESAMPLES, 1)},
        {"way": "by the matches, AP to AR100", "seconds": round(alone, 2)},
        {"way": "by the matches, all twelve, two threads", "seconds": round(together, 2)},
    ]
    size = {"pictures": len(matches.truths), "objects": int(matches.truths.sum()), "detections": len(matches.picture)}
    size["AP"] = round(float(accumulate(matches, np.ones((1, len(matches.truths)), int))["AP"][0]), 2)
    rows = [{**row, **size, "interval": round(float(np.ptp(np.quantile(ap, [0.025, 0.975]))), 2)} for row in rows]
    print(*rows, sep="\n")
    out = Path(__file__)
    write_csv_atomic(out.with_suffix(".csv"), rows)
    out.with_suffix(".png").write_bytes(draw_bars(rows).to_png())


if __name__ == "__main__":
    main()
