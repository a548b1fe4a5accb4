"""What experiments share: SynthMotion's stills and video, scores, and the folder of each run."""

import json
from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, TypedDict, runtime_checkable

import torch
from filelock import FileLock

from flowhmr.body import BodyModel, open_body
from flowhmr.data import PairConfig, StoredLinks, frame_crops
from flowhmr.evaluation import METRICS, Estimator, score_clip
from flowhmr.networks import ContextHmr, Hmr, load_network
from flowhmr.records import Estimate, Sequence, TestClip
from flowhmr.synth import LABELLED, ClipStore, SizeName, SplitName, split_spec, write_whole
from flowhmr.training import flow_source, provenance

NETWORK = "network.safetensors"
SCORES = "scores.json"
BEGUN = "task.json"
"""What a run was begun with, so that nothing else goes on from its checkpoint or network."""

Progress = Callable[[str, int, int], None]
"""Told (what, how many are ready, how many in all)."""

Results = dict[str, Any]
"""What a task measures, as JSON holds it: for each split the fields of `Scores`, or what its kind
says."""


@runtime_checkable
class Task(Protocol):
    """One frozen config of something that is run once per seed and gives scores."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the runs whose networks it starts from."""
        ...

    def run(self, lab: "Lab", folder: Path, seed: int) -> Results:
        """Do it, or go on with what the folder holds of it."""
        ...


class Stored(TypedDict):
    """What ``scores.json`` holds, beside commit, versions and hardware (`provenance`)."""

    task: dict[str, Any]
    """The config, see `plain`."""
    seed: int
    """Of the run."""
    results: Results
    """Floats rounded to four decimals."""


@dataclass(frozen=True)
class Scores:
    """A network on the clips of a split."""

    metrics: dict[str, float]
    """Means over all frames (`flowhmr.evaluation.METRICS`)."""
    per_clip: dict[str, list[float]]
    """The same for each clip, in order."""


