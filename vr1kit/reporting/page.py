"""One HTML page in one file: no network, no scripts, every picture inside it, every text escaped.

Readable from a phone to print, in the light and in the dark: wide tables and figures scroll within themselves, by keyboard too,
and the first column of a table stays.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

PNG = b"\x89PNG\r\n\x1a\n"
SHORT = 16  # characters of a first column that a phone shows in one line; ours
CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --grey: #5c5c5c; --line: #e2e2df; --soft: #f7f7f5; --blue: #0072b2; --shade: #0004; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .5rem; padding-top: .9rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
a { color: var(--blue); }
:focus-visible { outline: 3px solid var(--blue); outline-offset: 2px; }
.sub, .note, figcaption { color: var(--grey); font-size: .9rem; }
nav { margin: .8rem 0 0; font-size: .9rem; }
nav a { margin-right: .9rem; white-space: nowrap; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr)); gap: .8rem; margin: 1.2rem 0 0; }
.card { border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; background: var(--soft); }
.card b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.card span { display: block; color: var(--grey); font-size: .88rem; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; -webkit-overflow-scrolling: touch;  /* a shadow where there is more to the right */
  background: linear-gradient(to left, var(--paper) 1.5rem, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; min-width: 100%; }
th, td { padding: .4rem .5rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { border-bottom: 2px solid var(--ink); font-weight: 600; white-space: normal; vertical-align: bottom; overflow-wrap: break-word; max-width: 14rem; }
th.n, td.n { text-align: right; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); padding-left: 0; }
td.text { white-space: normal; min-width: 17rem; overflow-wrap: anywhere; }
tr.paper td { color: var(--grey); font-style: italic; }
.tag { display: inline-block; padding: 0 .5em; border-radius: 4px; font-weight: 600; border: 1px solid currentColor; }
.good { color: #00664a; background: #e8f5f0; } .bad { color: #9c3d00; background: #fdf0e8; } .even { color: #4a4a4a; background: #f2f2f0; }
figure { margin: 1rem 0; }
figure .scroll { margin: 0; }
figure img { display: block; width: 100%; height: auto; min-width: 38rem; max-width: 70rem; background: #fff; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; overflow-x: auto; font-size: .86rem; }
code { font-size: .92em; overflow-wrap: anywhere; }
.missing { border-left: 3px solid #e69f00; padding: .2rem .8rem; color: var(--grey); }
details > summary { cursor: pointer; color: var(--blue); margin: .4rem 0; }
@media (max-width: 40rem) { th, td { padding: .35rem .5rem; } h1 { font-size: 1.4rem; }
  td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8.5rem; max-width: 10rem; }
  .short td:first-child { white-space: nowrap; min-width: 0; } }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #16181a; --ink: #e9e9e6; --grey: #b0b0ac; --line: #3a3d40; --soft: #202326; --blue: #6cb6e8; --shade: #fff5; }
  .good { color: #7fd8b4; background: #12332a; } .bad { color: #ffb27d; background: #3b2414; } .even { color: #d0d0cc; background: #2c2f32; }
}
@media print { :root { color-scheme: light; } main { max-width: none; padding: 0; } nav { display: none; } .scroll { overflow: visible; }
  td:first-child, th:first-child { position: static; } th, td { white-space: normal; } h2, h3 { break-after: avoid; }
  figure, tr, .card { break-inside: avoid; } figure img { min-width: 0; } }
"""


def text(value: Any) -> str:
    """Escaped; None is empty."""
    return "" if value is None else html.escape(str(value), quote=True)


def code(value: Any) -> str:
    return f"<code>{text(value)}</code>"


def link(relative: str, label: str) -> str:
    """To a file beside the page."""
    return f'<a href="{quote(relative)}">{text(label)}</a>'


def missing(what: str) -> str:
    return f'<p class="missing">{text(what)}</p>\n'


def scroll(inner: str) -> str:
    """What may be wider than a phone; by keyboard it scrolls once it has the focus."""
    return f'<div class="scroll" tabindex="0">{inner}</div>\n'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = (), long: Sequence[int] = ()) -> str:
    """Cells are HTML already; `numbers` are right-aligned columns, `long` ones may wrap."""
    kind = dict.fromkeys(numbers, ' class="n"') | dict.fromkeys(long, ' class="text"')
    head = "".join(f'<th scope="col"{kind.get(i, "") if i in numbers else ""}>{text(h)}</th>' for i, h in enumerate(heads))
    body = "".join("<tr>" + "".join(f"<td{kind.get(i, '')}>{c}</td>" for i, c in enumerate(row)) + "</tr>\n" for row in rows)
    short = ' class="short"' if rows and max(len(row[0]) for row in rows) <= SHORT else ""
    return scroll(f"<table{short}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>")


def picture(path: Path, caption: str) -> str:
    """A PNG, inside the page."""
    data = path.read_bytes()
    if not data.startswith(PNG):
        return missing(f"{path.name} is not a PNG picture; build the figures again.")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    source = "data:image/png;base64," + base64.b64encode(data).decode("ascii")
    image = f'<img alt="{text(caption)}" width="{width}" height="{height}" src="{source}">'
    return f"<figure>{scroll(image)}<figcaption>{text(caption)}</figcaption></figure>\n"


def page(title: str, header: str, sections: Sequence[tuple[str, str]], css: str = "") -> str:
    """`header` and each section's body are HTML already; titles are text. `css` is added to the page's own."""
    menu = " ".join(f'<a href="#s{i}">{text(name)}</a>' for i, (name, _) in enumerate(sections))
    body = "".join(f'<section id="s{i}">\n<h2>{text(name)}</h2>\n{inner}</section>\n' for i, (name, inner) in enumerate(sections))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{CONTENT_POLICY}">\n'
        f"<title>{text(title)}</title>\n<style>{CSS}{css}</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<h1>{text(title)}</h1>\n{header}<nav aria-label="Sections">{menu}</nav>\n</header>\n{body}</main>\n</body>\n</html>\n'
    )
