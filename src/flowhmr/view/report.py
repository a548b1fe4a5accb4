"""The report of a captured motion: one HTML file that opens offline, with a 3D player."""

import base64
import html
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from urllib.parse import quote

from jaxtyping import Float
from torch import Tensor

from flowhmr import __version__
from flowhmr.body import BodyModel
from flowhmr.records import SceneMotion
from flowhmr.view.report_scene import packed_values, player_scene

_SCRIPTS = ("surroundings.js", "player.js", "timeline.js", "report.js")
_IMAGES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}
_VIDEOS = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime"}


@dataclass(frozen=True, eq=False)
class Timeline:
    """A number that a person has in each frame; curves of one name and unit share a lane."""

    person: int
    """Whose: a number of the scene."""
    name: str
    """What it is, such as ``Speed``."""
    unit: str
    """In what, such as ``m/s``; empty for shares."""
    values: Float[Tensor, "t"]
    """One for each of the person's frames; NaN leaves a gap."""
    limits: tuple[float, float] | None = None
    """The lane's lowest and highest value; None: from 0 to the highest there is."""


@dataclass(frozen=True)
class ReportFigure:
    """A picture of the report."""

    image: bytes | Path
    """PNG, JPEG or GIF; its bytes go into the page."""
    caption: str
    """Said below it."""


@dataclass(frozen=True, eq=False)
class ReportParts:
    """What a report shows beside the motion itself."""

    title: str
    """Heading of the page."""
    timelines: Sequence[Timeline] = ()
    """Curves of the timeline, lanes in the order of their first."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """What was asked for; a mapping in it is a part of its own."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """Seconds that each stage took."""
    figures: Sequence[ReportFigure] = ()
    """Pictures, below everything."""
    video: Path | None = None
    """Video with one picture for each frame, at the frame's own time, such as the overlay; it
    follows the player."""
    video_limit_bytes: int = 20_000_000
    """A larger video is linked by its path from the page instead of embedded."""


def write_report(path: Path, scene: SceneMotion, body: BodyModel, parts: ReportParts) -> Path:
    """Write the page: player, timeline, video, settings, timings, pictures.

    Bodies are skinned in the browser, all their vertices, without pose blend shapes
    (`report_scene`). A page is 0.8 MB, plus 55 kB for each person, 0.28 kB for each frame of a
    person and 5 bytes for each value of a curve, plus video and pictures: one person with three
    curves takes 1.0 MB for 10 seconds, 6.2 MB for 10 minutes at 30 frames/s. The browser is told to
    load nothing from elsewhere (Content-Security-Policy), a linked video apart.

    Args:
        path: HTML to write; its folder is made.
        scene: the motion; people may be absent from frames, and there may be nobody.
        body: whose parameters they are.
        parts: everything else.

    Returns:
        ``path``.

    Raises:
        BodyIdentityError: a person has another body.
        ValueError: a curve does not fit its person; a picture or a video of an unknown kind; a
            motion that is not finite.
        FileNotFoundError: a picture or the video.
    """
    data = player_scene(scene, body)
    data["timelines"] = [_timeline(line, scene) for line in parts.timelines]
    path.parent.mkdir(parents=True, exist_ok=True)
    linked = parts.video is not None and parts.video.stat().st_size > parts.video_limit_bytes
    page = Template(_asset("report.html")).substitute(
        policy=_policy(linked),
        title=html.escape(parts.title),
        summary=html.escape(_summary(scene)),
        style=_asset("report.css"),
        panes=_panes(scene) if parts.video else "",
        video=_video(parts.video, linked, path) if parts.video else "",
        tables=_tables(parts, len(scene.times_s)),
        figures=_figures(parts.figures),
        footer=f"Written by flowhmr {__version__}. The player stands on three.js (MIT).",
        scene=_json(data),
        three=_asset("three.min.js"),
        script="\n".join(_asset(name) for name in _SCRIPTS),
    )
    path.write_text(page, encoding="utf-8")
    return path


def _asset(name: str) -> str:
    return files("flowhmr.view").joinpath(f"assets/report/{name}").read_text(encoding="utf-8")


def _policy(linked_video: bool) -> str:
    """Nothing but the page itself; of a file's page 'self' is no origin, so ``file:`` is named."""
    media = "data: file: 'self'" if linked_video else "data:"
    return (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        f"img-src data: blob:; media-src {media}; base-uri 'none'; form-action 'none'"
    )


