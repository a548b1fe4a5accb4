"""The tables of of4hmr (arXiv 2402.02736) on SynthMotion, and what goes beyond them."""

from dataclasses import replace

from flowhmr.evaluation import FlowStudy
from flowhmr.experiments.detected import DetectorNoise
from flowhmr.experiments.lab import Task
from flowhmr.experiments.recipes import (
    AUGMENT,
    CARRIED_PAIRS,
    CROP_PX,
    FAR_PAIRS,
    KEYPOINTS,
    NEIGHBOURS,
    OURS_FLOW,
    OURS_LOOP,
    PAPER_LOOP,
    SHARES,
    TEXTURE,
    baseline,
)
from flowhmr.experiments.studies import StudyClips, StudyErrors, StudyFlow, StudyLoss
from flowhmr.experiments.tables import Claim, Row, Table
from flowhmr.experiments.tasks import FitVideos, Refine
from flowhmr.losses import AnchorWeights, FlowWeights, KeypointWeights, TextureWeights
from flowhmr.networks import ContextConfig, architecture
from flowhmr.synth import SplitName
from flowhmr.training import SequenceFitConfig, TrainConfig

NO_FLOW = FlowWeights(0.0)
ALL_VIDEO: tuple[tuple[SplitName, float], ...] = (
    ("studio", 1.0), ("street", 1.0), ("sport", 1.0),
)  # fmt: skip


def refine(percent: int, loop: TrainConfig = OURS_LOOP, **changed) -> Refine:
    """Refinement of BL at a share of the labels, on all three sets of video unless that is changed.

    The paper's main table has one set, Human3.6M; what one set is worth here is in `VIDEO`.
    """
    settings = {"video": ALL_VIDEO, "pairs": FAR_PAIRS, "augment": AUGMENT} | changed
    return Refine(start=f"bl-{percent}", share=SHARES[percent], train=loop, **settings)


CONTROL = replace(OURS_LOOP, pairs=0, flow=NO_FLOW, anchor=AnchorWeights(0.0, 0.0, 0.0))
TP = replace(OURS_LOOP, flow=NO_FLOW, texture=TEXTURE)
KP = replace(OURS_LOOP, flow=NO_FLOW, keypoints=KEYPOINTS)

RUNS: dict[str, Task] = {}
for percent, share in SHARES.items():
    RUNS |= {
        f"bl-{percent}": baseline(share),
        f"control-{percent}": refine(percent, CONTROL),
        f"anchor-{percent}": refine(percent, replace(OURS_LOOP, flow=NO_FLOW)),
        f"tp-{percent}": refine(percent, TP),
        f"of-{percent}": refine(percent),
        f"tp-of-{percent}": refine(percent, replace(OURS_LOOP, texture=TEXTURE)),
        f"2d-{percent}": refine(percent, KP, detector=DetectorNoise()),
        f"2d-of-{percent}": refine(
            percent, replace(OURS_LOOP, keypoints=KEYPOINTS), detector=DetectorNoise()
        ),
    }

METHODS = {
    "BL": ("bl", ("65.3", "62.2", "59.4", "58.2")),
    "control": ("control", ("", "", "", "")),
    "anchor, no flow": ("anchor", ("", "", "", "")),
    "TP": ("tp", ("62.7", "60.0", "58.8", "58.1")),
    "OF": ("of", ("61.3", "59.3", "58.0", "57.1")),
    "TP+OF": ("tp-of", ("60.4", "58.7", "57.6", "56.9")),
    "2D": ("2d", ("58.4", "57.1", "56.4", "56.0")),
    "2D+OF": ("2d-of", ("57.6", "56.5", "56.0", "55.8")),
}


def _at_all_shares(better: str, other: str) -> tuple[tuple[str, str], ...]:
    return tuple((f"{better}-{percent}", f"{other}-{percent}") for percent in SHARES)


LABELS = Table(
    name="labels",
    title="Less and more labels",
    reproduces="of4hmr, Fig. 4 and its table (section 4.2, 4.4)",
    rows=tuple(
        Row(line, f"{percent} %", f"{name}-{percent}", paper[column])
        for line, (name, paper) in METHODS.items()
        for column, percent in enumerate(SHARES)
    ),
    minutes=80,
    claims=(
        Claim("OF is better than BL at every share", _at_all_shares("of", "bl")),
        Claim("OF is better than as many supervised steps", _at_all_shares("of", "control")),
        Claim("OF is better than the anchor without flow", _at_all_shares("of", "anchor")),
        Claim("OF is better than TP", _at_all_shares("of", "tp")),
        Claim("TP+OF is no worse than OF", _at_all_shares("tp-of", "of"), no_worse=True),
        Claim("2D+OF is no worse than 2D", _at_all_shares("2d-of", "2d"), no_worse=True),
        Claim("OF moves more smoothly than BL", _at_all_shares("of", "bl"), "accel_error"),
    ),
)

