"""Random COCO sets and detections for tests: crowds, empty pictures, equal scores, equal IoUs, surplus boxes."""

import numpy as np


def random_set(seed, crowds=True):
    """(COCO dictionary, list of detections). Whole-number boxes, so that IoUs tie and meet thresholds exactly."""
    rng = np.random.default_rng(seed)
    ids = 3 + 2 * rng.permutation(rng.integers(1, 7))
    images = [{"id": int(i), "file_name": "x", "width": 200, "height": 160} for i in ids]
    categories = [{"id": int(c), "name": f"c{c}"} for c in 1 + 5 * rng.permutation(rng.integers(1, 5))]
    annotations, detections = [], []
    for image in images:
        for _ in range(rng.integers(0, 7)):  # some pictures stay empty
            x, y, w, h = (int(v) for v in (*rng.integers(0, 100, 2), *rng.integers(4, 60, 2)))
            row = {"image_id": image["id"], "category_id": int(rng.choice([c["id"] for c in categories]))}
            crowd = int(crowds and rng.random() < 0.2)
            truth = {**row, "bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd}
            annotations.append({**truth, "id": len(annotations) + 1})
            for _ in range(rng.integers(0, 4)):
                box = [x, y, w, h] + rng.integers(-3, 4, 4) * rng.integers(0, 3)
                if rng.random() < 0.2:
                    row = {**row, "category_id": int(rng.choice([c["id"] for c in categories]))}
                score = float(rng.choice([0.99, 0.5, rng.random()]))
                detections.append({**row, "bbox": [int(v) for v in (*box[:2], *np.maximum(box[2:], 1))], "score": score})
        for _ in range(rng.integers(0, 3)):  # in the blue
            row = {"image_id": image["id"], "category_id": int(rng.choice([c["id"] for c in categories]))}
            box = [int(v) for v in (*rng.integers(0, 150, 2), *rng.integers(1, 40, 2))]
            detections.append({**row, "bbox": box, "score": float(rng.random())})
    if seed % 20 == 0 and detections:  # more than COCO looks at
        detections += [{**detections[0], "score": float(rng.random())} for _ in range(130)]
    order = rng.permutation(len(detections))
    return {"images": images, "annotations": annotations, "categories": categories}, [detections[k] for k in order]
