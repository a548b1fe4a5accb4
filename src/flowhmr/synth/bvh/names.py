"""Joint names of motion capture -> SMPL's: tables, and a name's place in the skeleton."""

import re
from collections.abc import Iterator, Mapping, Sequence

from flowhmr.body import SMPL_24
from flowhmr.synth.bvh.files import BvhError

# What programs put before every name: "mixamorig:Hips", "CC_Base_L_Thigh", "Bip01_L_Calf".
PREFIXES = re.compile(r"^(.*:|mixamorig\d*_?|CC_Base_|Bip\d*[ _]|J_Bip_)", re.IGNORECASE)

# Names without side, best first: CMU's LeftShoulder is a collar beside LeftArm, and a shoulder
# where there is no LeftArm; its LeftFoot is an ankle, and the toes' joint beside LeftAnkle.
LIMBS = {
    "hip": ("upleg", "upperleg", "thigh", "hip"),
    "knee": ("knee", "lowleg", "lowerleg", "shin", "calf", "leg"),
    "ankle": ("ankle", "foot"),
    "foot": ("toebase", "toe", "toes", "ball", "foot"),
    "shoulder": ("upperarm", "uparm", "uarm", "arm", "shoulder"),
    "elbow": ("elbow", "forearm", "lowerarm", "lowarm", "farm"),
    "wrist": ("wrist", "hand"),
    "hand": ("hand", "fingerbase"),
}
ABOVE = {"knee": "hip", "ankle": "knee", "foot": "ankle", "elbow": "shoulder"} | {
    "wrist": "elbow",
    "hand": "wrist",
}
OPTIONAL = ("foot", "hand")
MIDDLE_FINGER = ("handmiddle1", "middle1", "middle01", "middlefinger1", "mid1")
HEAD = ("head", "neck1", "neck01", "upperneck", "necktwist01", "neck", "lowerneck")


def plain(name: str) -> str:
    """A name without its program's prefix, case and punctuation."""
    return re.sub(r"[\W_]", "", PREFIXES.sub("", name)).lower()


def spellings(side: str, stem: str) -> Iterator[str]:
    """``leftfoot``, ``lfoot``, ``footl`` and ``footleft``."""
    yield from (side + stem, side[0] + stem, stem + side[0], stem + side)


def ancestors(parents: Sequence[int], joint: int) -> list[int]:
    """The joint, its parent, and so on to the root."""
    chain = []
    while joint >= 0:
        chain.append(joint)
        joint = parents[joint]
    return chain


def match_names(
    found: Sequence[str], parents: Sequence[int], names: Mapping[str, str] | None
) -> dict[str, int]:
    """Where SMPL's joints are among a file's.

    ``names`` (their name -> ours) goes before the tables. Spine, neck and collars are not looked
    up: they follow from the skeleton. The head's entry is the topmost joint of head and neck;
    ``left_middle`` is the base of the middle finger.

    Raises:
        BvhError: ``names`` does not fit, a joint is missing, or a name is there twice.
    """
    places = _given(found, names or {})
    listed = ", ".join(repr(name) for name in found if name)
    plains = [plain(name) for name in found]

    def find(role: str, options: Sequence[str], above: int | None) -> None:
        for option in () if role in places else options:
            fits = [
                i
                for i, name in enumerate(plains)
                if name == option
                and i not in places.values()
                and (above is None or above in ancestors(parents, i))
            ]
            if len(fits) > 1:
                twice = " and ".join(repr(found[i]) for i in fits)
                raise BvhError(
                    f"joints: got {twice} for {role}; expected one; say which with names="
                    f"{{{found[fits[0]]!r}: {role!r}}}"
                )
            if fits:
                places[role] = fits[0]
                return

    for side in ("left", "right"):
        for limb, stems in LIMBS.items():
            above = places.get(f"{side}_{ABOVE[limb]}") if limb in ABOVE else None
            if limb not in ABOVE or above is not None:
                options = [word for stem in stems for word in spellings(side, stem)]
                find(f"{side}_{limb}", options, above)
        if (wrist := places.get(f"{side}_wrist")) is not None:
            options = [word for stem in MIDDLE_FINGER for word in spellings(side, stem)]
            find(f"{side}_middle", options, wrist)
    find("head", HEAD, None)
    if "neck" in places:
        places.setdefault("head", places["neck"])
    needed = [f"{s}_{limb}" for limb in LIMBS if limb not in OPTIONAL for s in ("left", "right")]
    missing = [role for role in (*needed, "head") if role not in places]
    if missing:
        raise BvhError(
            f"joints: got {listed or 'none'}; found no {', '.join(missing)} among them; expected "
            "names of CMU, Mixamo, CC_Base, Rokoko, Xsens or SMPL; say which is which with names="
            "{'their name': 'our name'}"
        )
    return places


def _given(found: Sequence[str], names: Mapping[str, str]) -> dict[str, int]:
    """The places that the caller names."""
    places: dict[str, int] = {}
    for theirs, ours in names.items():
        if theirs not in found or not theirs:
            listed = ", ".join(repr(name) for name in found if name)
            raise BvhError(f"names: got {theirs!r}; expected a joint of the file: {listed}")
        if ours not in SMPL_24.names:
            raise BvhError(
                f"names: got {ours!r} for {theirs!r}; expected one of {', '.join(SMPL_24.names)}"
            )
        if ours in places:
            raise BvhError(f"names: got {ours!r} twice; expected each of our joints once")
        places[ours] = found.index(theirs)
    return places
