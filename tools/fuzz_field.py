"""Damages small files of each of the field's layouts and reads them: errors must be our own.

    python tools/fuzz_field.py [--minutes 10] [--seed 0] [--kinds spin 3dpw ...] [--keep FOLDER]

Files are those that the tests write (tests/data/field/damage.py). Anything raised but our own
errors, a file that takes more than 20 s, or one that asks for more than 8 GB is a fault: it is
printed, the files are kept below ``--keep``, and the exit status is 1. Linux only.
"""

import argparse
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "data" / "field")]
LIMIT_S, LIMIT_BYTES = 20, 8 * 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+")
    parser.add_argument("--keep", type=Path, default=Path("fuzzed"))
    arguments = parser.parse_args()

    from damage import body_files, damage, problem_of, put, small_files

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT_BYTES,) * 2)
    signal.signal(signal.SIGALRM, _late)
    tried, refused, faults = Counter(), Counter(), Counter()
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as scratch:
        smalls = small_files(Path(scratch) / "made") | body_files(Path(scratch) / "bodies")
        kinds = arguments.kinds or list(smalls)
        number = 0
        while time.monotonic() < end:
            kind, number = kinds[number % len(kinds)], number + 1
            rng, small = np.random.default_rng([arguments.seed, number]), smalls[kind]
            name = list(small.files)[rng.integers(len(small.files))]
            damaged = {name: damage(name, small.files[name], rng)}
            folder = Path(scratch) / "damaged" / kind
            shutil.rmtree(folder, ignore_errors=True)
            path, beside = put(small, folder, damaged)
            tried[kind] += 1
            signal.alarm(LIMIT_S)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    refused[kind] += problem_of(kind, path, beside) is not None
            except (Exception, _Late) as error:
                signal.alarm(0)
                faults[kind] += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(f"{kind} {number}: {error!r} at {where.filename}:{where.lineno}", flush=True)
                shutil.copytree(folder, arguments.keep / f"{kind}-{number}", dirs_exist_ok=True)
            signal.alarm(0)
    for kind in kinds:
        print(f"{kind}: {tried[kind]} read, {refused[kind]} refused, {faults[kind]} faults")
    return int(bool(faults))


class _Late(BaseException):
    """It takes too long."""


def _late(*_: object) -> None:
    raise _Late(f"more than {LIMIT_S} s")


if __name__ == "__main__":
    sys.exit(main())
