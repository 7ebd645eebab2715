"""The paper's mix by name, sources that are several sets, and class balance."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data import record, set_of

from vr1kit.curation.recipes import SOURCES, merge_sets, paper_49k
from vr1kit.data import Part, curate, order_by_balance
from vr1kit.filters import describe_shares
from vr1kit.records import DataError, DetectionSet


def test_the_papers_numbers():
    parts = paper_49k()
    assert sum(part.n for part in parts) == 49_000 and [part.n for part in parts] == [30_000, 5_000, 4_000, 5_000, 5_000]
    assert {source for part in parts for source in part.sources} == set(SOURCES)
    assert parts[0].hard == 0.5
    with pytest.raises(ValueError, match="scale must be above 0 and at most 1"):
        paper_49k(2)


def test_the_mix_is_made_from_its_sources():
    sets = {
        "coco": set_of("coco", [3] * 40 + [15] * 40 + [0] * 5),
        "odinw": merge_sets("odinw", {name: set_of(name, [2] * 4) for name in ("pothole", "Packages")}),
        "v3det": set_of("v3det", [2] * 6),
        "refcoco": set_of("refcoco", [2] * 6, (), phrases=True),
        "visual_genome": DetectionSet(
            "visual_genome", None, tuple(record(k, 3, "vg", ["cup", "cup", "table"] if k % 2 else ["a", "b", "c"]) for k in range(12)), {},
            phrases=True,
        ),
    }  # fmt: skip
    examples, _ = curate(sets, paper_49k(0.001), seed=0)
    assert len(examples) == 49 and Counter(e.task for e in examples) == {"detection": 30, "grounding": 19}
    detection = [len(e.labels) for e in examples if e.task == "detection"]
    assert describe_shares(detection) == {"hard": 0.5, "negatives": pytest.approx(2 / 30)}
    several = [e for e in examples if e.record.source == "vg"]
    assert len(several) == 5 and all(e.labels == ("cup", "cup") for e in several)
    again, _ = curate(sets, paper_49k(0.001), seed=0)
    assert [(e.prompt, e.record.image_id) for e in again] == [(e.prompt, e.record.image_id) for e in examples]


def test_sets_become_one_source():
    one = merge_sets(
        "both", {"a": set_of("a", [1], ("cat", "dog")), "b": set_of("b", [2], ("dog", "ape"), skipped={"absent": 2})}
    )
    assert one.categories == {"cat": 1, "dog": 2, "ape": 3} and len(one.records) == 2 and one.skipped == {"absent": 2}
    assert [r.source for r in one.records] == ["a", "b"]
    for sets in ({}, {"a": set_of("a", [1]), "b": set_of("b", [1], (), phrases=True)}):
        with pytest.raises(DataError, match="cannot be one source"):
            merge_sets("both", sets)


def test_balance_by_hand():
    labels = [["cat"], ["cat"], ["cat", "dog"], ["dog"], ["ape"], []]
    # ape first by the alphabet, then cat (0), then dog (0), then all are 1: ape has none left, cat's next, ...
    assert order_by_balance(labels) == [4, 0, 2, 3, 1, 5]


LABELS = st.lists(st.lists(st.sampled_from("abcd"), max_size=4), max_size=30)


@settings(max_examples=100, deadline=None)
@given(labels=LABELS)
def test_every_picture_is_in_the_order_once(labels):
    order = order_by_balance(labels)
    assert sorted(order) == list(range(len(labels)))


def test_a_balanced_part_evens_out_rare_labels():
    rng = random.Random(0)
    labels = [["cat"]] * 90 + [["dog"]] * 8 + [["ape"]] * 2
    rng.shuffle(labels)
    records = tuple(record(k, 1, labels=own) for k, own in enumerate(labels))
    data = {"a": DetectionSet("a", None, records, {"cat": 1, "dog": 2, "ape": 3})}
    counts = {}
    for balanced in (False, True):
        examples, _ = curate(data, [Part("p", ("a",), "detection", 20, balanced=balanced)], seed=0)
        counts[balanced] = Counter(label for e in examples for label in e.labels)
        assert len({e.record.image_id for e in examples}) == 20
    assert counts[True] == {"cat": 10, "dog": 8, "ape": 2} and counts[False]["cat"] > 14
