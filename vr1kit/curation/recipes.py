"""Mixes by name: what the paper trained on, to be rebuilt by whoever has the sources.

    sets = {"coco": ..., "odinw": merge_sets("odinw", read_odinw(folder, "train")), "v3det": ..., "refcoco": ..., "visual_genome": ...}
    curate_mix(sets, paper_49k(), "curated", seed=0)

The paper (Sec. 3.4) says: 49K pictures; 30K of COCO for detection; 9K for visual grounding, 5K of ODINW and 4K of V3Det; 10K
referring expressions, 5K of RefCOCO and 5K of Visual Genome with several objects each; hard samples, of more than 10 instances,
are half of the data; negatives are among them. It does not say how pictures are drawn within a source. Ours:

1. Hard samples are half of the detection part. RefCOCO has few pictures with more than 10 phrases, ODINW hardly any.
2. Negatives are 5 % of the detection part; the paper gives no number. The released code drops them all (0 or more than 30 boxes).
3. ODINW's sets are one source, in proportion to their sizes: equal shares of 13 sets would need more pictures than the smallest have.
4. A phrase of Visual Genome has two boxes or more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vr1kit.data import Part
from vr1kit.records import DataError, DetectionSet

SOURCES = ("coco", "odinw", "v3det", "refcoco", "visual_genome")
NEGATIVES = 0.05  # ours, see 2


def paper_49k(scale: float = 1.0) -> tuple[Part, ...]:
    """The parts of the paper's mix, each `scale` times as large. Sources are called as in SOURCES."""
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, got {scale!r}")
    parts = (
        Part("coco_detection", ("coco",), "detection", 30_000, hard=0.5, negatives=NEGATIVES),  # paper; negatives ours
        Part("odinw_grounding", ("odinw",), "grounding", 5_000),  # paper
        Part("v3det_grounding", ("v3det",), "grounding", 4_000),  # paper
        Part("refcoco_referring", ("refcoco",), "grounding", 5_000),  # paper
        Part("visual_genome_referring", ("visual_genome",), "grounding", 5_000, phrase_boxes=2),  # paper: several objects
    )
    return tuple(replace(part, n=max(1, round(part.n * scale))) for part in parts)


RECIPES = {"paper_49k": paper_49k}


def merge_sets(name: str, sets: Mapping[str, DetectionSet]) -> DetectionSet:
    """Several sets as one source; records keep their own set's name as source. Categories are numbered anew. Raises DataError."""
    if len({data.phrases for data in sets.values()}) != 1:
        raise DataError(f"'{name}': sets of phrases and sets of categories cannot be one source, or there is no set; name others")
    labels = dict.fromkeys(label for data in sets.values() for label in data.categories)
    skipped: dict[str, int] = {}
    for data in sets.values():
        for reason, n in data.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + n
    first = next(iter(sets.values()))
    return DetectionSet(
        name, Path(name), tuple(r for data in sets.values() for r in data.records), {label: i for i, label in enumerate(labels, 1)},
        first.phrases, skipped, sum(data.clipped for data in sets.values()),
    )  # fmt: skip
