import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vr1kit.coordinates import CoordinateSpace, convert_boxes_xyxy, round_boxes_xyxy, smart_resize, space_size

PIXELS, MODEL_INPUT, NORM1000 = CoordinateSpace.PIXELS, CoordinateSpace.MODEL_INPUT, CoordinateSpace.NORM1000
MANY = settings(max_examples=150, deadline=None)


@pytest.mark.parametrize(
    ("width", "height", "bounds", "expected"),
    [
        # 640 / 28 = 22.86 -> 23, 480 / 28 = 17.14 -> 17; 644 * 476 = 306,544 is within the bounds
        (640, 480, {}, (644, 476)),
        # 42 / 28 = 1.5 -> 2 and 70 / 28 = 2.5 -> 2: halves to even; 56 * 56 is just enough
        (42, 70, {}, (56, 56)),
        # 71 * 54 multiples are 3,005,856 px. shrink = sqrt(2000 * 1500 / 401408) = 2.7338;
        # 2000 / 2.7338 / 28 = 26.13 -> 26, 1500 / 2.7338 / 28 = 19.60 -> 19
        (2000, 1500, {}, (728, 532)),
        # 28 * 28 = 784 < 3136. grow = sqrt(3136 / 600) = 2.2862; 30 * 2.2862 / 28 = 2.45 -> 3, 20 * ... = 1.63 -> 2
        (30, 20, {}, (84, 56)),
        # 10 / 28 = 0.36 -> 0, so nothing is left but to grow: sqrt(3136 / 100) = 5.6, exactly 2 x 28
        (10, 10, {}, (56, 56)),
        # the tiny policy: patch 8 x merge 2
        (96, 96, {"factor": 16, "min_pixels": 96 * 96, "max_pixels": 96 * 96}, (96, 96)),
        # shrunk to 6 x 5 cells of 16, below the lower bound: the upper one comes first
        (120, 90, {"factor": 16, "min_pixels": 96 * 96, "max_pixels": 96 * 96}, (96, 80)),
    ],
)
def test_smart_resize_by_hand(width, height, bounds, expected):
    assert smart_resize(width, height, **bounds) == expected
    assert smart_resize(height, width, **bounds) == expected[::-1]


@MANY
@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([16, 28, 32]), st.integers(1, 6), st.integers(6, 600))
def test_smart_resize_keeps_its_promises(width, height, factor, low, high):
    assume(max(width, height) <= 30 * min(width, height))
    min_pixels, max_pixels = low * factor**2, high * 30 * factor**2
    new_width, new_height = smart_resize(width, height, factor, min_pixels, max_pixels)
    assert new_width % factor == new_height % factor == 0
    assert min_pixels <= new_width * new_height <= max_pixels
    # Each side is near that of the picture at its own aspect ratio: as it is, shrunk, or grown to the bound.
    near, shrunk, grown = [], [], []
    for side, new_side in ((width, new_width), (height, new_height)):
        near.append(abs(new_side - side) <= factor / 2)
        ideal = side * math.sqrt(max_pixels / (width * height))
        shrunk.append(new_side <= ideal + 1e-6 < new_side + factor + 1e-5 or new_side == factor)
        ideal = side * math.sqrt(min_pixels / (width * height))
        grown.append(new_side - factor - 1e-6 < ideal <= new_side + 1e-6)
    assert all(near) or all(shrunk) or all(grown)


@MANY
@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([28, 32]), st.sampled_from([401408, 12845056]))
def test_smart_resize_agrees_with_the_processor(width, height, factor, max_pixels):
    qwen = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    assume(max(width, height) <= 100 * min(width, height))
    theirs = qwen.smart_resize(height, width, factor=factor, min_pixels=56 * 56, max_pixels=max_pixels)
    assert smart_resize(width, height, factor, max_pixels=max_pixels) == theirs[::-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 0, "height": 5}, "width.*0"),
        ({"width": 5, "height": -1}, "height.*-1"),
        ({"width": 5, "height": 5, "factor": 0}, "factor.*0"),
        ({"width": 5, "height": 5, "min_pixels": 9, "max_pixels": 8}, "max_pixels.*8"),
        ({"width": 4020, "height": 20}, "200 : 1.*4020 x 20"),
        ({"width": 4000, "height": 20, "max_pixels": 3136}, "max_pixels 3136.*4000 x 20"),  # 28 high leaves 112 of 4000
    ],
)
def test_smart_resize_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        smart_resize(**arguments)


