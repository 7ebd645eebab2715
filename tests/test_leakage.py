"""Leakage: copies, scaled and compressed pictures are found, others are not; comparison equals brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from vr1kit.curation.leakage import (
    Hashes,
    describe_matches,
    find_matches,
    hash_picture,
    hash_pictures,
    read_leaked,
    write_matches,
)
from vr1kit.records import BadRecord, DataError
from vr1kit.scenes import draw_scene


def picture(seed, size=(320, 240)):
    """A smooth random picture: as different from the next as photographs are."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)


CHANGES = {
    "halved": lambda image: image.resize((160, 120), Image.Resampling.LANCZOS),
    "doubled": lambda image: image.resize((640, 480)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "cropped by a hundredth": lambda image: image.crop((3, 2, 318, 238)),
    "grey": lambda image: image.convert("L"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(20):
        picture(k).save(folder / f"{k:02}.png")
        draw_scene("toybox", k).image.save(folder / f"scene{k:02}.png")
    return folder


def test_copies_and_changed_pictures_are_found_and_nothing_else(folder, tmp_path):
    train = hash_pictures(sorted(folder.iterdir()))
    paths = []
    for k, (name, change) in enumerate(CHANGES.items()):
        paths.append(tmp_path / f"{k} {name}.png")
        change(picture(k)).save(paths[-1])
    paths.append(tmp_path / "jpeg.jpg")
    picture(7).save(paths[-1], quality=60)
    paths.append(tmp_path / "same.png")
    paths[-1].write_bytes((folder / "08.png").read_bytes())
    paths += [tmp_path / f"new{k}.png" for k in range(100, 110)]
    for k in range(100, 110):
        picture(k).save(tmp_path / f"new{k}.png")
    evaluation = hash_pictures(paths, [path.name for path in paths])
    matches = find_matches(train, {"val": evaluation})
    found = {match.evaluation: (match.train[-6:-4], match.kind) for match in matches}
    wanted = {f"{k} {name}.png": (f"{k:02}", "perceptual") for k, name in enumerate(CHANGES)}
    assert found == {**wanted, "jpeg.jpg": ("07", "perceptual"), "same.png": ("08", "exact")}
    assert len(matches) == 7
    lines = describe_matches(matches, train, {"val": evaluation})
    assert lines[1] == "  val: 1 exact and 6 perceptual matches of 17 pictures (41.18%)"


def test_flat_pictures_match_exactly_or_not_at_all(tmp_path):
    for name, colour in (("a.png", 10), ("b.png", 200), ("c.png", 10)):
        Image.new("RGB", (50, 40), (colour,) * 3).save(tmp_path / name)
    train, evaluation = (hash_pictures([tmp_path / name for name in names]) for names in (["a.png"], ["b.png", "c.png"]))
    assert [(match.evaluation[-5:], match.kind) for match in find_matches(train, {"v": evaluation})] == [("c.png", "exact")]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 40), m=st.integers(0, 30), bits=st.integers(0, 64))
def test_close_pairs_are_those_of_brute_force(seed, n, m, bits):
    rng = np.random.default_rng(seed)
    train, evaluation = (random_hashes(k, rng) for k in (n, m))
    found = {(match.train, match.evaluation) for match in find_matches(train, {"v": evaluation}, bits, 512)}

    def fits(a, b):
        ones = [bin(int(x)).count("1") for x in (a, b)]
        return all(6 <= each <= 58 for each in ones) and bin(int(a) ^ int(b)).count("1") <= bits

    assert found == {(str(t), str(e)) for t in range(n) for e in range(m) if fits(train.coarse[t], evaluation.coarse[e])}


def random_hashes(n, rng):
    exact, fine = rng.integers(0, 256, (n, 32), dtype=np.uint8), rng.integers(0, 2**64, (n, 8), dtype=np.uint64)
    return Hashes(tuple(map(str, range(n))), exact, rng.integers(0, 2**64, n, dtype=np.uint64), fine, {})


def test_hashes_and_reports_come_back_from_disk(folder, tmp_path):
    hashes = hash_pictures(sorted(folder.iterdir())[:3])
    hashes.save(tmp_path / "h.npz")
    back = Hashes.load(tmp_path / "h.npz")
    assert back.names == hashes.names and (back.exact == hashes.exact).all() and (back.fine == hashes.fine).all()
    matches = find_matches(hashes, {"v": back})
    write_matches(matches, tmp_path / "r.csv")
    assert read_leaked(tmp_path / "r.csv") == set(hashes.names)
    (tmp_path / "no.npz").write_text("no")
    with pytest.raises(DataError, match="no file of hashes"):
        Hashes.load(tmp_path / "no.npz")
    for text in ("", "a,b\n"):
        (tmp_path / "no.csv").write_text(text)
        with pytest.raises(DataError, match="not a leakage report"):
            read_leaked(tmp_path / "no.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_leaked(tmp_path / "absent.csv")


def test_bad_pictures_stop_or_are_counted(folder, tmp_path):
    (tmp_path / "bad.png").write_text("no")
    paths = [tmp_path / "bad.png", sorted(folder.iterdir())[0]]
    with pytest.raises(BadRecord, match="bad.png: the picture is no picture"):
        hash_pictures(paths)
    left = hash_pictures(paths, on_error="skip")
    assert len(left.names) == 1 and left.skipped == {"unreadable": 1}
    with pytest.raises(BadRecord):
        hash_picture(tmp_path / "absent.png")


@pytest.mark.slow
def test_processes_give_the_same_hashes(folder):
    paths = sorted(folder.iterdir())
    one, two = hash_pictures(paths), hash_pictures(paths, processes=2)
    assert one.names == two.names and (one.exact == two.exact).all() and (one.coarse == two.coarse).all()