MIXTURES: dict[str, tuple[str, tuple[tuple[SplitName, float], ...], str]] = {
    "sport": ("sport", (("sport", 1.0),), "57.8 (PennAction)"),
    "street": ("street", (("street", 1.0),), "57.4 (3DPW-train)"),
    "studio": ("studio", (("studio", 1.0),), "57.1 (H36M)"),
    "studio + street": ("studio-street", (("studio", 1.0), ("street", 1.0)), "56.4"),
    "studio + street + sport": ("of", ALL_VIDEO, "56.2"),
    "test, without its labels": ("test-video", (("test", 1.0),), "55.8"),
}
for percent in (10, 100):
    for name, sets, _ in MIXTURES.values():
        RUNS.setdefault(f"{name}-{percent}", refine(percent, video=sets))

VIDEO = Table(
    name="video",
    title="More unannotated video",
    reproduces="of4hmr, section 4.3 and appendix D",
    rows=(
        *(Row("BL", f"{p} %", f"bl-{p}", "58.2" if p == 100 else "") for p in (10, 100)),
        *(
            Row(line, f"{p} %", f"{name}-{p}", paper if p == 100 else "")
            for line, (name, _, paper) in MIXTURES.items()
            for p in (10, 100)
        ),
    ),
    minutes=60,
    claims=(
        Claim(
            "two sets are better than one",
            (("studio-street-10", "studio-10"), ("studio-street-100", "studio-100")),
        ),
        Claim(
            "three sets are better than one",
            (("of-10", "studio-10"), ("of-100", "studio-100")),
        ),
        Claim(
            "the test video itself is best",
            (("test-video-10", "of-10"), ("test-video-100", "of-100")),
        ),
    ),
)

LENGTHS = (1, 2, 4, 8)
PAPER_CONTEXT = {
    10: ("61.3 / 25.8", "61.1 / 24.6", "60.5 / 23.1", "59.6 / 21.9", "59.6 / 21.5"),
    100: ("57.1 / 24.4", "57.0 / 24.0", "56.9 / 22.6", "56.7 / 19.4", "56.7 / 18.8"),
}
for percent in PAPER_CONTEXT:
    for length in LENGTHS:
        RUNS[f"context-{length}-{percent}"] = refine(
            percent,
            pairs=replace(FAR_PAIRS, context=length),
            context=ContextConfig(length=length),
        )

CONTEXT = Table(
    name="context",
    title="Temporal context",
    reproduces="of4hmr, Table 1 and appendix F",
    rows=tuple(
        Row(f"{length} frames", f"{p} %", f"context-{length}-{p}" if length else f"of-{p}", paper)
        for p, papers in PAPER_CONTEXT.items()
        for length, paper in zip((0, *LENGTHS), papers, strict=True)
    ),
    minutes=60,
    claims=(
        Claim(
            "eight frames of context move more smoothly than none",
            tuple((f"context-8-{p}", f"of-{p}") for p in PAPER_CONTEXT),
            "accel_error",
        ),
        Claim(
            "at no cost in accuracy",
            tuple((f"context-8-{p}", f"of-{p}") for p in PAPER_CONTEXT),
            no_worse=True,
        ),
    ),
)

WITHOUT_LABELS = replace(OURS_LOOP, batch=0)
RUNS |= {
    "unsupervised-test-100": refine(100, WITHOUT_LABELS, video=(("test", 1.0),)),
    "unsupervised-street-100": refine(100, WITHOUT_LABELS, video=(("street", 1.0),)),
}
UNSUPERVISED = Table(
    name="unsupervised",
    title="Refinement without labels",
    reproduces="of4hmr, Table 7 (appendix G.1)",
    rows=(
        Row("BL", "100 %", "bl-100", "58.2 / 29.0"),
        Row("test video", "100 %", "unsupervised-test-100", "57.4 / 23.9"),
        Row("street video", "100 %", "unsupervised-street-100", "58.1 / 27.3"),
    ),
    minutes=8,
    claims=(
        Claim("on the test video it helps", (("unsupervised-test-100", "bl-100"),)),
        Claim(
            "on other video it does no harm",
            (("unsupervised-street-100", "bl-100"),),
            no_worse=True,
        ),
    ),
)