def test_conversion_by_hand():
    image_size, input_size = (640, 480), (644, 476)
    box = [[160, 120, 320, 480]]
    # x: 160 / 640 = 1/4, 320 / 640 = 1/2; y: 120 / 480 = 1/4, 480 / 480 = 1
    assert convert_boxes_xyxy(box, PIXELS, NORM1000, image_size).tolist() == [[250, 250, 500, 1000]]
    assert convert_boxes_xyxy(box, PIXELS, MODEL_INPUT, image_size, input_size).tolist() == [[161, 119, 322, 476]]
    # 161 / 644 and 119 / 476 are 1/4 as well
    from_input = convert_boxes_xyxy([[161, 119, 322, 476]], MODEL_INPUT, NORM1000, image_size, input_size)
    assert from_input.tolist() == [[250, 250, 500, 1000]]
    assert convert_boxes_xyxy([], PIXELS, NORM1000, image_size).shape == (0, 4)


def test_space_sizes():
    assert space_size(PIXELS, (640, 480)) == (640, 480)
    assert space_size(NORM1000, (640, 480)) == (1000, 1000)
    assert space_size(MODEL_INPUT, (640, 480), (644, 476)) == (644, 476)
    assert space_size("norm1000", (640, 480)) == (1000, 1000)  # by value, as configurations write it
    with pytest.raises(ValueError, match="input_size"):
        space_size(MODEL_INPUT, (640, 480))
    with pytest.raises(ValueError, match=r"image_size.*\(0, 480\)"):
        space_size(PIXELS, (0, 480))
    with pytest.raises(ValueError, match="norm999"):
        space_size("norm999", (640, 480))


def test_rounding_by_hand():
    boxes_xyxy = [
        [0.4, 0.5, 1.5, 2.6],  # to nearest; 0.5 -> 1 and 1.5 -> 2, halves up
        [-3.0, 5.0, 104.0, 9.9],  # kept inside 100 x 10
        [7.1, 3.0, 7.4, 5.0],  # both edges would be 7: becomes the unit 7..8 that holds 7.25
        [6.8, 3.0, 7.1, 5.0],  # both would be 7: the middle 6.95 lies in 6..7
        [99.8, 9.7, 100.0, 10.0],  # at the far corner there is no unit beyond
        [103.0, 3.0, 104.0, 5.0],  # wholly outside: the last unit inside
        [5.0, 5.0, 5.0, 6.0],  # has no width to keep
    ]
    assert round_boxes_xyxy(boxes_xyxy, (100, 10)).tolist() == [
        [0, 1, 2, 3],
        [0, 5, 100, 10],
        [7, 3, 8, 5],
        [6, 3, 7, 5],
        [99, 9, 100, 10],
        [99, 3, 100, 5],
        [5, 5, 5, 6],
    ]


@MANY
@given(st.integers(0, 2**32 - 1), st.integers(20, 3000), st.integers(20, 3000))
def test_answers_survive_the_round_trip(seed, width, height):
    rng = np.random.default_rng(seed)
    input_size = (28 * int(rng.integers(2, 60)), 28 * int(rng.integers(2, 60)))
    for space in (MODEL_INPUT, NORM1000):
        extent_x, extent_y = space_size(space, (width, height), input_size)
        low = rng.integers(0, (extent_x - 1, extent_y - 1), (20, 2))
        high = rng.integers(low + 1, (extent_x, extent_y), endpoint=True)
        written = np.hstack([low, high]).astype(float)
        pixels = convert_boxes_xyxy(written, space, PIXELS, (width, height), input_size)
        again = convert_boxes_xyxy(pixels, PIXELS, space, (width, height), input_size)
        assert round_boxes_xyxy(again, (extent_x, extent_y)).tolist() == written.tolist()


@MANY
@given(st.integers(0, 2**32 - 1))
def test_rounding_moves_edges_by_half_a_unit_and_keeps_sides(seed):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 99, (20, 2))
    boxes_xyxy = np.hstack([low, low + rng.uniform(1e-6, 100 - low)])
    rounded = round_boxes_xyxy(boxes_xyxy, (100, 100))
    moved = np.abs(rounded - boxes_xyxy)
    wide = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2] > 1).all(axis=1)
    assert moved[wide].max(initial=0) <= 0.5
    assert moved.max() <= 1.0
    assert (rounded[:, :2] < rounded[:, 2:]).all() and rounded.min() >= 0 and rounded.max() <= 100
