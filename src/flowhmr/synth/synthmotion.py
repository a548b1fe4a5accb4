"""SynthMotion: the built-in benchmark. Fixed, versioned splits of synthetic stills and video.

Everything is made on the spot from (seed, index); nothing is downloaded. A split is named by its
definition (hashed), and a few of its clips are compared with what they were when the version was
fixed, within what rounding on another processor changes.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from flowhmr.body import BodyModel, open_body
from flowhmr.synth.actors import MotionConfig
from flowhmr.synth.motion import MOCAP_FILE
from flowhmr.synth.moves import MOVES
from flowhmr.synth.places import PlaceConfig
from flowhmr.synth.shots import ShotConfig
from flowhmr.synth.stage import SynthConfig
from flowhmr.synth.truth import SynthClip, synth_clip

VERSION = 1
"""Grows whenever a pixel or a label of any split changes."""

SplitName = Literal["stills", "studio", "street", "sport", "val", "test"]
SizeName = Literal["small", "full"]
SIZES_PX: dict[SizeName, int] = {"small": 128, "full": 224}
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
LABELLED = 2_000
"""So many of the stills count as labelled, the first. Where ten times as many do, labels are not
scarce for a small network, and unannotated video teaches nothing (experiments/notes/labels.md)."""
LABELLED_SHARES = (0.1, 0.2, 0.5, 1.0)
"""Shares of them (of4hmr, Table 1); each holds the smaller ones."""

PROBES = 2
"""Clips of a split that are compared with the record."""
TOLERANCE_PX = 0.25
TOLERANCE_LEVELS = 2.0
"""How far joints, and thumbnails of 0..255, may be off on another processor."""

# Procedural motions that nobody trains on.
VAL_MOVES = ("throw",)
TEST_MOVES = ("stretch", "sit_stand")
TRAIN_MOVES = tuple(move for move in MOVES if move not in VAL_MOVES + TEST_MOVES)


@dataclass(frozen=True)
class SplitSpec:
    """One split at one size."""

    name: SplitName
    """Which."""
    size: SizeName
    """How large the images are."""
    clips: SynthConfig
    """What its clips are."""
    count: int
    """How many."""

    def definition(self) -> str:
        """Hash of everything that a clip follows from, the code aside."""
        content = {
            "version": VERSION,
            "body": open_body().body_id,
            "capture": _capture_hash(),
            "clips": asdict(self.clips),
            "count": self.count,
        }
        return hashlib.sha256(
            json.dumps(content, sort_keys=True, default=str).encode()
        ).hexdigest()[:16]

    def labelled(self, share: float) -> range:
        """Indices of the stills that count as labelled.

        Raises:
            ValueError: a share that the benchmark does not have.
        """
        if share not in LABELLED_SHARES:
            raise ValueError(f"labelled share: got {share}; expected one of {LABELLED_SHARES}")
        return range(round(min(self.count, LABELLED) * share))


def split_spec(name: SplitName, size: SizeName = "small") -> SplitSpec:
    """A split of the benchmark.

    ``stills``: labelled single pictures of all kinds. ``studio``, ``street``, ``sport``: video for
    training without labels, as different from each other as Human3.6M, 3DPW and PennAction are.
    ``val`` and ``test``: video of all kinds with people, clothes, motions and scenes of their own.

    Raises:
        ValueError: no such split or size.
    """
    if name not in SPLITS or size not in SIZES_PX:
        raise ValueError(
            f"SynthMotion: got split {name!r} in size {size!r}; expected one of {SPLITS} in one "
            f"of {tuple(SIZES_PX)}"
        )
    clips, count = _splits()[name]
    return SplitSpec(name, size, replace(clips, size_px=SIZES_PX[size]), count)


@cache
def _splits() -> dict[SplitName, tuple[SynthConfig, int]]:
    train = MotionConfig(moves=TRAIN_MOVES)
    anywhere = SynthConfig(seed=10_000, motion=train, superpixel=0.3)
    return {
        "stills": (replace(anywhere, frames=1, drops=0.0), 20_000),
        "studio": (
            replace(
                anywhere,
                seed=20_000,
                shot=ShotConfig(motions=(("static", 1.0),), zoom=0.0, nearest_m=3.5, close=0.0),
                place=PlaceConfig(kinds=(("room", 0.6), ("studio", 0.4)), movers=0.0),
                quality="clean", others=0.0, occluder=0.1, superpixel=0.0, drops=0.0,
            ), 240,
        ),
        "street": (
            replace(
                anywhere,
                seed=30_000,
                shot=ShotConfig(motions=(("handheld", 0.6), ("dolly", 0.4))),
                place=PlaceConfig(kinds=(("street", 0.6), ("park", 0.4)), movers=0.6),
                quality="phone", others=0.5, occluder=0.4,
            ), 240,
        ),
        "sport": (
            replace(
                anywhere,
                seed=40_000,
                motion=replace(
                    train,
                    actions=("basketball", "jumping", "running", "soccer", "run", "hop", "dance",
                             "cartwheel", "backflip", "playground - forward jumps, turn around"),
                    moves=("run", "kick", "high_knees", "squat", "lunge"), made_up=0.4, lively=4,
                ),
                shot=ShotConfig(motions=(("pan", 0.6), ("static", 0.4)), zoom=0.5),
                place=PlaceConfig(kinds=(("park", 0.6), ("room", 0.4))),
                quality="broadcast", others=0.2, occluder=0.1,
            ), 240,
        ),
        "val": (_held_out(50_000, "val", VAL_MOVES), 60),
        "test": (_held_out(60_000, "test", TEST_MOVES), 100),
    }  # fmt: skip


def _held_out(seed: int, split: Literal["val", "test"], moves: tuple[str, ...]) -> SynthConfig:
    return SynthConfig(
        seed=seed,
        motion=MotionConfig(split=split, moves=moves, made_up=0.2, splice=0.0, perturb=0.2),
        place=PlaceConfig(texture_seed=seed),
        superpixel=0.3,
    )


@cache
def _capture_hash() -> str:
    return hashlib.sha256(MOCAP_FILE.read_bytes()).hexdigest()[:16]


class SynthClips(torch.utils.data.Dataset):
    """Clips of a configuration, made when they are asked for.

    Clip ``i`` follows from (seed, i): the number of workers, and what was asked for before, change
    nothing. Wrap it in a ``DataLoader`` with ``batch_size=None``.

    Args:
        config: which clips.
        count: how many there are.
        body: the open body.
    """

    def __init__(self, config: SynthConfig, count: int, body: BodyModel | None = None):
        self.config, self.count = config, count
        self.body = body or open_body()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> SynthClip:
        if not 0 <= index < self.count:
            raise IndexError(f"clip: got number {index}; expected 0 to {self.count - 1}")
        return synth_clip(self.config, index, self.body)


def load_split(name: SplitName, size: SizeName = "small", check: bool = True) -> SynthClips:
    """A split, ready to be iterated over.

    Args:
        name, size: see `split_spec`.
        check: compare its definition and a few clips with the record (a second or two).

    Raises:
        ValueError: what is made here is not what the benchmark's version says.
    """
    spec = split_spec(name, size)
    clips = SynthClips(spec.clips, spec.count)
    if check:
        check_split(spec, clips)
    return clips


def check_split(spec: SplitSpec, clips: SynthClips) -> None:
    """Raise ValueError unless the split is the one that the shipped record describes."""
    record = _record()
    entry = record["splits"].get(f"{spec.name}/{spec.size}")
    if record["version"] != VERSION or entry is None or entry["definition"] != spec.definition():
        got = f"version {VERSION}, definition {spec.definition()}"
        want = f"version {record['version']}, definition {entry and entry['definition']}"
        raise ValueError(
            f"SynthMotion {spec.name}/{spec.size}: got {got}; expected {want}; its settings, the "
            "body or the capture were changed: scores would not compare; undo that, or raise "
            "VERSION and write the record anew"
        )
    for index, stored in enumerate(entry["probes"]):
        found = fingerprint(clips[index])
        joints = np.abs(np.subtract(found["joints_px"], stored["joints_px"])).max()
        levels = np.abs(np.subtract(found["thumbnail"], stored["thumbnail"])).mean()
        if joints > TOLERANCE_PX or levels > TOLERANCE_LEVELS:
            raise ValueError(
                f"SynthMotion {spec.name}/{spec.size}, clip {index}: got joints {joints:.2f} px "
                f"and colours {levels:.1f} levels from the record; expected at most "
                f"{TOLERANCE_PX} px and {TOLERANCE_LEVELS} levels; the code that makes clips was "
                "changed: raise VERSION and write the record anew"
            )


def fingerprint(clip: SynthClip) -> dict[str, list]:
    """What a clip looks like, in a few numbers: joints and a thumbnail of the middle frame."""
    middle = len(clip) // 2
    image = clip.images[middle].double().numpy()
    cells = image.shape[0] // 8
    thumbnail = image.reshape(8, cells, 8, cells, 3).mean((1, 3, 4))
    return {
        "joints_px": clip.joints_px[middle].double().numpy().round(3).tolist(),
        "thumbnail": thumbnail.round(1).tolist(),
    }


def content_hash(clip: SynthClip) -> str:
    """Hash of a clip's pixels and flow: equal on one kind of processor, not on all."""
    digest = hashlib.sha256(clip.images.numpy().tobytes())
    for tensor in (clip.joints_px, clip.flow.forward, clip.flow.backward):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def write_record(path: Path) -> None:
    """Write the shipped record of all splits; for a new version of the benchmark."""
    splits = {}
    for name in SPLITS:
        for size in SIZES_PX:
            spec = split_spec(name, size)
            probes = [synth_clip(spec.clips, i, open_body()) for i in range(PROBES)]
            splits[f"{name}/{size}"] = {
                "definition": spec.definition(),
                "count": spec.count,
                "content": [content_hash(clip) for clip in probes],
                "probes": [fingerprint(clip) for clip in probes],
            }
    text = json.dumps({"version": VERSION, "splits": splits}, indent=1)
    path.write_text(text + "\n")


def _record() -> dict:
    source = files("flowhmr.synth").joinpath("assets/synthmotion.json")
    return json.loads(source.read_text())
