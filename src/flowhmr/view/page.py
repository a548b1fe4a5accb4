"""One HTML file that opens offline: tables, pictures and videos inside."""

import base64
import html
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.3rem .7rem}
th{background:#f3f3f3}td{text-align:right}td:first-child{text-align:left}
img,video{max-width:100%;display:block;margin:.5rem 0}figcaption{color:#555;font-size:.9em}
pre{background:#f6f6f6;padding:.8rem;overflow:auto;font-size:.85em}
@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}th{background:#2a2a2a}
td,th{border-color:#444}pre{background:#242424}figcaption{color:#aaa}}
"""


@dataclass(frozen=True)
class Figure:
    """A picture or a video of a page."""

    path: Path
    """PNG, JPEG or MP4; its bytes go into the page."""
    caption: str
    """Said below it."""


def write_page(path: Path, title: str, parts: list[str | Figure]) -> Path:
    """Write a page of Markdown paragraphs, Markdown tables and figures.

    Of Markdown only tables, ``**bold**``, `` `code` ``, indented code and ``#`` headings are
    understood; everything else is shown as text.
    """
    body = "\n".join(_figure(p) if isinstance(p, Figure) else _markdown(p) for p in parts)
    path.write_text(
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1>\n{body}</html>\n",
        encoding="utf-8",
    )
    return path


def _figure(figure: Figure) -> str:
    kind = mimetypes.guess_type(figure.path.name)[0] or "application/octet-stream"
    data = f"data:{kind};base64,{base64.b64encode(figure.path.read_bytes()).decode()}"
    shown = (
        f'<video controls loop muted src="{data}"></video>'
        if kind.startswith("video")
        else f'<img src="{data}" alt="{html.escape(figure.caption)}">'
    )
    return f"<figure>{shown}<figcaption>{html.escape(figure.caption)}</figcaption></figure>"


def _markdown(text: str) -> str:
    blocks = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n".join(_block(b) for b in blocks if b.strip())


def _block(block: str) -> str:
    lines = block.split("\n")
    if lines[0].startswith("|"):
        return _table(lines)
    if all(line.startswith("    ") for line in lines):
        return "<pre>" + html.escape("\n".join(line[4:] for line in lines)) + "</pre>"
    heading = re.match(r"(#+) (.*)", lines[0])
    if heading:
        level = min(len(heading[1]) + 1, 6)
        below = "\n".join(lines[1:])
        return f"<h{level}>{_inline(heading[2])}</h{level}>" + (_block(below) if below else "")
    return "<p>" + _inline(" ".join(lines)) + "</p>"


def _table(lines: list[str]) -> str:
    rows = [[_inline(c.strip()) for c in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{c}</th>" for c in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in r) + "</tr>" for r in rows[2:])
    return f"<table><tr>{head}</tr>{body}</table>"


def _inline(text: str) -> str:
    escaped = html.escape(text)
    escaped = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escaped)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", escaped)