RUNS["shipped"] = replace(
    baseline(0.1, weights="shipped"), train=replace(baseline(0.1).train, steps=0)
)
_ELSEWHERE = {
    "anchor, no flow": ("domain-anchor", replace(WITHOUT_LABELS, flow=NO_FLOW)),
    "TP": ("domain-tp", replace(WITHOUT_LABELS, flow=NO_FLOW, texture=TEXTURE)),
    "OF": ("domain-of", WITHOUT_LABELS),
    "2D": ("domain-2d", replace(WITHOUT_LABELS, flow=NO_FLOW, keypoints=KEYPOINTS)),
    "2D+OF": ("domain-2d-of", replace(WITHOUT_LABELS, keypoints=KEYPOINTS)),
}
RUNS |= {
    name: replace(
        refine(10, loop),
        start="shipped",
        detector=DetectorNoise() if loop.keypoints.keypoints2d else None,
    )
    for name, loop in _ELSEWHERE.values()
}
DOMAIN = Table(
    name="domain",
    title="A network that comes from elsewhere, without any labels",
    reproduces="ours: a network that was trained on the stills of a simpler engine",
    rows=(
        Row("shipped network", "no labels", "shipped"),
        *(Row(line, "no labels", name) for line, (name, _) in _ELSEWHERE.items()),
    ),
    minutes=10,
    metrics=("pa_mpjpe", "mpjpe", "accel_error", "keypoints_px"),
    claims=(
        Claim("OF is better than the network as it comes", (("domain-of", "shipped"),)),
        Claim("OF is better than the anchor without flow", (("domain-of", "domain-anchor"),)),
        Claim("OF is better than TP", (("domain-of", "domain-tp"),)),
        Claim("2D+OF is no worse than 2D", (("domain-2d-of", "domain-2d"),), no_worse=True),
        Claim("OF moves more smoothly", (("domain-of", "shipped"),), "accel_error"),
    ),
)

LONG = 1_000
_LONGER = ("control", "OF", "2D", "2D+OF")
for line in _LONGER:
    task = RUNS[f"{METHODS[line][0]}-10"]
    assert isinstance(task, Refine)
    RUNS[f"{METHODS[line][0]}-long-10"] = replace(task, train=replace(task.train, steps=LONG))
STEPS = Table(
    name="steps",
    title="Longer refinement",
    reproduces="ours: whether two hundred steps are too few",
    rows=(
        Row("BL", "200 steps", "bl-10"),
        *(
            Row(line, f"{steps} steps", f"{METHODS[line][0]}{long}-10")
            for line in _LONGER
            for steps, long in ((OURS_LOOP.steps, ""), (LONG, "-long"))
        ),
    ),
    minutes=40,
    metrics=("pa_mpjpe", "mpjpe", "accel_error", "keypoints_px"),
    claims=(
        Claim("OF gains by more steps", (("of-long-10", "of-10"),)),
        Claim("2D gains by more steps", (("2d-long-10", "2d-10"),)),
        Claim("OF is better than as many supervised steps", (("of-long-10", "control-long-10"),)),
        Claim("2D+OF is no worse than 2D", (("2d-of-long-10", "2d-long-10"),), no_worse=True),
    ),
)

FIT = SequenceFitConfig()
RUNS |= {
    "fit-none-100": FitVideos("bl-100", replace(FIT, steps=0)),
    "fit-100": FitVideos("bl-100", FIT),
    "fit-smooth-100": FitVideos("bl-100", replace(FIT, smooth=30.0)),
    "fit-2d-100": FitVideos("bl-100", replace(FIT, keypoints=1.0), detector=DetectorNoise()),
}
SEQUENCE = Table(
    name="sequence",
    title="The bodies of a video themselves (the first 40 clips)",
    reproduces="of4hmr, Table 8 (appendix G.2)",
    rows=(
        Row("BL", "100 %", "fit-none-100", "58.2 / 29.0"),
        Row("OF", "100 %", "fit-100", "58.0 / 18.2"),
        Row("OF + smoothing", "100 %", "fit-smooth-100", "57.9 / 13.3"),
        Row("OF + 2D keypoints", "100 %", "fit-2d-100"),
    ),
    minutes=25,
    claims=(
        Claim(
            "a third less acceleration error", (("fit-100", "fit-none-100"),), "accel_error", 2 / 3
        ),
        Claim("at no cost in accuracy", (("fit-100", "fit-none-100"),), no_worse=True),
    ),
)

