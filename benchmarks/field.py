"""Opening and reading a database of VIBE's layout as large as the field's largest.

    python benchmarks/field.py [--rows 300000] [--folder FOLDER]

Writes the database (2048 features a row), then, in a process of its own, opens it, reads the first
rows, and checks all of it. Printed are seconds, the most memory that the process held, pages of the
mapped file included (the system takes them back when it needs them), and what is its own at the
end. Target: open within 20 s, 3 GB at most. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

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


def measure(path: Path) -> dict[str, float]:
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
        "rows": len(found),
        "file_gb": path.stat().st_size / 1e9,
        "open_s": opened - start,
        "first_batch_s": first - opened,
        "check_s": time.perf_counter() - first,
        "opened_gb": at_once,
        "most_gb": held_gb("VmHWM"),
        "of_that_own_gb": held_gb("RssAnon"),
    }


def held_gb(what: str) -> float:
    """Memory of this process; ``ru_maxrss`` would be that of the process that began it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    path = arguments.folder / "field-benchmark_db.pt"
    try:
        write(path, arguments.rows)
        command = [sys.executable, __file__, "--measure", str(path)]
        found = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )
        for name, value in found.items():
            print(f"{name}: {value:.4g}")
    finally:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