class Lab:
    """Where experiments run.

    Args:
        runs: folder of the runs; each has one folder for each seed.
        cache: where clips and flow are kept.
        device: where to compute.
        size: of the benchmark's images.
        on_progress: told what is being prepared.
    """

    def __init__(
        self,
        runs: Path,
        cache: Path,
        device: torch.device,
        size: SizeName = "small",
        on_progress: Progress | None = None,
    ):
        self.runs, self.cache, self.device = runs, cache, device
        self.size: SizeName = size
        self.on_progress = on_progress or (lambda what, done, total: None)
        self._links: dict[tuple, StoredLinks] = {}

    @cached_property
    def body(self) -> BodyModel:
        """The open body."""
        return open_body()

    @lru_cache(maxsize=8)  # noqa: B019 - one lab a process
    def store(self, split: SplitName) -> ClipStore:
        """The clips of a split, drawn on first use; of the stills those that count as labelled."""
        spec = split_spec(split, self.size)
        if split == "stills":
            spec = replace(spec, count=min(spec.count, LABELLED))
        with self.alone(split):
            return ClipStore(
                spec,
                self.cache,
                on_progress=lambda done, total: self.on_progress(f"drawing {split}", done, total),
            )

    @lru_cache(maxsize=8)  # noqa: B019
    def video(self, split: SplitName) -> list[Sequence]:
        """The clips of a split as video with labels."""
        return self.store(split).sequences()

    def links(
        self, splits: Iterable[SplitName], pairs: PairConfig, flow: str, size_px: int
    ) -> StoredLinks:
        """The flow of some splits, estimated on first use; one source for all of them."""
        splits = tuple(splits)
        sequences = [s for split in splits for s in self.video(split)]
        settings = {k: v for k, v in asdict(pairs).items() if k not in ("frames", "context")}
        key = (splits, json.dumps(settings), flow, size_px)
        if key not in self._links:
            # One set of links at a time: each takes a third of a gigabyte a split.
            self._links = {}
            with self.alone("links"):
                found = StoredLinks(
                    flow_source(pairs, flow, None),
                    flow,
                    sequences,
                    size_px,
                    self.cache / "links",
                    on_progress=lambda done, total: self.on_progress(f"flow {flow}", done, total),
                )
            self._links = {key: found}
        found = self._links[key]
        return found.windows(pairs.frames, pairs.context)

    def told(self, what: str) -> Callable[[int, int], None]:
        """What is told (ready, in all) of one preparation."""
        return lambda done, total: self.on_progress(what, done, total)

    def alone(self, what: str) -> FileLock:
        """Of several processes one makes what is missing, the others wait and find it."""
        self.cache.mkdir(parents=True, exist_ok=True)
        return FileLock(self.cache / f".{what}.lock")

    def test_clips(self, split: SplitName, size_px: int) -> list[TestClip]:
        """The clips of a split, cut frame by frame."""
        return [TestClip(s.name, s.person, frame_crops(s, size_px)) for s in self.video(split)]

    def score(self, estimator: Estimator, split: SplitName, size_px: int) -> Scores:
        """Scores of an estimator on a split."""
        clips = self.test_clips(split, size_px)
        return self.score_estimates([estimator(c.clip) for c in clips], clips)

    def score_estimates(self, estimates: list[Estimate], clips: list[TestClip]) -> Scores:
        """Scores of bodies on the clips that they belong to."""
        rows = [
            score_clip(lambda _, found=found: found, clip, self.body)
            for found, clip in zip(estimates, clips, strict=True)
        ]
        per_clip = {m: [float(getattr(row, m)) for row in rows] for m in METRICS}
        # All clips are of one length.
        return Scores({m: sum(v) / len(v) for m, v in per_clip.items()}, per_clip)

    def folder(self, run: str, seed: int) -> Path:
        """Where a run of a seed is kept."""
        return self.runs / run / f"seed-{seed}"

    def seeds(self, run: str) -> list[int]:
        """Of which seeds there is a folder."""
        names = (path.name.removeprefix("seed-") for path in (self.runs / run).glob("seed-*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def network(self, run: str, seed: int) -> Hmr | ContextHmr:
        """The network that a run ended with.

        Raises:
            ValueError: there is none.
        """
        path = self.folder(run, seed) / NETWORK
        if not path.exists():
            # What has its scores is left alone.
            first = f"delete {SCORES} beside it, then " if self.finished(run, seed) else ""
            raise ValueError(
                f"{path}: got no network; expected that of run {run!r}; {first}"
                f"`flowhmr experiment {run} --seeds {seed}` makes it"
            )
        return self.open_network(path)

    def open_network(self, path: Path) -> Hmr | ContextHmr:
        """A network from its file.

        Raises:
            NetworkFileError: not one of our files.
            BodyIdentityError: it estimates another body.
        """
        network = load_network(path)
        self.body.check_identity("network", network.body_id)
        return network

    def finished(self, run: str, seed: int) -> bool:
        """Whether a run has its scores."""
        return (self.folder(run, seed) / SCORES).exists()

    def forget(self, run: str, seed: int) -> None:
        """Drop the scores of a run, so that it is done again."""
        (self.folder(run, seed) / SCORES).unlink(missing_ok=True)

    def check(self, name: str, task: Task, seed: int) -> None:
        """Make sure that what a run's folder holds, done or half done, is this task's.

        Raises:
            ValueError: it is another's: the settings that differ are named.
        """
        check_task(self.folder(name, seed), name, task)

    def perform(self, name: str, task: Task, seed: int) -> Stored:
        """Run a task unless it is done; what it needs must be there (`perform_all` sees to that).

        Nothing is stored where the task fails; what it left in its folder is gone on with.

        Raises:
            ValueError: the folder holds another task's results, or the beginnings of them.
        """
        folder = self.folder(name, seed)
        self.check(name, task, seed)
        if not self.finished(name, seed):
            folder.mkdir(parents=True, exist_ok=True)
            about = begin_task(folder, task, seed=seed)
            results = _rounded(task.run(self, folder, seed))
            _write(folder / SCORES, about | {"results": results})
        found = read_scores(folder)
        assert found is not None
        return found


def check_task(folder: Path, name: str, task: Any) -> None:
    """Make sure that what a run's folder holds, done or half done, is this task's.

    Args:
        folder: of the run.
        name: of the task.
        task: its frozen config.

    Raises:
        ValueError: it is another's: the settings that differ are named.
    """
    for file, what in ((SCORES, "results with"), (BEGUN, "a run begun with")):
        stored = _read(folder / file)
        changed = [] if stored is None else differences(task, stored["task"])
        if changed:
            raise ValueError(
                f"{folder}: got {what} other {', '.join(changed)}; expected the settings of "
                f"the experiment {name!r} as it is now; delete the folder to run it anew"
            )


def begin_task(folder: Path, task: Any, **about: Any) -> dict[str, Any]:
    """Note in a run's folder what it is begun with, for `check_task`; returns what was noted."""
    noted = {"task": plain(task), **about, **provenance()}
    _write(folder / BEGUN, noted)
    return noted


def read_scores(folder: Path) -> Stored | None:
    """What a finished run left behind; None if it is not finished."""
    return _read(folder / SCORES)


def plain(task: Any) -> dict[str, Any]:
    """A frozen config as JSON holds it, with its kind, and those of the configs in it."""
    values = {f.name: getattr(task, f.name) for f in fields(task)}
    held = {k: plain(v) if _is_config(v) else _plain(v) for k, v in values.items()}
    return {"kind": type(task).__name__, **held}


def differences(config: Any, stored: dict[str, Any], where: str = "") -> list[str]:
    """Settings of a frozen config that differ from stored ones.

    A setting younger than what was stored does not count while it has its default: that is what
    was done before there was one. One that there is no more does not count either.

    Args:
        config: the config as it is now.
        stored: what `plain` made of it then.
        where: prefix of the names, for configs within configs.

    Returns:
        Names of fields, with dots.
    """
    out = []
    kind = type(config).__name__
    # Those of the configs in a config are younger than some results.
    if stored.get("kind", kind if where else None) != kind:
        return [f"{where}kind ({stored.get('kind')})"]
    for field in fields(config):
        value, name = getattr(config, field.name), f"{where}{field.name}"
        if field.name not in stored:
            default = field.default
            if field.default_factory is not MISSING:
                default = field.default_factory()
            if value != default:
                out.append(name)
        elif _is_config(value) and isinstance(stored[field.name], dict):
            out += differences(value, stored[field.name], f"{name}.")
        elif _plain(value) != stored[field.name]:
            out.append(name)
    return out


def _is_config(value: Any) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _plain(value: Any) -> Any:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(value, default=_without_kind))


def _without_kind(value: Any) -> Any:
    if _is_config(value):
        return asdict(value)
    return str(value)


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _write(target: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1) + "\n"
    write_whole(target, lambda path: _write_text(path, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def _rounded(value: Any) -> Any:
    """Four decimals are more than any score has."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list | tuple) else value
