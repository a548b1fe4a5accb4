"""The examples run."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_flow_loss(capsys):
    runpy.run_path(str(EXAMPLES / "01_flow_loss.py"))
    said = capsys.readouterr().out
    assert "body moves with the image: 0.0000" in said


def test_synthetic_clip(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["03_synthetic_clip.py", "--size", "64"])
    runpy.run_path(str(EXAMPLES / "03_synthetic_clip.py"))
    said = capsys.readouterr().out
    error = float(said.partition("differ by ")[2].partition(" %")[0])
    assert 0 < error < 2
    assert said.count("left wrist at") == 8


@pytest.mark.slow
def test_refine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["02_refine.py", "--steps", "2", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "02_refine.py"))
    assert capsys.readouterr().out.count("flow disagreement") == 2
