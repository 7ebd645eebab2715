"""Model families as data: how one asks, how it answers, in which coordinates, and how large it sees a picture.

    family = FAMILIES["qwen3_vl"]
    family.reword(prompt)              # the same question in the family's own words
    family.write(boxes, labels)        # a right answer as the family writes it
    family.parse(text, size)           # an answer read back
    family.count_image_tokens(1280, 720)

A new family is one entry here and one in tests/test_families.py. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vr1kit.boxes import Boxes
from vr1kit.completions import ParsedCompletion, parse_completion
from vr1kit.coordinates import PAPER_MAX_PIXELS, QWEN2_MIN_PIXELS, CoordinateSpace, smart_resize
from vr1kit.parsing.plain_text import parse_plain_text, write_plain_text
from vr1kit.prompts import DETECTION_PROMPT, GROUNDING_PROMPT, write_answer


@dataclass(frozen=True)
class AnswerFormat:
    """A way to write boxes and labels as text, and to read it."""

    name: str
    write: Callable[[Boxes, Sequence[str]], str]
    parse: Callable[[str, tuple[float, float]], ParsedCompletion]


JSON = AnswerFormat("json", write_answer, parse_completion)  # Qwen2.5-VL report, Sec. 2.1
PLAIN_TEXT = AnswerFormat("plain_text", write_plain_text, parse_plain_text)  # Griffon v2, Figure 1


@dataclass(frozen=True)
class Wording:
    """The two questions; {x} stands for the category list, or for the phrase."""

    detection: str
    grounding: str


QWEN_2_5 = Wording(DETECTION_PROMPT.replace("{categories}", "{x}"), GROUNDING_PROMPT.replace("{phrase}", "{x}"))
QWEN_3 = Wording(  # Qwen3-VL cookbook, 2D grounding
    "Locate every instance that belongs to the following categories: {x}. Report bbox coordinates in JSON format.",
    'Locate every instance that belongs to the following category: "{x}". Report bbox coordinates in JSON format.',
)
GRIFFON = Wording(  # paper Table 8
    "Examine the image for any objects from the category set. Report the coordinates of each detected object. "
    "The category set includes {x}.",
    "Locate the exact position of {x} in the picture, if you can.",
)
# paper Table 8, referring expressions; the published Vision-R1 data asks like this
GRIFFON_REFERRING = Wording(GRIFFON.detection, "Can you point out {x} in the image and provide the coordinates of its location?")
WORDINGS = (QWEN_2_5, QWEN_3, GRIFFON, GRIFFON_REFERRING)


@dataclass(frozen=True)
class Family:
    """How one model family reads pictures, is asked, and writes boxes."""

    answers: CoordinateSpace
    factor: int  # patch size x merge size: both sides of the model input are multiples of it
    format: AnswerFormat = JSON
    wording: Wording = QWEN_2_5
    min_pixels: int = QWEN2_MIN_PIXELS  # bounds for training: checkpoints' own reach 16,384 visual tokens a picture
    max_pixels: int = PAPER_MAX_PIXELS

    @property
    def write(self) -> Callable[[Boxes, Sequence[str]], str]:
        return self.format.write

    @property
    def parse(self) -> Callable[[str, tuple[float, float]], ParsedCompletion]:
        return self.format.parse

    def count_image_tokens(self, width: int, height: int) -> int:
        """Visual tokens of a picture of that size, between the family's pixel bounds."""
        wide, high = smart_resize(width, height, self.factor, self.min_pixels, self.max_pixels)
        return wide * high // self.factor**2

    @property
    def most_image_tokens(self) -> int:
        return self.max_pixels // self.factor**2

    def reword(self, prompt: str) -> str:
        """A question in any known wording, in this family's (as the released code does); any other text stays as it is."""
        for known in WORDINGS:
            for kind in ("detection", "grounding"):
                before, after = getattr(known, kind).split("{x}")
                if len(prompt) > len(before) + len(after) and prompt.startswith(before) and prompt.endswith(after):
                    return getattr(self.wording, kind).replace("{x}", prompt[len(before) : len(prompt) - len(after)])
        return prompt


#: By transformers' model_type; "griffon" is chosen by name, for checkpoints of any of these classes that answer in plain text.
FAMILIES = {
    "qwen2_vl": Family(CoordinateSpace.NORM1000, factor=14 * 2),  # Qwen2-VL report, Sec. 2.2; its configuration
    "qwen2_5_vl": Family(CoordinateSpace.MODEL_INPUT, factor=14 * 2),  # Qwen2.5-VL report, Sec. 2.1; configuration
    "qwen3_vl": Family(  # Qwen3-VL cookbook; its configuration; bounds: as many visual tokens as the paper's 512
        CoordinateSpace.NORM1000, factor=16 * 2, wording=QWEN_3, min_pixels=64 * 64, max_pixels=512 * 32 * 32
    ),
    "griffon": Family(CoordinateSpace.NORM1000, factor=14 * 2, format=PLAIN_TEXT, wording=GRIFFON),
}
