"""Gallery: pictures with two answers side by side, to be sorted and looked at in a browser. HTML and SVG, no scripts, no network.

    draw_cards(cards, ("before", "after"))        # a section for `page.page(..., CSS)`

Sorting is done by the browser's style rules: a chosen radio button says by which of its numbers each card takes its place, so that
the page works from a mail, from disk, and under a content policy that forbids all scripts. Boxes are drawn as in `vr1kit.drawing.pictures`:
what a colour says, a line says too.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vr1kit.drawing.pictures import MEANINGS, Judgement, plain
from vr1kit.formats.images import open_image
from vr1kit.records import BadRecord
from vr1kit.reporting.page import text

LONGEST_SIDE = 560  # px of a picture in the page; ours
LETTER = 1 / 22  # height of a label's letters, of the picture's longer side; ours: readable where two pictures share a phone
WIDE = 0.56  # of their height, as system fonts have it
ORDERS = ("largest change", "largest gain", "largest loss", "most objects", "best after", "worst after", "name")
COLOURS = {"right": "#009e73", "loose": "#e69f00", "wrong": "#d55e00", "missed": "#ffffff"}  # Okabe and Ito, as in `style`
DASHES = {"right": "", "loose": "9 3 2 3", "wrong": "2 3", "missed": "5 4"}
STYLES = {"right": "solid", "loose": "dashed", "wrong": "dotted", "missed": "dashed"}  # the same in the legend
KEYS = {"missed": "var(--ink)"}  # white with a dark rim in a picture
CSS = (
    """
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr)); gap: 1rem; margin: .8rem 0; }
.card2 { border: 1px solid var(--line); border-radius: 8px; padding: .6rem; background: var(--soft); min-width: 0; }
.card2 h4 { margin: 0 0 .3rem; font-size: .88rem; font-weight: 600; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; }
.pair svg { display: block; width: 100%; height: auto; background: #ddd; }
.pair p { margin: .2rem 0 0; font-size: .8rem; color: var(--grey); }
.sorts label { display: inline-block; margin: 0 .9rem .3rem 0; font-size: .9rem; white-space: nowrap; cursor: pointer; }
.sorts { padding: 0; border: 0; margin: .6rem 0; }
.key { white-space: nowrap; margin-right: .9rem; }
.key i { display: inline-block; width: 1.3em; height: .85em; border-width: 2.5px; vertical-align: -.05em; }
.b { fill: none; stroke-width: 2.4; vector-effect: non-scaling-stroke; }
.rim { fill: none; stroke: #fff; stroke-width: 4.4; vector-effect: non-scaling-stroke; opacity: .7; }
.dark { stroke: #1a1a1a; }
@media (max-width: 30rem) { .pair { grid-template-columns: 1fr; } }
@media print { .sorts { display: none; } .card2 { break-inside: avoid; } }
"""
    + "".join(f".{k} {{ stroke: {c}; stroke-dasharray: {DASHES[k] or 'none'}; }}\n" for k, c in COLOURS.items())
    + "".join(f".key .{k} {{ border-color: {KEYS.get(k, c)}; border-style: {STYLES[k]}; }}\n" for k, c in COLOURS.items())
    + "".join(f".sortable:has(.by{k}:checked) .card2 {{ order: var(--o{k}); }}\n" for k in range(len(ORDERS)))
)

Answer = tuple[Sequence[Sequence[float]], Sequence[str]]  # boxes_xyxy_px, labels


@dataclass(frozen=True, eq=False)
class Card:
    """One picture, what is in it, and two answers."""

    name: str
    thumbnail: str | None  # a data address; None: the picture was not found
    size: tuple[int, int]  # (width, height) in px, the space of the boxes
    truth: Answer
    answers: tuple[Answer, Answer]
    judged: tuple[Judgement, Judgement]

    @property
    def change(self) -> float:
        return self.judged[1].quality - self.judged[0].quality


def read_thumbnail(path: Path) -> str | None:
    """A picture as a data address, no longer than LONGEST_SIDE; None for one that is not there or not readable."""
    try:
        with open_image(str(path)) as image:
            return make_thumbnail(image.convert("RGB"))
    except (BadRecord, OSError):
        return None


def make_thumbnail(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    kind, options = ("png", {}) if max(image.size) <= 128 else ("jpeg", {"quality": 82})
    out = io.BytesIO()
    small.save(out, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"


def draw_cards(cards: Sequence[Card], names: tuple[str, str], prefix: str = "g") -> str:
    """The cards with buttons that sort them, as HTML. `prefix` keeps several galleries of one page apart."""
    keys = [
        [-abs(c.change) for c in cards], [-c.change for c in cards], [c.change for c in cards], [-c.judged[0].objects for c in cards],
        [-c.judged[1].quality for c in cards], [c.judged[1].quality for c in cards], [c.name for c in cards],
    ]  # fmt: skip
    ranked = [sorted(range(len(cards)), key=values.__getitem__) for values in keys]  # stable: equal ones as they came
    buttons = "".join(
        f'<label><input type="radio" name="order-{prefix}" class="by{k}"{" checked" * (k == 0)}> {text(name)}</label> '
        for k, name in enumerate(ORDERS)
    )
    legend = " ".join(f'<span class="key"><i class="{kind}"></i> {text(MEANINGS[kind])}</span>' for kind in COLOURS)
    drawn = "".join(_draw_card(card, names, [order.index(k) for order in ranked], f"{prefix}{k}") for k, card in enumerate(cards))
    return (
        f'<div class="sortable"><fieldset class="sorts"><legend>Sort by</legend>{buttons}</fieldset>\n'
        f'<p class="note">Quality is panoptic quality of the picture, 0 to 1. The number beside a label is its IoU.</p><p class="note">{legend}</p>\n'
        f'<div class="gallery">\n{drawn}</div></div>\n'
    )


def _draw_card(card: Card, names: tuple[str, str], places: Sequence[int], mark: str) -> str:
    style = ";".join(f"--o{k}:{place}" for k, place in enumerate(places))
    width, height = card.size
    picture = f'<image id="{mark}" width="{width}" height="{height}" href="{card.thumbnail}"/>' if card.thumbnail else ""
    sides = ""
    for name, answer, judged in zip(names, card.answers, card.judged, strict=True):
        said = f"{judged.right} of {judged.objects} right, {len(judged.kinds)} box{'es' * (len(judged.kinds) != 1)}, quality {judged.quality:.2f}"
        sides += f"<div>{_draw_answer(card, answer, judged, name, picture)}<p><b>{text(name)}</b>: {text(said)}</p></div>"
        picture = picture and f'<use href="#{mark}"/>'  # in the page once, shown twice
    gone = "" if card.thumbnail else " (the picture was not found)"
    head = f"<h4>{text(card.name)}{gone} <span>quality {card.change:+.2f}</span></h4>"
    return f'<article class="card2" style="{style}">{head}<div class="pair">{sides}</div></article>\n'


def _draw_answer(card: Card, answer: Answer, judged: Judgement, name: str, picture: str) -> str:
    width, height = card.size
    parts = [picture]
    parts += [_draw_box(card.truth[0][g], "missed", f"missed: {plain(card.truth[1][g])}", card.size) for g in judged.missed]
    for box, label, kind, iou in zip(*answer, judged.kinds, judged.ious, strict=True):
        parts.append(_draw_box(box, kind, plain(label), card.size, f" {iou:.2f}" if iou else ""))
    found = ", ".join(f"{label} ({kind})" for label, kind in zip(answer[1], judged.kinds, strict=True)) or "nothing"
    gone = ", ".join(str(card.truth[1][g]) for g in judged.missed)
    alt = f"{name}: {judged.right} of {judged.objects} objects right. Found: {found}." + f" Missed: {gone}." * bool(gone)
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(alt)}">{"".join(parts)}</svg>'


def _draw_box(box: Sequence[float], kind: str, label: str, size: tuple[int, int], after: str = "") -> str:
    """`after` stays where the label has to be cut to the picture's width."""
    x1, y1, x2, y2 = (round(float(v), 1) for v in box)
    place = f'x="{x1}" y="{y1}" width="{max(x2 - x1, 0):.1f}" height="{max(y2 - y1, 0):.1f}"'
    letters = max(size) * LETTER
    room = max(3, int((size[0] - 2) / (letters * WIDE)) - len(after))
    label = (label if len(label) <= room else label[: room - 1] + "…") + after
    wide, y = min(letters * WIDE * len(label) + 2, size[0]), y1 - letters * 1.15 if y1 > letters * 1.3 else y1
    x = max(0.0, min(x1, size[0] - wide))
    ink = "#1a1a1a" if kind in ("loose", "missed") else "#fff"
    rim = "rim dark" if kind == "missed" else "rim"
    return (
        f'<rect class="{rim}" {place}/><rect class="b {kind}" {place}/>'
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{letters * 1.15:.1f}" fill="{COLOURS[kind]}" opacity=".88"/>'
        f'<text x="{x + 1:.1f}" y="{y + letters * 0.9:.1f}" font-size="{letters:.1f}" textLength="{wide - 2:.1f}" '
        f'lengthAdjust="spacingAndGlyphs" fill="{ink}">{text(label)}</text>'
    )
