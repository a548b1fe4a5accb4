"""A folder of SMPL's files, under the names that they are published by."""

from pathlib import Path
from typing import Literal

from flowhmr.body.errors import BodyFileError
from flowhmr.body.files import load_body, load_regressor
from flowhmr.body.joints import H36M_17, SPIN_EXTRA_9
from flowhmr.body.keypoints import REGRESSOR_FILES
from flowhmr.body.model import BodyModel

Gender = Literal["neutral", "male", "female"]
_SHORT = {"neutral": "neutral", "male": "m", "female": "f"}


def load_smpl(folder: str | Path, gender: Gender = "neutral") -> BodyModel:
    """SMPL's body of a gender, with the regressors that lie beside it.

    Looked for are ``SMPL_NEUTRAL.pkl``, ``basicModel_neutral_lbs_10_207_0_v1.0.0.pkl`` and
    ``basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl`` (``m`` and ``f`` in their places, SMPL_MALE and
    SMPL_FEMALE; npz too), ``J_regressor_h36m.npy`` and ``J_regressor_extra.npy``.

    Raises:
        BodyFileError: no such file, or one that cannot be read.
    """
    folder = Path(folder)
    short = _SHORT[gender]
    stems = (
        f"SMPL_{gender.upper()}",
        f"basicModel_{short}_lbs_10_207_0_v1.0.0",
        f"basicmodel_{short}_lbs_10_207_0_v1.1.0",
    )
    names = [f"{stem}.{kind}" for stem in stems for kind in ("pkl", "npz")]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise BodyFileError(
            f"{folder}: got no SMPL file of {gender} people; expected one of {', '.join(names)}; "
            "put SMPL's files there under the names that they are published by"
        )
    body = load_body(found[0])
    for joints in (H36M_17, SPIN_EXTRA_9):
        path = folder / REGRESSOR_FILES[joints.name]
        if path.is_file():
            body = body.with_regressors(load_regressor(path, joints, body))
    return body
