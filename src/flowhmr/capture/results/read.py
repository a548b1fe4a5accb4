"""Any result file: recognise the tool by what the file holds, and read it."""

from pathlib import Path
from typing import Any

from flowhmr.capture.results.mediapipe import is_mediapipe, mediapipe_tracks
from flowhmr.capture.results.phalp import is_phalp, phalp_tracks
from flowhmr.capture.results.romp import is_romp, romp_tracks
from flowhmr.capture.results.track import ForeignTrack, ResultFileError
from flowhmr.capture.results.tram import is_tram, tram_files, tram_track
from flowhmr.capture.results.vibe import is_vibe, vibe_tracks
from flowhmr.capture.results.wham import is_wham, wham_tracks
from flowhmr.files import MAX_BYTES, DataFileError, PickleFileError, plain_data

TOOLS = "4D-Humans/PHALP, VIBE, TCMR, PARE, WHAM, TRAM, ROMP and MediaPipe"


def read_results(
    path: Path | str,
    size_px: tuple[int, int],
    frames: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> list[ForeignTrack]:
    """People that another tool found in a video.

    The tool is recognised by the file's content and named in each track (``ForeignTrack.tool``).
    Nothing that is in a file runs.

    Args:
        path: the tool's result file, or TRAM's folder of the video.
        size_px: width and height of the video's images, turned as the tool saw them.
        frames: how many frames the video has, if known.
        max_bytes: the largest a file may be, packed and unpacked.

    Returns:
        At least one track, by their numbers.

    Raises:
        PickleFileError: a pickle that is damaged or asks for more than data (names what).
        ResultFileError: a missing or too large file, an unknown layout, numbers that are no
            poses, frames or boxes, or results of another video (size or length).
    """
    path = Path(path)
    try:
        tracks = sorted(_tracks(path, size_px, max_bytes), key=lambda track: track.person)
        _check(tracks, frames)
    except PickleFileError as error:
        raise PickleFileError(f"{path}: {error}") from error
    except DataFileError as error:
        raise ResultFileError(f"{path}: {error}") from error
    # Values of any kind may stand anywhere in a file.
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise ResultFileError(
            f"{path}: got {type(error).__name__} {error}; expected the layout of one of {TOOLS} as "
            "docs/other-tools.md describes it"
        ) from error
    except OSError as error:
        raise ResultFileError(
            f"{path}: got {error}; expected a result file of {TOOLS}; check its name"
        ) from error
    return tracks


def _tracks(path: Path, size_px: tuple[int, int], max_bytes: int) -> list[ForeignTrack]:
    def load(file: Path) -> Any:
        try:
            return plain_data(file, max_bytes)
        except DataFileError as error:
            inner = f"{file.relative_to(path)}: " if path.is_dir() else ""
            raise type(error)(f"{inner}{error}") from error

    if path.is_dir():
        files = tram_files(path)
        if not files:
            raise ResultFileError(
                "got a folder without hps/hps_track_*.npy; expected TRAM's folder of a video, or "
                "the result file of another tool"
            )
        return [_tram(load(file), file, size_px, load) for file in files]
    data = load(path)
    if is_tram(data):
        return [tram_track(data, path, size_px, load)]
    if is_mediapipe(data):
        return mediapipe_tracks(data, size_px)
    if is_romp(data):
        return romp_tracks(data, size_px)
    if isinstance(data, dict) and data:
        first = next(iter(data.values()))
        if isinstance(first, dict):
            if is_phalp(first):
                return phalp_tracks(data, size_px)
            if is_vibe(first):
                return vibe_tracks(data, size_px, path.name)
            if is_wham(first):
                return wham_tracks(data, size_px)
    raise ResultFileError(f"got {_shown(data)}; expected the layout of one of {TOOLS}")


def _tram(data: Any, file: Path, size_px: tuple[int, int], load: Any) -> ForeignTrack:
    if not is_tram(data):
        raise ResultFileError(f"{file.name}: got {_shown(data)}; expected a track of TRAM's")
    return tram_track(data, file, size_px, load)


def _check(tracks: list[ForeignTrack], frames: int | None) -> None:
    if not tracks:
        raise ResultFileError("got nobody; expected at least one person")
    people = [track.person for track in tracks]
    if len(set(people)) < len(people):
        raise ResultFileError(f"got the people {people}; expected each number once")
    for track in tracks:
        last = int(track.frame_indices[-1])
        if frames is not None and last >= frames:
            raise ResultFileError(
                f"got frame {last} of person {track.person}; expected frames of a video of "
                f"{frames}; give the video that {track.tool} was run on"
            )


def _shown(data: Any) -> str:
    """What there is, for a message."""
    if isinstance(data, dict):
        keys = ", ".join(repr(key)[:60] for key in list(data)[:8])
        first = next(iter(data.values()), None)
        inner = f", the first with {_shown(first)}" if isinstance(first, dict) else ""
        return f"a dict of {len(data)} ({keys}){inner}"
    return f"a {type(data).__name__}"
