"""A lab of its own for every test, and scores that were never measured."""

import json
from collections.abc import Callable

import pytest
import torch

from flowhmr.experiments import Lab
from flowhmr.experiments import lab as lab_module


@pytest.fixture
def lab(tmp_path, monkeypatch) -> Lab:
    # Commit and versions are asked of git, which takes longer than these tests.
    monkeypatch.setattr(lab_module, "provenance", lambda: {"commit": "0123abcd"})
    return Lab(tmp_path / "runs", tmp_path / "cache", torch.device("cpu"))


@pytest.fixture
def store(lab) -> Callable[..., None]:
    """Writes what a finished run leaves behind: ``store(run, seed, results)``."""

    def write(run: str, seed: int, results: dict) -> None:
        folder = lab.folder(run, seed)
        folder.mkdir(parents=True)
        stored = {"task": {"kind": "Made"}, "seed": seed, "results": results}
        (folder / "scores.json").write_text(json.dumps(stored))

    return write
