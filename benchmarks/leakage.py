"""Comparing the hashes of 118,287 training pictures with those of 5,000 evaluation pictures, after hashing.

    python benchmarks/leakage.py               # some seconds; writes benchmarks/leakage.csv

Hashes are random, with 100 planted matches of each kind; time is that of the processor.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from vr1kit.curation.leakage import Hashes, find_matches
from vr1kit.safekeeping.files import write_csv_atomic

TRAIN, EVALUATION, PLANTED = 118_287, 5_000, 100


def random_hashes(n: int, rng: np.random.Generator) -> Hashes:
    exact = rng.integers(0, 256, (n, 32), dtype=np.uint8)
    coarse, fine = rng.integers(0, 2**64, n, dtype=np.uint64), rng.integers(0, 2**64, (n, 8), dtype=np.uint64)
    return Hashes(tuple(map(str, range(n))), exact, coarse, fine, {})


def main() -> None:
    rng = np.random.default_rng(0)
    train, evaluation = random_hashes(TRAIN, rng), random_hashes(EVALUATION, rng)
    train.exact[:PLANTED] = evaluation.exact[:PLANTED]
    train.coarse[PLANTED : 2 * PLANTED] = evaluation.coarse[PLANTED : 2 * PLANTED] ^ np.uint64(0b1001)
    train.fine[PLANTED : 2 * PLANTED] = evaluation.fine[PLANTED : 2 * PLANTED] ^ np.uint64(0b11)
    began = time.process_time()
    matches = find_matches(train, {"val": evaluation})
    seconds = time.process_time() - began
    kinds = [match.kind for match in matches]
    row = {
        "train": TRAIN,
        "evaluation": EVALUATION,
        "seconds": round(seconds, 2),
        "exact": kinds.count("exact"),
        "perceptual": kinds.count("perceptual"),
    }
    print(row)
    write_csv_atomic(Path(__file__).with_suffix(".csv"), [row])


if __name__ == "__main__":
    main()
