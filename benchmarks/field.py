"""Opening and reading a database of VIBE's layout as large as the field's largest.

    python benchmarks/field.py [--rows 300000] [--folder FOLDER] [--json PATH]

Writes the database (2048 features a row), then, in a process of its own, opens it, reads the first
rows, and checks all of it. Seconds are wall time, beside reading the file's bytes and nothing else;
memory is the most that the process held, pages of the mapped file included (the system takes them
back when it needs them), and what is its own at the end. Target: open within 20 s, 3 GB at most.
Linux only; not part of `make bench`.
"""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from suite import Result
from timing import Options, main

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def write(path: Path, rows: int) -> None:
    """The database."""
    from joblib_files import JoblibPickler, joblib_in_sight

    rng = np.random.default_rng(0)
    points = rng.uniform(200, 400, (rows, 49, 3)).astype(np.float32)
    points[..., 2] = 1
    table = {
        "vid_name": np.char.mod("seq_%05d_0", np.arange(rows) // 300),
        "frame_id": np.arange(rows) % 300,
        "img_name": np.char.mod("images/seq/%09d.jpg", np.arange(rows)),
        "joints2D": points,
        "joints3D": rng.uniform(-0.9, 0.9, (rows, 49, 3)).astype(np.float32),
        "pose": rng.normal(0, 0.2, (rows, 72)).astype(np.float32),
        "shape": rng.normal(0, 1, (rows, 10)).astype(np.float32),
        "bbox": np.tile(np.float32([300, 300, 200, 200]), (rows, 1)),
        "features": np.zeros((rows, 2048), np.float32),
    }
    with path.open("wb") as file, joblib_in_sight():
        JoblibPickler(file, 4, True).dump(table)


CHILD = "import field, json, pathlib, sys; print(json.dumps(field.seen(pathlib.Path(sys.argv[1]))))"


def seen(path: Path) -> dict[str, float]:
    """In this process: open, read, check."""
    from flowhmr.data import check_field, open_field

    start = time.perf_counter()
    found = open_field("vibe", path)
    opened = time.perf_counter()
    found.read(np.arange(64))
    first = time.perf_counter()
    at_once = held_gb("VmHWM")
    report = check_field(found)
    assert report.problem is None, report.problem
    return {
        "open_s": opened - start,
        "first_batch_s": first - opened,
        "check_s": time.perf_counter() - first,
        "opened_gb": at_once,
        "most_gb": held_gb("VmHWM"),
        "own_gb": held_gb("RssAnon"),
    }


def held_gb(what: str) -> float:
    """Memory of this process; ``ru_maxrss`` would be that of the process that began it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e9


def read_s(path: Path) -> float:
    """Wall time of reading a file."""
    buffer, began = bytearray(1 << 24), time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - began


@dataclass(frozen=True)
class FieldOptions(Options):
    """Flags."""

    rows: int = 300_000
    """Of the database."""
    folder: Path = Path(tempfile.gettempdir())
    """Where it is written."""


def measure(options: FieldOptions) -> list[Result]:
    """Write, open, check, take away."""
    path = options.folder / "field-benchmark_db.pt"
    try:
        write(path, options.rows)
        plain_s, bytes_gb = read_s(path), path.stat().st_size / 1e9
        command = [sys.executable, "-c", CHILD, str(path)]
        said = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout
    finally:
        path.unlink(missing_ok=True)
    found, at = json.loads(said), f"{options.rows:,} rows"
    return [
        Result(f"{at}: file", bytes_gb, "GB"),
        Result(f"{at}: open, wall time", found["open_s"], "s", target=20),
        Result(f"{at}: first 64 rows, wall time", found["first_batch_s"], "s"),
        Result(
            f"{at}: check all, wall time", found["check_s"], "s", peer="reading the file",
            peer_value=plain_s, ratio=plain_s / found["check_s"], tolerance=0.5,
        ),
        Result(f"{at}: memory once open", found["opened_gb"], "GB", target=3),
        Result(f"{at}: memory at most", found["most_gb"], "GB"),
        Result(f"{at}: of that its own", found["own_gb"], "GB"),
    ]  # fmt: skip


if __name__ == "__main__":
    main(FieldOptions, measure)
