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


@pytest.mark.slow
def test_refine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["02_refine.py", "--steps", "2", "--out", str(tmp_path)])
    runpy.run_path(str(EXAMPLES / "02_refine.py"))
    assert capsys.readouterr().out.count("flow disagreement") == 2
