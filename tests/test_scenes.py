import dataclasses
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from vr1kit.scenes import (
    DENSE_ABOVE,
    DOMAINS,
    MAX_OBJECTS,
    SHIFTED,
    SIDE,
    TOYBOX,
    UNSEEN,
    ask_question,
    draw_scene,
    write_scenes,
)  # fmt: skip
from vr1kit.toy.sprites import SPRITES


def test_the_suites_have_the_promised_sizes():
    assert len(TOYBOX.labels) >= 12
    assert len(SHIFTED) == 13 and len(UNSEEN) == 4
    assert len({d.name for d in (TOYBOX, *SHIFTED, *UNSEEN)}) == 18
    assert not set(TOYBOX.labels) & {label for d in SHIFTED for label in d.labels}  # their own categories
    assert {label for d in DOMAINS.values() for label in d.labels} == set(SPRITES)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_scene_is_the_same_every_time_and_differs_by_seed(domain):
    a, b, c = draw_scene(domain, 5), draw_scene(domain, 5), draw_scene(domain, 6)
    assert a.image.tobytes() == b.image.tobytes() and a.objects == b.objects
    assert a.image.tobytes() != c.image.tobytes()


@pytest.mark.parametrize("domain", DOMAINS)
def test_objects_are_inside_visible_and_of_the_domain(domain):
    for seed in range(12):
        scene = draw_scene(domain, seed)
        assert scene.image.size == (SIDE, SIDE) and scene.image.mode == "RGB"
        assert 1 <= len(scene.objects) <= MAX_OBJECTS
        for o in scene.objects:
            x1, y1, x2, y2 = o.box_xyxy_px
            assert 0 <= x1 < x2 <= SIDE and 0 <= y1 < y2 <= SIDE
            assert o.label in DOMAINS[domain].labels
            assert o.visible > 0.4  # nothing is annotated that cannot be seen


def test_about_half_the_toybox_is_dense():
    counts = [len(draw_scene("toybox", seed).objects) for seed in range(120)]
    assert 0.35 < np.mean([c > DENSE_ABOVE for c in counts]) < 0.65
    assert max(counts) == MAX_OBJECTS and min(counts) == 1


def test_boxes_are_exact():
    """One vivid thing on a pale ground: its box is the extent of the vivid pixels, to the softness of its edge."""
    vivid = tuple(label for label in TOYBOX.labels if label in ("ball", "heart", "ring", "cross", "bolt"))
    plain = dataclasses.replace(
        TOYBOX,
        name="plain",
        labels=vivid,
        background="blur",
        tones=((245, 245, 245),),
        objects=(1, 1),
        style="flat",
        free_colour=0.0,
    )
    for seed in range(12):
        scene = draw_scene(plain, seed)
        (o,) = scene.objects
        pixels = np.asarray(scene.image).astype(int)
        ys, xs = np.nonzero(pixels.max(-1) - pixels.min(-1) > 70)
        measured = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert np.abs(np.subtract(measured, o.box_xyxy_px)).max() <= 1.5, (seed, o)


def test_files_are_coco_and_hold_the_same_boxes(tmp_path, capsys):
    path = write_scenes(tmp_path / "toybox", "toybox", [3, 4])
    coco = COCO(str(path))
    assert sorted(c["name"] for c in coco.loadCats(coco.getCatIds())) == sorted(TOYBOX.labels)
    scene = draw_scene("toybox", 3)
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert [a["bbox"] for a in annotations] == [
        [x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in (o.box_xyxy_px for o in scene.objects)
    ]
    with Image.open(tmp_path / "toybox" / "images" / coco.loadImgs([1])[0]["file_name"]) as image:
        assert image.convert("RGB").tobytes() == scene.image.tobytes()  # PNG loses nothing
    assert json.loads(path.read_text())["images"][0]["seed"] == 3


def test_questions_have_the_right_answers():
    kinds = set()
    for seed in range(60):
        scene = draw_scene("toybox", seed)
        q = ask_question(scene, seed)
        kinds.add(q.kind)
        labels = [o.label for o in scene.objects]
        named = next(label for label in SPRITES if f" {label}" in q.question)
        if q.kind == "count":
            assert q.answer == str(labels.count(named))
        elif q.kind == "yes_no":
            assert q.answer == ("yes" if named in labels else "no")
        else:
            assert q.answer == next(o.colour for o in scene.objects if o.label == named)
    assert kinds == {"count", "colour", "yes_no"}
