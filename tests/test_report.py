"""The report: complete, self-contained, safe, and there even where its parts are not."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from vr1kit.profiles import PROFILES
from vr1kit.reporting import report
from vr1kit.reporting.page import CSS
from vr1kit.runs import open_run, project_root

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
SETS = {"in_domain": ("toybox",), "shifted13": ("aquarium", EVIL), "unseen4": ("neon",)}
VALUES = {"base": 20.0, "sft": 30.0, "vision_r1": 31.0, "vision_r1_object": 33.0}


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VR1KIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("VR1KIT_TRACE", raising=False)
    monkeypatch.setenv("VR1KIT_COMMAND", f"make reproduce RUN=demo # {EVIL}")
    return tmp_path / "runs"


def make_step(name, tables=None, config=None, files=None):
    step = open_run("demo").step(name, config or {}, code=["boxes"])
    step.begin()
    for file_name, rows in (tables or {}).items():
        step.write_csv(file_name, rows)
    for file_name, write in (files or {}).items():
        write(step.path / file_name)
    step.finish({"pictures": 120})
    return step


def place(base, policy, seed, suite, metric, value):
    return {
        "base_policy": base,
        "seed": seed,
        "policy": policy,
        "suite": suite,
        "metric": metric,
        "value": value,
        "n_images": 9,
    }


def png(path):
    Image.new("RGB", (8, 4), "red").save(path)


def make_run():
    rows = [
        place(b, p, s, suite, "accuracy" if suite == "questions" else "AP", v + 0.1 * s * (p != "base"))
        for b in ("mixed", "converged") for p, v in VALUES.items() for s in range(3)
        for suite in ("in_domain", "shifted13", "unseen4", "questions")
    ]  # fmt: skip
    domains = [{**r, "set": name} for r in rows if r["suite"] in SETS for name in SETS[r["suite"]]]
    make_step("results", {"main.csv": rows, "domains.csv": domains})
    parts = [{"source": EVIL, "task": "detection", "examples": 7, "boxes": 30, "dense_share": 0.5}]
    make_step("data/scenes")
    make_step("data/mix-seed0", {"parts.csv": parts}, {"seed": 0})
    make_step("ablations", {"ablations.csv": [{"name": EVIL, "seed": s, "AP": 30.0 + s} for s in range(2)]})
    names = ("main", "before_after", "rewards_mixed", "domains", "scenes", "ablations", "my_own")
    make_step("figures", files={f"{name}.png": png for name in names})
    make_step("notebooks/04_evaluation", files={
        "executed.ipynb": lambda p: p.write_text("{}"),
        "params.json": lambda p: p.write_text('{"run": "demo", "profile": "tiny"}'),
    })  # fmt: skip
    return open_run("demo").path


class Page(HTMLParser):
    """Tags that were opened, their attributes, and whether all were closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def test_the_report_has_everything_verdict_first():
    path = report.build_report(make_run())
    html = path.read_text()
    page = Page(html)
    assert path.name == "report.html" and not page.open
    order = [
        html.index(f">{title}</h2>")
        for title in ("Verdict", "Before and after", "Training", "Domain by domain", "Data", "Ablations")
    ]
    assert order == sorted(order) and html.index("Verdict</h2>") < html.index("<table")
    assert "This part could not be made" not in html and 'class="missing"' not in html
    assert page.count("img") == 7 and all(a["alt"] for t, a in page.tags if t == "img")
    assert "20.0 → 33.1 (×1.66)" in page.text and "17.7 → 26.6 (×1.50)" in page.text
    assert "✓ holds" in page.text and "✓ win" in page.text
    assert "120 pictures" in page.text and "7 examples with 30 boxes" in page.text
    assert ("a", {"href": "notebooks/04_evaluation/executed.ipynb"}) in page.tags
    assert (
        "git checkout" in page.text
        and "make reproduce RUN=demo" in page.text
        and f"profile tiny: {PROFILES['tiny'].purpose}" in page.text
    )
    assert page.text.count("data/mix-seed0") >= 1 and "All that was begun is finished" in page.text


def test_every_figure_of_the_kit_has_a_place_and_a_caption():
    published = {path.stem for path in (project_root() / "paper_figures").glob("*.png")}
    assert published <= report.FIGURES.keys()
    text = Page(report.build_report(make_run()).read_text()).text
    drawn = ("main", "before_after", "rewards_mixed", "domains", "scenes", "ablations")
    assert all(report.FIGURES[name][1] in text for name in drawn) and "my own" in text
    assert text.index("Base policy “mixed”: rewards") < text.index(report.FIGURES["domains"][1]) < text.index("my own")


def test_the_report_is_one_file_that_loads_nothing_and_trusts_nothing():
    html = report.build_report(make_run()).read_text()
    page = Page(html)
    assert not re.search(r"https?://|//cdn|@import|url\(", html)
    assert not page.count("script") and not page.count("link") and not page.count("iframe")
    assert all(a["src"].startswith("data:image/png;base64,") for _, a in page.tags if "src" in a)
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert html.count("&lt;script&gt;") >= 4, "domain, mix, ablation and command all said it"
    assert any("default-src 'none'" in a.get("content", "") for t, a in page.tags if t == "meta")
    assert any(a.get("name") == "viewport" for t, a in page.tags if t == "meta") and "overflow-x: auto" in CSS


def test_an_empty_run_gets_a_report_that_says_what_is_missing(runs_folder):
    (runs_folder / "demo").mkdir(parents=True)
    page = Page(report.build_report(runs_folder / "demo").read_text())
    for words in (
        "run notebook 04_evaluation",
        "run notebook 05_figures",
        "run notebook 01_data_curation",
        "No ablations",
        "No finished step",
    ):
        assert words in page.text
    assert "This part could not be made" not in page.text
    assert report.verdict_lines(runs_folder / "demo")[0].startswith("no verdict")


@pytest.mark.parametrize("name, content, words", [
    ("results/main.csv", "a,b\n1,2\n", "No results table"),
    ("results/main.csv", "\x00\xff", "No results table"),
    ("results/domains.csv", "a\n1\n", "This part could not be made"),
    ("ablations/ablations.csv", "name,seed,AP\nx,0,much\n", "This part could not be made"),
    ("data/mix-seed0/parts.csv", "source\nx\n", "This part could not be made"),
    ("figures/main.png", "no picture", "is not a PNG"),
    ("notebooks/04_evaluation/provenance.json", "{", "is damaged"),
    ("notebooks/04_evaluation/params.json", "{", "This part could not be made"),
])  # fmt: skip
def test_a_damaged_file_costs_its_part_only(name, content, words):
    path = make_run()
    (path / name).write_text(content)
    page = Page(report.build_report(path).read_text())
    assert words in page.text and "Make it again" in page.text and page.count("section") == 10


def test_an_interrupted_step_is_named():
    path = make_run()
    open_run("demo").step("policies/mixed-seed0-sft", {}, code=["boxes"]).begin()
    assert "Not finished: policies/mixed-seed0-sft." in Page(report.build_report(path).read_text()).text


def test_verdict_lines_are_for_a_terminal():
    lines = report.verdict_lines(make_run())
    assert len(lines) == 17 and lines[0].startswith(
        "✓ holds   mixed, in-domain AP: Vision-R1, object credit over the base: 1.66×"
    )
    assert any(line.startswith("? no result") for line in lines), "nobody trained SFT with the same compute"
