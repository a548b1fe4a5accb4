"""The layout of the package: rooms import only downwards, each through its ``__init__``."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "flowhmr"

MAY_IMPORT: dict[str, str] = {
    "distributed": "",
    "geometry": "",
    "cameras": "geometry",
    "files": "",
    "body": "geometry files",
    "raster": "",
    "flow": "cameras",
    "records": "geometry cameras body flow",
    "bodyflow": "cameras body raster flow",
    "networks": "geometry cameras files body records",
    "synth": "distributed geometry cameras files body raster flow records",
    "data": "distributed geometry cameras files body flow records synth",
    "losses": "geometry cameras body raster flow records bodyflow",
    "evaluation": "geometry cameras body records flow bodyflow",
    "training": (
        "distributed geometry cameras body raster flow records bodyflow networks synth data losses "
        "evaluation"
    ),
    "view": "geometry cameras body raster flow records",
    "capture": (
        "geometry cameras files body raster flow records bodyflow networks synth data losses "
        "evaluation training view"
    ),
    "experiments": (
        "geometry cameras body raster flow records bodyflow networks synth data losses evaluation "
        "training view capture"
    ),
    "cli": (
        "distributed geometry cameras files body raster flow records bodyflow networks synth data "
        "losses evaluation training view capture experiments"
    ),
}
"""What each room may import from the package, besides itself."""

NO_ROOM = [("flowhmr",), ("flowhmr", "__version__")]
"""The package itself holds its version only."""


def imported_names(source: str, folder: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Dotted names of all imports in a module of the package ``folder``, at any depth of it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            stem = (*base, *(node.module.split(".") if node.module else ()))
            yield from ((*stem, alias.name) for alias in node.names)


def foreign_imports(file: Path) -> list[tuple[str, ...]]:
    """Names that a file of a room imports from other rooms of the package."""
    folder = (PACKAGE.name, *file.relative_to(PACKAGE).parent.parts)
    names = imported_names(file.read_text(), folder)
    ours = [n for n in names if n[0] == PACKAGE.name and n not in NO_ROOM]
    return [n for n in ours if n[1:2] != folder[1:2]]


def parsed_init(room: str) -> ast.Module:
    return ast.parse((PACKAGE / room / "__init__.py").read_text())


def listed_names(room: str) -> list[str]:
    """``__all__`` of a room; empty where it has none."""
    for node in parsed_init(room).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


def room_files() -> list[Path]:
    return sorted(file for room in MAY_IMPORT for file in (PACKAGE / room).rglob("*.py"))


def test_every_room_is_in_the_table():
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set(MAY_IMPORT)
    assert [path.name for path in PACKAGE.glob("*.py")] == ["__init__.py"]


def test_the_table_goes_downwards():
    above = list(MAY_IMPORT)
    for place, (room, allowed) in enumerate(MAY_IMPORT.items()):
        assert set(allowed.split()) <= set(above[:place]), f"{room} may import rooms above it"


def test_nothing_imports_the_command_line():
    assert not [room for room, allowed in MAY_IMPORT.items() if "cli" in allowed.split()]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_only_what_the_table_allows(room):
    allowed = set(MAY_IMPORT[room].split())
    for file in (PACKAGE / room).rglob("*.py"):
        for name in foreign_imports(file):
            assert set(name[1:2]) <= allowed, (
                f"{file.relative_to(PACKAGE)} imports {'.'.join(name)}; {room} may import "
                f"{', '.join(sorted(allowed)) or 'no other room'}"
            )


def test_rooms_are_entered_by_their_init():
    entrances = {room: listed_names(room) for room in MAY_IMPORT}
    for file in room_files():
        for name in foreign_imports(file):
            assert len(name) == 3, (
                f"{file.relative_to(PACKAGE)} imports {'.'.join(name)}; import names that "
                f"{'.'.join(name[:2])} lists in its __all__"
            )
            assert name[2] in entrances[name[1]], (
                f"{file.relative_to(PACKAGE)} imports {name[2]}, which {'.'.join(name[:2])} does "
                "not list in its __all__"
            )


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import flowhmr.body.model as m", ["flowhmr.body.model"]),
        (
            "from flowhmr.body import BodyModel, Mesh",
            ["flowhmr.body.BodyModel", "flowhmr.body.Mesh"],
        ),
        ("from flowhmr import body", ["flowhmr.body"]),
        ("from . import kernels", ["flowhmr.raster.kernels"]),
        ("from .kernels import fill", ["flowhmr.raster.kernels.fill"]),
        ("from ..body import Mesh", ["flowhmr.body.Mesh"]),
        ("def f():\n    from flowhmr.cli import main", ["flowhmr.cli.main"]),
        ("import torch, numpy as np", ["torch", "numpy"]),
    ],
)
def test_all_ways_to_import_are_seen(source, names):
    found = imported_names(source, ("flowhmr", "raster"))
    assert [".".join(name) for name in found] == names


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_every_listed_name_is_imported_once(room):
    names = listed_names(room)
    bound = [
        alias.asname or alias.name
        for node in parsed_init(room).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert len(set(names)) == len(names)
    assert set(names) <= set(bound)


def fresh_python(*arguments: str) -> str:
    """What a new interpreter prints."""
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("module", ["flowhmr", "flowhmr.cli"])
def test_the_package_and_its_command_line_start_light(module):
    loaded = json.loads(
        fresh_python("-c", f"import json, sys, {module}; print(json.dumps(list(sys.modules)))")
    )
    assert module in loaded
    heavy = {"torch", "torchvision", "timm", "numpy", "scipy", "numba", "cv2", "av", "matplotlib"}
    assert not heavy & set(loaded)


@pytest.mark.parametrize("command", ["capture", "refine", "synth"])
def test_a_command_starts_without_what_it_may_not_need(command):
    """These libraries take as long again as PyTorch: each is imported where it is used."""
    loaded = json.loads(
        fresh_python(
            "-c", f"import json, sys, flowhmr.cli.{command}; print(json.dumps(list(sys.modules)))"
        )
    )
    assert not {"roma", "timm", "torch._dynamo", "torchvision", "scipy.interpolate"} & set(loaded)


def test_help_names_each_command():
    from flowhmr.cli import COMMANDS

    text = fresh_python(
        "-c", "import sys; from flowhmr.cli import main; sys.exit(main())", "--help"
    )
    listed = [line.split()[0] for line in text.splitlines() if line.startswith("  ")]
    assert listed == list(COMMANDS)
    assert len(listed) > 3
    for name, (_, what) in COMMANDS.items():
        assert f"{what}" in text, name
