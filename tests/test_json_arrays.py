"""Reading a JSON object's lists in pieces: the same entries as `json.loads`, whatever the size of a piece."""

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vr1kit.formats.json_arrays import Irregular, read_arrays

ANY = {key: msgspec.json.Decoder(list) for key in ("images", "annotations")}
VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.sampled_from(["", "}, {", '"', "\\", '}],"', "é\u20ac", "[{"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "}, {", "a"]), inner, max_size=3),
    max_leaves=8,
)


def read(path, size=64, decoders=ANY):
    found = {}
    for key, entries in read_arrays(path, decoders, size):
        found.setdefault(key, []).extend(entries)
    return found


@settings(max_examples=150, deadline=None)
@given(
    info=VALUES, images=st.lists(VALUES, max_size=12), boxes=st.lists(VALUES, max_size=12), size=st.integers(1, 300),
    indent=st.sampled_from([None, 0, 2]), ascii_only=st.booleans(),
)  # fmt: skip
def test_entries_are_those_of_json_loads(tmp_path_factory, info, images, boxes, size, indent, ascii_only):
    path = tmp_path_factory.mktemp("json") / "a.json"
    whole = {"info": info, "images": images, "licenses": boxes, "annotations": boxes, "n": 3}
    path.write_text(json.dumps(whole, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    assert read(path, size) == {"images": images, "annotations": boxes}


@settings(max_examples=150, deadline=None)
@given(data=st.data(), boxes=st.lists(VALUES, min_size=1, max_size=6), size=st.integers(1, 100))
def test_broken_text_is_irregular_or_read_as_json_reads_it(tmp_path_factory, data, boxes, size):
    path = tmp_path_factory.mktemp("json") / "a.json"
    text = json.dumps({"images": [], "annotations": boxes}).encode()
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(st.binary(max_size=2)) + text[at + data.draw(st.integers(0, 2)) :]
    path.write_bytes(text)
    try:
        found = read(path, size)
    except Irregular:
        return
    assert found == {key: value for key, value in json.loads(text).items() if key in ANY}


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"images": [1, 2', '{"images": [1]} x', '{"images": [1], "images": [2]}', '{"images": [NaN]}', "{3: 4}",
     '\ufeff{"images": []}', '{"images": [{"id": 1},]}', '{"images": [1] "n": 2}', "{" + "[" * 10**5],
)  # fmt: skip
def test_other_shapes_are_irregular(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Irregular):
        read(path)


def test_entries_of_other_types_are_irregular(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [{"id": "7"}]}')
    with pytest.raises(Irregular, match="Expected `int`"):
        read(tmp_path / "a.json", decoders={"images": msgspec.json.Decoder(list[dict[str, int]])})


def test_a_long_string_full_of_cuts_is_read(tmp_path):
    entries = [{"a": "}, {" * 5000, "id": k} for k in range(3)]
    (tmp_path / "a.json").write_text(json.dumps({"images": entries}))
    assert read(tmp_path / "a.json", 4096) == {"images": entries}


def test_a_number_is_not_cut_where_the_window_ends(tmp_path):
    """The window is 4,096 bytes at first: here it ends within 1234, in a file that is read to its end at once."""
    path = tmp_path / "a.json"
    start = '{"images": [], "n": '
    path.write_text(start + " " * 10 + "1234, " + '"annotations": [1]}' + " " * 5000)
    assert read(path, 10**6) == {"images": [], "annotations": [1]}
    long = "1" * 4100  # held as a whole, longer than the window
    path.write_text('{"n": ' + long + ', "images": [2]}')
    assert read(path, 10**6) == {"images": [2]}


def test_bytes_that_are_no_text_do_not_shift_what_follows(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'{"note": "\xff\xff", "images": [1]}')
    with pytest.raises(Irregular):
        read(path)