ABLATIONS: dict[str, tuple[str, Refine]] = {
    "ours": ("of-10", refine(10)),
    "ours, neighbours": ("gap1-10", refine(10, pairs=NEIGHBOURS)),
    "ours, flow carried over 8 frames": ("carried-8-10", refine(10, pairs=CARRIED_PAIRS)),
    "ours, flow carried over 16 frames": (
        "carried-16-10", refine(10, pairs=replace(CARRIED_PAIRS, gap=16)),
    ),
    "ours, squared residual": (
        "squared-10",
        refine(10, replace(OURS_LOOP, flow_loss=replace(OURS_FLOW, residual="squared"))),
    ),
    "ours, no anchor": (
        "free-10", refine(10, replace(OURS_LOOP, anchor=AnchorWeights(0.0, 0.0, 0.0))),
    ),
    "ours, moving average as the anchor": (
        "teacher-10", refine(10, replace(OURS_LOOP, teacher="average")),
    ),
    "ours, every visible vertex": (
        "everywhere-10",
        refine(
            10,
            replace(
                OURS_LOOP,
                on_body=False,
                on_part_m=0.0,
                flow_loss=replace(OURS_FLOW, consistent=False),
            ),
        ),
    ),
    "the paper's": ("paper-10", refine(10, PAPER_LOOP, pairs=NEIGHBOURS)),
    "the paper's, no colour noise": (
        "paper-same-10", refine(10, replace(PAPER_LOOP, colour_noise=0.0), pairs=NEIGHBOURS),
    ),
    "the paper's, no threshold": (
        "paper-all-10",
        refine(
            10,
            replace(PAPER_LOOP, flow_loss=replace(PAPER_LOOP.flow_loss, max_flow=1e6)),
            pairs=NEIGHBOURS,
        ),
    ),
    "the paper's, no scaling": (
        "paper-unscaled-10",
        refine(
            10,
            replace(
                PAPER_LOOP,
                # About the mean flow of the video: else the weight would change as well.
                flow_loss=replace(PAPER_LOOP.flow_loss, scaled=False, unit=1.5 / CROP_PX),
            ),
            pairs=NEIGHBOURS,
        ),
    ),
}  # fmt: skip
# TexturePose's windows; one of five frames costs what two and a half pairs do.
ABLATIONS["TP"] = ("tp-10", refine(10, TP))
ABLATIONS["TP, windows of five frames"] = (
    "tp-five-10",
    refine(10, replace(TP, pairs=5), pairs=replace(FAR_PAIRS, frames=5)),
)
RUNS |= dict(ABLATIONS.values())
PARTS = Table(
    name="parts",
    title="What each part does",
    reproduces="of4hmr, section 5, and the parts of our recipe",
    rows=(
        Row("BL", "10 %", "bl-10"),
        Row("control", "10 %", "control-10"),
        *(Row(line, "10 %", name) for line, (name, _) in ABLATIONS.items()),
    ),
    minutes=40,
    claims=(
        Claim(
            "flow carried over 8 frames is better than estimated flow", (("carried-8-10", "of-10"),)
        ),
        Claim("also in MPJPE", (("carried-8-10", "of-10"),), "mpjpe"),
        Claim("pairs far apart are better than neighbours", (("of-10", "gap1-10"),)),
        Claim("our recipe is better than the paper's", (("of-10", "paper-10"),)),
    ),
)

DEGRADED = {
    "dis:medium": "medium", "dis+noise:2": "noise-2", "dis+noise:5": "noise-5",
    "dis+noise:10": "noise-10", "dis+blur:0.05": "blur-0.05", "dis+wrong:0.2": "wrong-0.2",
    "dis+wrong:0.5": "wrong-0.5", "dis+scaled:0.5": "scaled-0.5",
}  # fmt: skip
RUNS |= {f"flow-{name}-10": refine(10, flow=flow) for flow, name in DEGRADED.items()}
ESTIMATORS = Table(
    name="estimators",
    title="How good the flow must be",
    reproduces="open question 1",
    rows=(
        Row("BL", "10 %", "bl-10"),
        Row("no flow (anchor alone)", "10 %", "anchor-10"),
        Row("dis", "10 %", "of-10"),
        *(Row(flow, "10 %", f"flow-{name}-10") for flow, name in DEGRADED.items()),
    ),
    minutes=50,
)


