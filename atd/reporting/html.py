"""Pages as one HTML file that needs nothing beside it and asks no server for anything."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from html import escape as quoted
from pathlib import Path

from atd.reporting.document import (
    Banner,
    Block,
    Command,
    KeyNumbers,
    Paragraph,
    Picture,
    Section,
    Span,
    Style,
    Table,
    Text,
    spans,
)
from atd.reporting.drawing import DPI

__all__ = ["fragment", "render"]

_LARGE = 700
"""Width in CSS pixels from which a picture is too detailed for a telephone's screen."""

_STYLES: dict[Style, str] = {
    "plain": "{}",
    "strong": "<strong>{}</strong>",
    "emphasis": "<em>{}</em>",
    "code": "<code>{}</code>",
    "quiet": "<small>{}</small>",
    "passed": '<span class="passed">✓ {}</span>',
    "failed": '<strong class="failed">✗ {}</strong>',
}

# The policy makes a browser refuse anything from outside, should it ever get into a page.
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{css}</style>
</head>
<body>
{body}
</body>
</html>
"""

_CSS = """\
:root {
  color-scheme: light dark;
  --text: #1c1e21; --soft: #5b626b; --line: #d9dde2; --page: #ffffff; --raised: #f4f6f8;
  --good: #00735a; --bad: #b34700; --link: #005a94;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e8ea; --soft: #a3abb4; --line: #3a4047; --page: #16181b; --raised: #202428;
    --good: #2fc79f; --bad: #ff9950; --link: #6cbcf0;
  }
}
* { box-sizing: border-box; }
body {
  max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem;
  background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
h1, h2 { line-height: 1.2; overflow-wrap: anywhere; }
h1 { margin: 0 0 1rem; font-size: 2rem; }
h2 {
  margin: 3rem 0 1rem; padding-top: 1.2rem; border-top: 1px solid var(--line); font-size: 1.35rem;
}
p { max-width: 46rem; overflow-wrap: break-word; }
a { color: var(--link); }
small, .aside { color: var(--soft); }
.aside { font-size: 0.875rem; }
code, pre {
  font: 0.9em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
code { overflow-wrap: anywhere; }
pre {
  padding: 0.8rem 1rem; border-radius: 8px; background: var(--raised);
  white-space: pre-wrap; overflow-wrap: anywhere;
}
nav { margin: 1.5rem 0 0; font-size: 0.9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.3rem 1.1rem; margin: 0; padding: 0; }
nav li { list-style: none; }
.banner {
  display: flex; gap: 0.8rem; max-width: none; margin: 1rem 0; padding: 0.8rem 1rem;
  border: 1px solid var(--line); border-left: 6px solid var(--good); border-radius: 8px;
  background: var(--raised);
}
.banner.bad { border-color: var(--bad); }
.banner .sign { color: var(--good); font-size: 1.4rem; font-weight: 700; line-height: 1.1; }
.banner.bad .sign { color: var(--bad); }
.numbers { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0.8rem; margin: 1.2rem 0; }
.numbers div { padding: 0.7rem 0.9rem; border-radius: 8px; background: var(--raised); }
.numbers dt { font-weight: 600; }
.numbers dd { margin: 0; color: var(--soft); font-size: 0.85rem; line-height: 1.35; }
.numbers .number {
  color: var(--text); font-size: 1.9rem; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums;
}
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.75rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { border-bottom-width: 2px; color: var(--soft); font-weight: 600; white-space: nowrap; }
th, td { text-align: right; }
th.left, td.left { text-align: left; overflow-wrap: break-word; }
th:first-child, td:first-child { padding-left: 0.2rem; }
td small { display: block; font-size: 0.78rem; line-height: 1.2; white-space: nowrap; }
.passed, .failed { white-space: nowrap; }
.passed { color: var(--good); }
.failed { color: var(--bad); }
td:not(.left), td code { white-space: nowrap; }
figure {
  width: fit-content; max-width: 100%; margin: 1rem 0; padding: 0.5rem; overflow-x: auto;
  border-radius: 8px; background: white;
}
figure img { display: block; min-width: 28rem; max-width: 100%; height: auto; }
figure .large { min-width: 40rem; }
@media (max-width: 40rem) {
  .numbers { grid-template-columns: repeat(2, 1fr); }
  h1 { font-size: 1.6rem; }
  td.left { min-width: 6.5rem; }
  .prose thead { display: none; }
  .prose tr { display: block; padding: 0.6rem 0; border-bottom: 1px solid var(--line); }
  .prose td { display: inline-block; min-width: 0; padding: 0 0.6rem 0 0; border: 0; }
  .prose td:last-child { display: block; }
}
@page { margin: 1.5cm; }
@media print {
  :root {
    color-scheme: light;
    --text: #000000; --soft: #444444; --line: #bbbbbb; --page: #ffffff; --raised: #ffffff;
    --good: #00735a; --bad: #b34700;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  h2 { break-after: avoid; }
  figure, tr, .banner, .numbers { break-inside: avoid; }
  figure img, figure .large { min-width: 0; }
  .wide, figure { overflow: visible; }
  .numbers div { border: 1px solid var(--line); }
}
"""


def render(sections: Sequence[Section], folder: Path) -> str:
    """A page as one HTML file, pictures included.

    Args:
        sections: The page; the title of the first section is that of the page.
        folder: Where its pictures lie.

    Raises:
        FileNotFoundError: A picture of the page is not in the folder.
    """
    parts = []
    for number, section in enumerate(sections):
        level = "h2" if number else "h1"
        parts.append(f'<section id="{_anchor(number)}">')
        parts.append(f"<{level}>{escape(section.title)}</{level}>")
        parts += [_block(block, folder) for block in section.blocks]
        if number == 0:
            parts.append(_contents(sections))
        parts.append("</section>")
    return _PAGE.format(title=escape(sections[0].title), css=_CSS, body="\n".join(parts))


def fragment(sections: Sequence[Section]) -> str:
    """A page's text and tables without its pictures, to stand within another page."""
    parts = []
    for number, section in enumerate(sections):
        blocks = [block for block in section.blocks if not isinstance(block, Picture)]
        level = "h4" if number else "h3"
        parts.append(f"<{level}>{escape(section.title)}</{level}>")
        parts += [_block(block, Path()) for block in blocks]
    return "<div>" + "\n".join(parts) + "</div>"


def escape(text: str) -> str:
    """Text that somebody chose, as text: no markup, and bytes that are no text escaped."""
    return quoted(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _anchor(number: int) -> str:
    return f"section-{number}"


def _contents(sections: Sequence[Section]) -> str:
    links = [
        f'<li><a href="#{_anchor(number)}">{escape(section.title)}</a></li>'
        for number, section in enumerate(sections)
        if number
    ]
    return '<nav aria-label="Contents"><ul>\n' + "\n".join(links) + "\n</ul></nav>"


def _block(block: Block, folder: Path) -> str:
    match block:
        case Paragraph(text, aside):
            return f'<p class="aside">{_text(text)}</p>' if aside else f"<p>{_text(text)}</p>"
        case Banner():
            return _banner(block)
        case KeyNumbers(items):
            cells = [
                f'<div><dt>{escape(label)}</dt><dd class="number">{escape(number)}</dd>'
                f"<dd>{escape(meaning)}</dd></div>"
                for label, number, meaning in items
            ]
            return '<dl class="numbers">\n' + "\n".join(cells) + "\n</dl>"
        case Table():
            return _table(block)
        case Picture(file, alt):
            return _picture((folder / file).read_bytes(), alt)
        case Command(text):
            return f"<pre>{escape(text)}</pre>"


def _picture(png: bytes, alt: str) -> str:
    """A picture at its size on paper; a large one scrolls where it would become too small."""
    # The header of every PNG file: signature, chunk length, "IHDR", width, height.
    width, height = (round(pixels * 96 / DPI) for pixels in struct.unpack(">II", png[16:24]))
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    kind = ' class="large"' if width > _LARGE else ""
    image = f'<img{kind} width="{width}" height="{height}" alt="{escape(alt)}" src="{source}">'
    return f'<figure tabindex="0">{image}</figure>'


def _banner(banner: Banner) -> str:
    kind, symbol = ("good", "✓") if banner.good else ("bad", "⚠")
    sign = f'<span class="sign" aria-hidden="true">{symbol}</span>'
    word = "" if banner.good else "<strong>Warning.</strong> "
    return f'<div class="banner {kind}">{sign}<div>{word}{_text(banner.text)}</div></div>'


def _table(table: Table) -> str:
    def row(cells: Sequence[Text], tag: str) -> str:
        line = [
            f"<{tag}{_side(column, table)}>{_text(cell)}</{tag}>"
            for column, cell in enumerate(cells)
        ]
        return f"<tr>{''.join(line)}</tr>"

    head = f"<thead>{row(table.head, 'th')}</thead>" if any(table.head) else ""
    body = "\n".join(row(cells, "td") for cells in table.rows)
    kind = ' class="prose"' if table.prose else ""
    inner = f"<table{kind}>{head}<tbody>\n{body}\n</tbody></table>"
    return f'<div class="wide" tabindex="0">{inner}</div>'


def _side(column: int, table: Table) -> str:
    return ' class="left"' if column in table.left else ""


def _text(text: Text) -> str:
    return "".join(map(_span, spans(text)))


def _span(span: Span) -> str:
    return _STYLES[span.style].format(escape(span.text))
