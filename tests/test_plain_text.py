"""Griffon-style answers: by hand, back and forth, and any text at all."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vr1kit.parsing.plain_text import parse_plain_text, write_plain_text

EXAMPLE = "person-[0.645, 0.37, 0.728, 0.694] & traffic light-[0.561,0.512,0.648,0.753]"  # Griffon v2, Figure 1, shortened


def test_the_papers_example():
    parsed = parse_plain_text(EXAMPLE)
    assert parsed.labels == ("person", "traffic light") and parsed.reasons == () and parsed.dual_format == 1.0
    assert parsed.boxes_xyxy == pytest.approx(np.array([[645, 370, 728, 694], [561, 512, 648, 753]]))
    first, second = parsed.spans
    assert EXAMPLE[slice(*second.label)] == "traffic light" and EXAMPLE[slice(*second.item)].startswith("traffic")
    assert [EXAMPLE[slice(*n)] for n in first.numbers] == ["0.645", "0.37", "0.728", "0.694"]


@pytest.mark.parametrize(
    ("text", "reasons", "kept"),
    [
        ("None", (), 0),
        (" None \n", (), 0),
        ("", ("no_list",), 0),
        ("I see a person.", ("no_list",), 0),
        ("Sure:\nperson-[0.1, 0.1, 0.2, 0.2]", ("text_around",), 1),
        ("a-[0.1,0.1,0.2,0.2] b-[0.1,0.1,0.2,0.2]", ("punctuation",), 2),
        ("a-[0.1,0.1,0.2,0.2] &", ("punctuation",), 1),
        ("a-[0.1,0.1,0.2,0.2] & b-[0.1,0.1,0.", ("incomplete",), 1),
        ("a-[0.1,0.1,0.2,0.2]. Done", ("text_around",), 1),
        ("a-[0.2,0.1,0.1,0.2]", ("not_ordered",), 0),
        ("a-[0.1,0.1,0.2,1.2]", ("outside",), 0),
        ("a-[0.1,0.1,0.2]", ("box_length",), 0),
        ("a-[0.1,0.1,0.2,nan]", ("box_type",), 0),
        ("-[0.1,0.1,0.2,0.2]", ("no_label",), 0),
    ],
)
def test_faults_have_reasons_and_cost_the_format(text, reasons, kept):
    parsed = parse_plain_text(text)
    assert (parsed.reasons, len(parsed.labels)) == (reasons, kept)
    assert parsed.dual_format == float(not reasons)


def test_only_its_own_space():
    with pytest.raises(ValueError, match="1000"):
        parse_plain_text("None", (640, 480))


BOX = st.tuples(*[st.integers(0, 499)] * 2, *[st.integers(500, 1000)] * 2)
LABEL = st.text(st.characters(blacklist_characters="&[]", blacklist_categories=("C", "Z")), min_size=1, max_size=8).filter(
    lambda label: not label.endswith("-")
)


@given(st.lists(st.tuples(BOX, LABEL), max_size=8))
def test_a_written_answer_is_read_back(items):
    boxes, labels = np.array([b for b, _ in items], float).reshape(-1, 4), tuple(label for _, label in items)
    parsed = parse_plain_text(write_plain_text(boxes, labels))
    assert parsed.reasons == () and parsed.labels == labels
    assert parsed.boxes_xyxy == pytest.approx(boxes)


@given(st.text("ab&-[]0.,1 \n", max_size=60))
def test_any_text_is_read_and_every_kept_box_is_inside(text):
    parsed = parse_plain_text(text)
    assert len(parsed.boxes_xyxy) == len(parsed.labels) == len(parsed.spans)
    assert ((parsed.boxes_xyxy >= 0) & (parsed.boxes_xyxy <= 1000)).all()
    for item, label in zip(parsed.spans, parsed.labels, strict=True):
        assert text[slice(*item.label)] == label


@pytest.mark.parametrize("piece", ["a", "-", "-[", "[", "a-[0,", "&", "- ", "a-[0,0,1,1]&"])
def test_time_is_linear(piece):
    began = time.perf_counter()
    parse_plain_text(piece * 200_000)
    assert time.perf_counter() - began < 8
