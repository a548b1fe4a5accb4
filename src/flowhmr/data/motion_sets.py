"""SynthMotion's video for Motion HMR: several splits at once, other lengths, its data ablations."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from flowhmr.records import Sequence
from flowhmr.synth import ClipStore, SizeName, SplitName, SplitSpec, split_spec


@dataclass(frozen=True)
class MotionSetConfig:
    """Which clips."""

    splits: tuple[SplitName, ...] = ("studio", "street", "sport")
    """Of SynthMotion; all with video."""
    size: SizeName = "small"
    """Of their images."""
    count: int = 0
    """Of each split the first so many clips; 0: all."""
    frames: int = 31
    """Length of each; another than the benchmark's makes other clips."""
    background: Literal["moving", "static"] = "moving"
    """Table 2: "static" freezes the scene and its camera."""
    follow_camera: bool = True
    """Table 2: False leaves the camera's motion to the scene, not to people."""
    occlusion: bool = True
    """Table 2: False hides nobody, in space or time."""

    def specs(self) -> list[SplitSpec]:
        """What is drawn: the benchmark's own splits where nothing is changed.

        Raises:
            ValueError: a split of stills, or no split at all.
        """
        if not self.splits or "stills" in self.splits or self.frames < 2:
            raise ValueError(
                f"clips: got splits {self.splits} of {self.frames} frames; expected some with "
                "video, at least 2 frames long; leave out 'stills'"
            )
        specs = [split_spec(split, self.size) for split in self.splits]
        changes = {
            "frames": self.frames,
            "background": self.background,
            "follow_camera": self.follow_camera,
            "occlusion": self.occlusion,
        }
        return [replace(s, clips=replace(s.clips, **changes)) for s in specs]


def motion_sequences(
    config: MotionSetConfig,
    cache: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Sequence]:
    """The clips as video with labels, drawn into ``cache`` on first use.

    Args:
        config: which.
        cache: parent of the folders in which splits are kept.
        on_progress: told (clips ready, clips in all) of each split.

    Raises:
        OSError: not enough room on the disk.
        ValueError: a split of stills.
    """
    sequences = []
    for spec in config.specs():
        store = ClipStore(spec, cache, config.count or None, on_progress=on_progress)
        sequences += store.sequences()
    return sequences