def _json(data: Mapping[str, object]) -> str:
    """JSON that no text can end early: inside a script element only ``<`` is dangerous."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _timeline(line: Timeline, scene: SceneMotion) -> dict[str, object]:
    lengths = {p.person: len(p) for p in scene.people}
    if lengths.get(line.person) != len(line.values):
        raise ValueError(
            f"timeline {line.name!r}: got {len(line.values)} values of person {line.person}; "
            f"expected one for each frame of a person of the scene (frames by person: {lengths})"
        )
    if line.limits and not (
        all(map(math.isfinite, line.limits)) and line.limits[0] < line.limits[1]
    ):
        raise ValueError(
            f"timeline {line.name!r}: got limits {line.limits}; expected a finite lower and a "
            "higher one"
        )
    return {
        "person": line.person,
        "name": line.name,
        "unit": line.unit,
        "limits": list(line.limits) if line.limits else None,
        "values": packed_values(line.values),
    }


def _summary(scene: SceneMotion) -> str:
    people, frames = len(scene.people), len(scene.times_s)
    width, height = scene.size_px
    span_s = float(scene.times_s[-1] - scene.times_s[0]) if frames else 0.0
    # Of the whole span: single distances of float32 times are too coarse in long videos.
    fps = (frames - 1) / span_s if span_s > 0 else scene.fps
    who = "Nobody" if not people else "1 person" if people == 1 else f"{people} people"
    return " · ".join(
        (
            who,
            f"{frames:,} {'frame' if frames == 1 else 'frames'}",
            f"{frames / fps:.1f} s at {fps:.4g} frames/s",
            f"{width} × {height} px",
            f"focal length {float(scene.camera.focal_px):.0f} px",
        )
    )


def _panes(scene: SceneMotion) -> str:
    width, height = scene.size_px
    return f' class="with-video" style="--aspect:{width}/{height}"'


def _video(video: Path, linked: bool, page: Path) -> str:
    kind = _VIDEOS.get(video.suffix.lower())
    if kind is None:
        raise ValueError(
            f"report: got video {video.name}; expected one of {', '.join(_VIDEOS)}; convert it"
        )
    if linked:
        relative = os.path.relpath(video.resolve(), page.parent.resolve())
        source = quote(Path(relative).as_posix())
    else:
        source = _data_uri(kind, video.read_bytes())
    return (
        f'<div id="video"><video muted playsinline preload="auto" src="{source}"></video>'
        '<p class="note">This browser cannot show the video</p></div>'
    )


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _tables(parts: ReportParts, frames: int) -> str:
    sections = []
    if parts.timings:
        sections.append(f"<section><h2>Timings</h2>{_timings(parts.timings, frames)}</section>")
    if parts.settings:
        rows = "".join(_setting_rows(parts.settings, ""))
        table = f'<table class="settings"><tbody>{rows}</tbody></table>'
        sections.append(f"<section><h2>Settings</h2>{table}</section>")
    return f'<div class="columns">{"".join(sections)}</div>' if sections else ""


def _setting_rows(settings: Mapping[str, object], prefix: str) -> list[str]:
    """Plain values first, then each part under its name with all its parents'."""
    rows, below = [], []
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            heading = f'<tr class="part"><th colspan="2">{html.escape(name)}</th></tr>'
            below += [heading, *_setting_rows(value, f"{name}.")]
        else:
            shown = html.escape(_said(value))
            rows.append(f"<tr><th>{html.escape(str(key))}</th><td>{shown}</td></tr>")
    return rows + below


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_said(v) for v in value)
    return "none" if value is None else str(value)


def _timings(timings: Mapping[str, float], frames: int) -> str:
    total_s = sum(timings.values())
    longest_s = max([*timings.values(), 1e-9])
    rows = [
        f"<tr><th>{html.escape(stage)}</th>"
        f'<td class="share"><div style="width:{100 * max(taken_s, 0) / longest_s:.1f}%"></div></td>'
        f"{_took(taken_s, frames)}</tr>"
        for stage, taken_s in timings.items()
    ]
    return (
        '<table><thead><tr><th>Stage</th><th></th><th class="number">seconds</th>'
        '<th class="number">frames/s</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody>"
        f"<tfoot><tr><th>All</th><td></td>{_took(total_s, frames)}</tr></tfoot></table>"
    )


def _took(taken_s: float, frames: int) -> str:
    rate = f"{frames / taken_s:,.1f}" if taken_s > 0 and frames else "–"
    return f'<td class="number">{taken_s:,.2f}</td><td class="number">{rate}</td>'


def _figures(figures: Sequence[ReportFigure]) -> str:
    if not figures:
        return ""
    shown = "".join(
        f'<figure><img src="{_image(figure)}" alt="{html.escape(figure.caption)}">'
        f"<figcaption>{html.escape(figure.caption)}</figcaption></figure>"
        for figure in figures
    )
    return f"<section><h2>Pictures</h2>{shown}</section>"


def _image(figure: ReportFigure) -> str:
    content = figure.image if isinstance(figure.image, bytes) else figure.image.read_bytes()
    for start, kind in _IMAGES.items():
        if content.startswith(start):
            return _data_uri(kind, content)
    raise ValueError(
        f"report: got a picture {figure.caption!r} that starts with {content[:8]!r}; expected PNG, "
        "JPEG or GIF"
    )
