"""The environment of the MediaPipe worker: made once, in the user's cache directory.

mediapipe 0.10.21 is the last release whose wheel carries a pose model, and it pins numpy < 2: it
cannot live in flowhmr's own environment.
"""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

MEDIAPIPE = "0.10.21"
# What its pose model really imports: a third of what the wheel asks for. The rest (jax, audio) is
# 600 MB, and the OpenCV it names needs a screen library that servers lack.
REQUIREMENTS = (
    "numpy==1.26.4",
    "opencv-python-headless==4.11.0.86",
    "protobuf>=4.25.3,<5",
    "matplotlib<3.11",
    "absl-py",
    "attrs",
    "flatbuffers",
)
# The versions of Python that mediapipe 0.10.21 has wheels for, best first.
PYTHONS = ((3, 11), (3, 12), (3, 10), (3, 9))
OTHERWISE = "or do without it: give the boxes in a file or by hand"


class DetectorError(RuntimeError):
    """A detector that cannot be made, does not start, dies, hangs or answers nonsense."""


def detector_environment(
    folder: Path | None = None, on_progress: Callable[[str], None] | None = None
) -> Path:
    """The Python of the MediaPipe worker's environment, which is made when it is not there.

    The first call downloads about 130 MB with pip and takes 400 MB on disk; later calls return at
    once. The folder appears only when it is complete.

    Args:
        folder: where it lives; None: ``flowhmr/detectors/mediapipe-0.10.21`` in the user's cache
            directory (``XDG_CACHE_HOME``, else ``~/.cache``).
        on_progress: called with lines of text about what is being done; None logs them, the
            first and the last so that users see them: it takes minutes.

    Raises:
        DetectorError: no Python that mediapipe has wheels for, no network, no space.
    """
    if folder is None:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = cache / "flowhmr" / "detectors" / f"mediapipe-{MEDIAPIPE}"
    python = _python_in(folder)
    if python.exists():
        return python
    announce, tell = on_progress or logger.warning, on_progress or logger.info
    announce(f"making the keypoint detector's environment in {folder} (once, about 130 MB)")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    except OSError as error:
        raise DetectorError(
            f"{folder}: got {error}; expected a folder that can be written to; name another one"
        ) from error
    try:
        _run([_base_python(), "-m", "venv", str(partial)], tell)
        pip = [str(_python_in(partial)), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        install = [*pip, "install", "--retries", "2", "--timeout", "20"]
        _run([*install, "--no-deps", f"mediapipe=={MEDIAPIPE}"], tell)
        _run([*install, *REQUIREMENTS], tell)
        if not python.exists():  # else another process was faster
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    announce(f"the keypoint detector's environment is ready in {folder}")
    return python


def _python_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _base_python() -> str:
    """This Python if mediapipe has wheels for it, else another one on the path."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        if found := shutil.which(f"python{major}.{minor}"):
            return found
    raise DetectorError(
        f"got Python {sys.version_info[0]}.{sys.version_info[1]} and no other on the path; "
        f"expected 3.9 to 3.12, which mediapipe {MEDIAPIPE} has wheels for; install one of them, "
        f"{OTHERWISE}"
    )


def _run(command: list[str], tell: Callable[[str], None]) -> None:
    tail: deque[str] = deque(maxlen=15)
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError as error:
        raise DetectorError(f"got {error}; expected {command[0]} to run") from error
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            tail.append(line.rstrip())
            tell(line.rstrip())
    if process.returncode:
        raise DetectorError(
            f"got exit status {process.returncode} of {' '.join(command)}:\n"
            + "\n".join(f"    {line}" for line in tail)
            + "\nexpected it to succeed; check the network (pip needs PyPI or a mirror), the free "
            f"space and, on Debian, the package python3-venv, {OTHERWISE}"
        )
