import numpy as np
import pytest

from vr1kit.completions import parse_completion
from vr1kit.scenes import DOMAINS, UNSEEN
from vr1kit.toy.instruction import answer_like, choose_annotator, choose_domain, draw_pictures, flip, token_targets, write_batches
from vr1kit.toy.tiny import SIDE, build_tokenizer

BOXES, LABELS = np.array([[4, 10, 30, 41], [50, 8, 57, 17], [60, 60, 90, 90]], float), ["star", "fish", "car"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return draw_pictures(tmp_path_factory.mktemp("pictures"), 16, workers=1)


def test_annotators_are_what_they_are_called():
    rng = np.random.default_rng(0)
    careful = parse_completion(answer_like("careful", BOXES, LABELS, rng), (SIDE, SIDE))
    assert careful.dual_format and len(careful.labels) == 3 and (careful.boxes_xyxy == BOXES).all()
    hurried = parse_completion(answer_like("hurried", BOXES, LABELS, rng), (SIDE, SIDE))
    assert hurried.dual_format and hurried.labels == ("star", "car")  # the larger half
    assert (hurried.boxes_xyxy[1] != BOXES[2]).any()  # loosely
    broken = [parse_completion(answer_like("broken", BOXES, LABELS, rng), (SIDE, SIDE)) for _ in range(30)]
    assert not any(b.dual_format for b in broken)
    drawn = [choose_annotator(9, rng) for _ in range(2000)]
    assert drawn.count("hurried") / 2000 == pytest.approx(0.70, abs=0.05)
    assert drawn.count("broken") / 2000 == pytest.approx(0.15, abs=0.04)


def test_pretraining_never_sees_an_unseen_domain_and_mirrors_rightly():
    names = [choose_domain(i, 2000).name for i in range(2000)]
    assert set(names) == {"wander", *DOMAINS} - {d.name for d in UNSEEN} and names.count("wander") == 500
    pixels, boxes = flip(np.arange(SIDE * SIDE * 3, dtype=np.uint32).reshape(1, SIDE, SIDE, 3), [BOXES])
    assert boxes[0][0].tolist() == [SIDE - 30, 10, SIDE - 4, 41]
    assert pixels[0, 0, 0, 0] == (SIDE - 1) * 3


def test_a_visual_token_is_asked_for_the_object_over_it():
    classes, boxes = token_targets([np.array([[0, 0, 16, 16]], float)], [["star"]])
    assert classes[0] > 0 and classes[1:].sum() == 0
    assert boxes[0].tolist() == pytest.approx([0, 0, 1 / 6, 1 / 6])


def test_batches_depend_on_the_seed_alone_and_show_what_was_drawn(pictures):
    tokenizer = build_tokenizer()
    one, two = (list(write_batches(pictures, tokenizer, np.random.default_rng(3), 4, "clean", [1, 0])) for _ in range(2))
    assert len(one) == 2 and all((a["input_ids"] == b["input_ids"]).all() for a, b in zip(one, two, strict=True))
    assert one[0]["input_ids"].shape[1] >= one[1]["input_ids"].shape[1]  # in the order that was asked for
    batch = one[0]
    answered = batch["labels"] != -100
    assert (batch["labels"][answered] == batch["input_ids"][answered]).all()  # labels stand where the answer is
    assert (batch["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).sum() == 4 * 36
    assert batch["pixel_values"].shape == (4 * 144, 384) and batch["dense"][0].shape == (4 * 36,)


def test_pictures_drawn_once_are_read_back(pictures, tmp_path):
    first = draw_pictures(tmp_path, 4, workers=1)
    before = (tmp_path / "pixels.npy").stat().st_mtime_ns
    again = draw_pictures(tmp_path, 4, workers=1)
    assert (tmp_path / "pixels.npy").stat().st_mtime_ns == before and len(again) == 4
    assert again.labels == first.labels and (np.asarray(again.pixels) == np.asarray(first.pixels)).all()
