"""The report page: one file, nothing outside it, nothing shown that was not said."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from flowhmr.view import Figure, write_page


class Seen(HTMLParser):
    """What a browser would find: tags in order, their attributes, the text of each."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.tags and data.strip():
            self.texts.append((self.tags[-1], data.strip()))


def page(folder: Path, *parts: str | Figure, title: str = "Title") -> Seen:
    return Seen(write_page(folder / "page.html", title, list(parts)).read_text(encoding="utf-8"))


def texts(seen: Seen, tag: str) -> list[str]:
    return [text for name, text in seen.texts if name == tag]


def test_a_page_needs_nothing_but_itself(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    (tmp_path / "b.mp4").write_bytes(b"video")
    seen = page(
        tmp_path,
        "# Head\n\ntext",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        Figure(tmp_path / "a.png", "a"),
        Figure(tmp_path / "b.mp4", "b"),
    )
    text = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?:|//|url\(|@import", re.sub(r"base64,[\w+/=]*", "", text))
    links = [value for _, name, value in seen.attributes if name in ("src", "href")]
    assert len(links) == 2
    assert all(link.startswith("data:") for link in links)
    assert "script" not in seen.tags


def test_figures_carry_their_files(tmp_path):
    contents = {"a.png": b"\x89PNG\x00picture", "b.jpg": b"jpeg", "c.mp4": bytes(range(256))}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    seen = page(tmp_path, *(Figure(tmp_path / name, f"figure {name}") for name in contents))
    sources = {value for _, name, value in seen.attributes if name == "src"}
    kinds = {"a.png": "image/png", "b.jpg": "image/jpeg", "c.mp4": "video/mp4"}
    expected = {
        f"data:{kinds[name]};base64,{base64.b64encode(content).decode()}"
        for name, content in contents.items()
    }
    assert sources == expected
    assert seen.tags.count("img") == 2
    assert seen.tags.count("video") == 1
    assert texts(seen, "figcaption") == [f"figure {name}" for name in contents]


def test_a_missing_figure_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        page(tmp_path, Figure(tmp_path / "none.png", ""))


EVIL = '<script>alert("1")</script> & <b>x</b>'


@pytest.mark.parametrize(
    "part",
    [
        EVIL,
        f"# {EVIL}",
        f"| a |\n|---|\n| {EVIL} |",
        f"| {EVIL} |\n|---|\n| a |",
        f"    {EVIL}",
        f"**{EVIL}**",
        f"`{EVIL}`",
    ],
)
def test_text_is_shown_and_never_run(tmp_path, part):
    seen = page(tmp_path, part)
    assert "script" not in seen.tags
    assert EVIL in "".join(text for _, text in seen.texts) or EVIL in [t for _, t in seen.texts]


def test_titles_and_captions_are_text_too(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    seen = page(tmp_path, Figure(tmp_path / "a.png", EVIL), title=EVIL)
    assert "script" not in seen.tags
    assert texts(seen, "title") == texts(seen, "h1") == texts(seen, "figcaption") == [EVIL]
    assert ("img", "alt", EVIL) in seen.attributes


def test_tables_are_tables(tmp_path):
    seen = page(tmp_path, "|   | before | after |\n|---|---|---|\n| PA-MPJPE | **52.1** | 50.0 |")
    assert seen.tags.count("table") == 1
    assert seen.tags.count("tr") == 2
    assert seen.tags.count("th") == 3
    assert texts(seen, "th") == ["before", "after"]
    assert seen.tags.count("td") == 3
    assert texts(seen, "td") == ["PA-MPJPE", "50.0"]
    assert texts(seen, "b") == ["52.1"]


def test_a_table_of_ours_keeps_its_empty_corner(tmp_path):
    text = write_page(tmp_path / "p.html", "t", ["| | a |\n|---|---|\n| x | 1 |"]).read_text()
    assert "<tr><th></th><th>a</th></tr><tr><td>x</td><td>1</td></tr>" in text


def test_paragraphs_headings_and_code(tmp_path):
    seen = page(
        tmp_path,
        "# One\n\nfirst\nline\n\n\nsecond with `code` and **bold**",
        "## Two",
        '    {\n      "a": 1\n    }',
    )
    assert texts(seen, "h2") == ["One"]
    assert texts(seen, "h3") == ["Two"]
    assert texts(seen, "p") == ["first line", "second with"]
    assert texts(seen, "code")[0] == "code"
    assert texts(seen, "b") == ["bold"]
    assert texts(seen, "pre") == ['{\n  "a": 1\n}']


def test_text_right_below_a_heading_is_shown(tmp_path):
    seen = page(tmp_path, "# One\nand its text")
    assert texts(seen, "h2") == ["One"]
    assert texts(seen, "p") == ["and its text"]


def test_other_letters_survive(tmp_path):
    seen = page(tmp_path, "mm/frame² — Größe 人")
    assert texts(seen, "p") == ["mm/frame² — Größe 人"]
