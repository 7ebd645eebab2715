"""The gallery as a browser shows it: sortable without scripts, from disk, without network, on a phone."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from vr1kit.drawing.pictures import judge_answer
from vr1kit.reporting.gallery import CSS, Card, draw_cards, make_thumbnail, read_thumbnail
from vr1kit.reporting.page import CSS as PAGE_CSS
from vr1kit.reporting.page import page
from vr1kit.reporting.report import build_report
from vr1kit.runs import runs_root

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def make_cards():
    """Five pictures whose order differs by every number: (objects found before, after) of four."""
    truth = ([[10.0 * k, 10, 10.0 * k + 8, 30] for k in range(4)], ["cat", "dog", EVIL, "car"])
    cards = []
    for k, (before, after) in enumerate(((1, 4), (2, 2), (4, 1), (0, 1), (3, 4))):
        answers = tuple(
            (truth[0][:n] + [[60, 60, 90, 90]] * (k == 1), truth[1][:n] + ["moon"] * (k == 1)) for n in (before, after)
        )
        judged = tuple(judge_answer(*answer, *truth) for answer in answers)
        image = Image.fromarray(np.full((100, 300 if k == 3 else 100, 3), 40 * k, np.uint8))
        cards.append(Card(f"{'edcba'[k]}.png", make_thumbnail(image), image.size, truth, answers, judged))
    return cards


@pytest.fixture(scope="module")
def cards():
    return make_cards()


def test_quality_is_hand_computed():
    truth = ([[0, 0, 10, 10], [20, 20, 30, 30]], ["cat", "dog"])
    judged = judge_answer([[0, 0, 10, 8], [50, 50, 60, 60]], ["cat", "dog"], *truth)
    assert judged.ious == pytest.approx((0.8, 0)) and judged.quality == pytest.approx(2 * 0.8 / 4)
    assert judge_answer([], [], [], []).quality == 1 and judge_answer([], [], *truth).quality == 0
    loose = judge_answer([[0, 0, 10, 4]], ["cat"], *truth)
    assert loose.kinds == ("loose",) and loose.ious == pytest.approx((0.4,)) and loose.quality == 0


def test_a_page_has_every_picture_once_and_nothing_of_others(cards):
    shown = page("t", "", [("g", draw_cards(cards, ("before", EVIL)))], CSS)
    assert shown.count("<image id=") == shown.count("<use ") == 5 and "<script" not in shown and "<img" not in shown
    assert not re.search(r'(?:href|src)="(?!data:image|#)', shown) and "url(" not in shown
    places = [re.search(rf"{re.escape(html.escape(c.name))}.*", shown) for c in cards]
    assert all(places) and "missed: car" in shown and "moon" in shown and ">dog 1.00<" in shown


def test_a_picture_that_is_not_there_is_said(cards, tmp_path):
    assert read_thumbnail(tmp_path / "none.png") is None
    (tmp_path / "bad.png").write_text("no picture")
    assert read_thumbnail(tmp_path / "bad.png") is None
    card = Card("x.png", None, (100, 100), *[getattr(cards[0], name) for name in ("truth", "answers", "judged")])
    assert "x.png (the picture was not found)" in draw_cards([card], ("a", "b"))


def test_a_long_label_is_cut_to_the_picture_and_keeps_its_iou():
    truth = ([[0, 50, 40, 90]], ["a very long name of a category"])
    card = Card("x.png", None, (60, 200), truth, (truth, ([], [])), (judge_answer(*truth, *truth), judge_answer([], [], *truth)))
    shown = draw_cards([card], ("a", "b"))
    labels = re.findall(r">([^<>]*…[^<>]*)</text>", shown)
    assert any(label.endswith("… 1.00") for label in labels) and all(len(label) * 200 / 22 * 0.56 <= 60 for label in labels), (
        labels
    )
    assert "a: 1 of 1 objects right. Found: a very long name of a category (right)." in shown
    assert "b: 0 of 1 objects right. Found: nothing. Missed: a very long name of a category." in shown


def brightness(colour):
    """Relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    channels = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_the_light_and_in_the_dark(scheme):
    """WCAG 2.2 AA: contrast of at least 4.5 to 1, for text on paper and on the softer ground, and for verdicts."""
    light, dark = PAGE_CSS.split("prefers-color-scheme: dark", 1)
    css = light if scheme == "light" else dark
    colours = dict(re.findall(r"--(\w+): (#\w+)", css))
    pairs = [(colours[ink], colours[ground]) for ink in ("ink", "grey", "blue") for ground in ("paper", "soft")]
    verdicts = re.findall(r"\.(?:good|bad|even) { color: (#\w+); background: (#\w+); }", css)
    assert len(verdicts) == 3
    for one, other in pairs + verdicts:
        high, low = sorted((brightness(one), brightness(other)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (one, other)


PROBE = """
<iframe id="f" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe><pre id="out"></pre><script>
const f = document.getElementById("f");
f.onload = () => {{
  const d = f.contentDocument, orders = {{}};
  for (const input of d.querySelectorAll("input[type=radio]")) {{
    input.click();
    const all = [...d.querySelectorAll(".card2")].map(e => [e.querySelector("h4").textContent[0], e.getBoundingClientRect()]);
    all.sort((a, b) => a[1].top - b[1].top || a[1].left - b[1].left);
    orders[input.parentElement.textContent.trim()] = all.map(e => e[0]).join("");
  }}
  const shown = [...d.querySelectorAll("svg")].every(s => s.getBoundingClientRect().width > 100);
  document.getElementById("out").textContent = JSON.stringify(
    {{orders, shown, wide: d.documentElement.scrollWidth, have: d.documentElement.clientWidth}});
}};
</script>
"""


def look(shown, folder, width):
    """What headless Chromium makes of a page in a frame of this width; the page itself is not changed."""
    (folder / "probe.html").write_text(PROBE.format(width=width, page=html.escape(shown)))
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=5000",
        f"--user-data-dir={folder}/c",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", (folder / "probe.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', done.stdout)[1]))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium at hand")
@pytest.mark.parametrize("width", [360, 1100])
def test_chromium_sorts_it_and_a_phone_can_read_it(cards, tmp_path, width):
    seen = look(page("t", "", [("g", draw_cards(cards, ("before", "after")))], CSS), tmp_path, width)
    change = {c.name[0]: c.change for c in cards}
    quality = {c.name[0]: c.judged[1].quality for c in cards}
    first = "edcba"  # the order in which they were given decides among equals
    assert seen["orders"] == {
        "largest change": "".join(sorted(first, key=lambda k: -abs(change[k]))),
        "largest gain": "".join(sorted(first, key=lambda k: -change[k])),
        "largest loss": "".join(sorted(first, key=lambda k: change[k])),
        "most objects": first,
        "best after": "".join(sorted(first, key=lambda k: -quality[k])),
        "worst after": "".join(sorted(first, key=lambda k: quality[k])),
        "name": "abcde",
    }
    assert len(set(seen["orders"].values())) >= 6, "orders that are all alike would prove nothing"
    assert seen["shown"] and seen["wide"] <= seen["have"] <= width


def build_published(folder):
    shutil.copytree(runs_root() / "published", folder / "demo", ignore=shutil.ignore_patterns("evaluation*", "policies"))
    return build_report(folder / "demo").read_text()


def test_the_report_has_the_gallery_of_each_base_policy(tmp_path):
    shown = build_published(tmp_path)
    assert "mixed-seed0: " in shown and "converged-seed0: " in shown and shown.count("<article") > 40
    assert len(set(re.findall(r'<image id="([^"]+)"', shown))) == shown.count("<image id="), "no id comes twice"
    assert "<script" not in shown


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium at hand")
def test_the_report_fits_a_phone_and_its_gallery_sorts(tmp_path):
    shown = build_published(tmp_path).replace("<details>", "<details open>")
    seen = look(shown, tmp_path, 360)
    assert seen["wide"] <= seen["have"] <= 360
    assert seen["shown"] and len(set(seen["orders"].values())) > 3