def searched(percent: int, **weights: float) -> Refine:
    """One point of the search for weights: scored on validation video only."""
    anchor = weights.get("anchor", 0.0)
    loop = replace(
        OURS_LOOP,
        pairs=OURS_LOOP.pairs if weights else 0,
        flow=FlowWeights(weights.get("flow", 0.0)),
        anchor=AnchorWeights(anchor, anchor / 10, anchor),
        texture=TextureWeights(weights.get("texture", 0.0)),
        keypoints=KeypointWeights(weights.get("keypoints", 0.0)),
    )
    detector = DetectorNoise() if weights.get("keypoints") else None
    return replace(refine(percent, loop), detector=detector, scored=("val",))


SEARCH: dict[str, dict[str, float]] = {
    "no video": {},
    **{f"anchor {a}": {"anchor": a} for a in (3.0, 30.0)},
    **{
        f"flow {w}, anchor {a}": {"flow": w, "anchor": a}
        for w in (0.01, 0.03, 0.1)
        for a in (3.0, 30.0)
    },
    **{f"texture {w}, anchor 30.0": {"texture": w, "anchor": 30.0} for w in (1.0, 5.0, 25.0)},
    **{
        f"keypoints {w}, anchor {a}": {"keypoints": w, "anchor": a}
        for w in (20.0, 80.0, 320.0)
        for a in (3.0, 30.0)
    },
}
# With all labels the anchor is not searched again: is the balance of the cues another one?
_COLUMNS: dict[int, list[str]] = {
    10: list(SEARCH),
    100: [line for line, w in SEARCH.items() if w.get("anchor", 30.0) == 30.0],
}
_SEARCHED = [(line, percent) for percent, lines in _COLUMNS.items() for line in lines]


def _search_name(line: str, percent: int) -> str:
    name = "search-" + line.replace(",", "").replace(" ", "-")
    return name if percent == 10 else f"{name}-{percent}"


RUNS |= {_search_name(line, p): searched(p, **SEARCH[line]) for line, p in _SEARCHED}
WEIGHTS = Table(
    name="weights",
    title="The search for weights, on validation video",
    reproduces="of4hmr, appendix B (its weights are lost); open question 3",
    rows=tuple(Row(line, f"{p} %", _search_name(line, p)) for line, p in _SEARCHED),
    minutes=45,
    metrics=("pa_mpjpe", "mpjpe", "accel_error", "keypoints_px"),
    split="val",
)

FLOW_QUALITY: dict[str, str] = {}
for percent in (10, 100):
    for split in ("studio", "street", "sport"):
        name = f"flow-quality-{split}-{percent}"
        RUNS[name] = StudyFlow(f"bl-{percent}", split, FlowStudy(crop_px=CROP_PX))
        FLOW_QUALITY[f"{split}, BL {percent} %"] = name
LOSS_STUDY, CLIP_STUDY = "flow-loss-10", "clips-test"
RUNS |= {LOSS_STUDY: StudyLoss("bl-10", ("studio", "street", "sport")), CLIP_STUDY: StudyClips()}
ERROR_STUDIES = {
    f"{line}, {percent} %": f"errors-{METHODS[line][0]}-{percent}"
    for line in ("BL", "OF", "2D")
    for percent in (10, 100)
}
RUNS |= {run: StudyErrors(run.removeprefix("errors-")) for run in ERROR_STUDIES.values()}

# From random weights. Every level learns: a ViT does not say where its levels end.
for name in ("mobilenetv4", "vit_tiny"):
    whole = refine(100, replace(OURS_LOOP, fixed_levels=0))
    RUNS |= {
        f"bl-{name}-100": baseline(1.0, architecture(name, CROP_PX), weights=""),
        f"of-{name}-100": replace(whole, start=f"bl-{name}-100"),
    }

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        WEIGHTS,
        LABELS,
        VIDEO,
        CONTEXT,
        UNSUPERVISED,
        DOMAIN,
        STEPS,
        SEQUENCE,
        PARTS,
        ESTIMATORS,
    )
}
