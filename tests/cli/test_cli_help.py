"""Every command explains itself; asking for help loads nothing heavy."""

import dataclasses
import importlib
import subprocess
import sys

import pytest

from flowhmr import __version__
from flowhmr.cli import COMMANDS, synth

# What takes seconds to import.
HEAVY = ("torch", "numpy", "cv2", "numba", "timm", "tyro", "rich")
ASK = f"""
import sys
from flowhmr.cli import main
status = main(sys.argv[1:])
print("loaded:", *[name for name in {HEAVY!r} if name in sys.modules])
sys.exit(status)
"""


def ask(*words: str) -> subprocess.CompletedProcess:
    """A command in a fresh process, which says at the end what of `HEAVY` it has loaded."""
    command = [sys.executable, "-c", ASK, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("guess",)])
def test_help_version_and_unknown_commands_load_nothing_heavy(words):
    answer = ask(*words)
    assert answer.stdout.splitlines()[-1] == "loaded:", answer.stderr
    assert answer.returncode == (2 if words == ("guess",) else 0)


def test_help_names_every_command(flowhmr):
    for words in ([], ["-h"], ["--help"], ["help"]):
        answer = flowhmr(*words)
        assert answer.status == 0
        for name, (_, what) in COMMANDS.items():
            assert f"  {name} " in answer.out
            assert what in answer.out


def test_version(flowhmr):
    assert flowhmr("--version").out == f"flowhmr {__version__}\n"


def test_an_unknown_command_is_told_the_known_ones(flowhmr):
    answer = flowhmr("guess")
    assert answer.status == 2
    assert "got 'guess'; expected one of" in answer.err
    assert all(name in answer.err for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_flags(flowhmr, name):
    answer = flowhmr(name, "--help")
    assert answer.status == 0
    assert answer.err == ""
    assert f"usage: flowhmr {name}" in answer.out
    arguments = importlib.import_module(COMMANDS[name][0]).Arguments
    for field in dataclasses.fields(arguments):
        other = {
            "source": ("SOURCE", "PATH"),
            "command": ("convert", "preview"),
            "name": ("[NAME",),
            "field": ("--protocol",),
            "checkpoint": ("CHECKPOINT",),
            "out": ("--out", "OUT"),
        }
        other["config"] = ("--config", "config:light")
        shown = other.get(field.name, (f"--{field.name.replace('_', '-')}",))
        assert any(text in answer.out for text in shown), field.name


@pytest.mark.parametrize("name", ["preview", "export", "check"])
def test_subcommands_explain_their_flags(flowhmr, name):
    answer = flowhmr("synth", name, "--help")
    assert answer.status == 0
    command = {"preview": synth.Preview, "export": synth.Export, "check": synth.Check}[name]
    for field in dataclasses.fields(command):
        assert f"--{field.name.replace('_', '-')}" in answer.out, field.name


def test_fit_has_defaults_of_its_own(flowhmr):
    """Eq. 8 has no labels; everything else is `refine`."""
    helps = {name: flowhmr(name, "--help").out for name in ("refine", "fit")}
    batch = {
        name: text.split("--config.train.batch INT")[1].split("default:")[1].split(")")[0]
        for name, text in helps.items()
    }
    assert {name: int(text) for name, text in batch.items()} == {"refine": 32, "fit": 0}
