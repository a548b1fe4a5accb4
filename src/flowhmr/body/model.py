"""A body in SMPL's format: parameters in, mesh and joints out.

Axes: y up, the body faces +z and its left is at +x, T-pose, metres. Networks speak in camera axes
(X right, Y down, Z away from the camera), and the global rotation carries that: a person who
stands upright and faces the camera has a global rotation of pi about x.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from flowhmr.body.compiled import CompiledTables, compiled_tables, posed_compiled
from flowhmr.body.errors import BodyIdentityError
from flowhmr.body.joints import SMPL_24, JointSet
from flowhmr.body.keypoints import (
    REGRESSOR_FILES,
    KeypointRule,
    KeypointTables,
    keypoint_tables,
)
from flowhmr.body.skinning import (
    BlendTables,
    ChainTables,
    blend_tables,
    chain_tables,
    posed_chain,
    posed_verts,
)
from flowhmr.geometry import map_tensors

Topology = Literal["open-body", "smpl"]


@dataclass(frozen=True, eq=False)
class BodyParams:
    """Pose and shape of a body."""

    rotmats: Float[Tensor, "*b 24 3 3"]
    """Rotation of each joint relative to its parent; joint 0 turns the whole body about the pelvis
    joint of the shaped body."""
    betas: Float[Tensor, "*b k"]
    """Coefficients of the body's shape directions."""
    body_id: str
    """Identity of the body whose betas these are."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """A posed body."""

    verts: Float[Tensor, "*b v 3"]
    """Vertices, metres."""
    joints: Float[Tensor, "*b 24 3"]
    """Joints of the kinematic chain, metres."""
    body_id: str
    """Identity of the body whose vertices these are."""


@dataclass(frozen=True, eq=False)
class Regressor:
    """Joints as weighted means of posed vertices."""

    joints: JointSet
    """What the rows give."""
    matrix: Float[Tensor, "k v"]
    """Weights; each row sums to one."""
    body_id: str
    """Identity of the body whose vertices the columns are."""

    def __call__(self, mesh: Mesh) -> Float[Tensor, "*b k 3"]:
        """The joints, metres.

        Raises:
            BodyIdentityError: the mesh belongs to another body.
        """
        if mesh.body_id != self.body_id:
            raise BodyIdentityError(f"regressor {self.joints.name}", mesh.body_id, self.body_id)
        return self.matrix @ mesh.verts


@dataclass(frozen=True, eq=False)
class BodyModel:
    """Template, blend shapes and skinning of a body with SMPL's 24 joints.

    Axes: y up, facing +z, the left at +x; metres.
    """

    body_id: str
    """Topology and a hash of the arrays: equal for equal bodies, wherever they were read from."""
    topology: Topology
    """Whose vertex ids these are."""
    v_template: Float[Tensor, "v 3"]
    """Mean body in T-pose, metres."""
    shapedirs: Float[Tensor, "v 3 k"]
    """Metres per unit of each beta."""
    posedirs: Float[Tensor, "207 v 3"]
    """Metres per unit of each pose feature: ``R - I`` of joints 1-23, row by row."""
    joint_regressor: Float[Tensor, "24 v"]
    """Joints of unposed bodies from their vertices; wrong by centimetres on posed ones."""
    weights: Float[Tensor, "v 24"]
    """Skinning weights; each row sums to one."""
    faces: Int[Tensor, "f 3"]
    """Vertex ids of the triangles, counter-clockwise from outside, int64."""
    vertex_parts: Int[Tensor, "v"]
    """The joint that each vertex follows most."""
    face_parts: Int[Tensor, "f"]
    """The joint that most of a triangle's vertices follow."""
    symmetry: Int[Tensor, "v"] | None
    """For each vertex its counterpart on the other side; None where unknown."""
    landmarks: Mapping[str, int]
    """Named vertices."""
    keypoint_rules: tuple[KeypointRule, ...]
    """How named keypoints are found."""
    regressors: tuple[Regressor, ...] = ()
    """Regressors for posed vertices that belong to this body."""

    @property
    def num_betas(self) -> int:
        """How many betas the body has."""
        return self.shapedirs.shape[-1]

    @cached_property
    def _chain(self) -> ChainTables:
        return chain_tables(self.v_template, self.shapedirs, self.joint_regressor)

    @cached_property
    def _blend(self) -> BlendTables:
        return blend_tables(self.v_template, self.shapedirs, self.posedirs, self.weights)

    @cached_property
    def _compiled(self) -> CompiledTables:
        joints = self._chain.rest_joints, self._chain.joint_dirs
        return compiled_tables(
            self.v_template, self.shapedirs, self.posedirs, self.weights, *joints
        )

    @cached_property
    def _keypoint_tables(self) -> dict[str, KeypointTables]:
        return {}

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "BodyModel":
        """The same body on another device or in another floating type.

        Raises:
            TypeError: another type than float32 and float64.
        """
        if dtype not in (None, torch.float32, torch.float64):
            raise TypeError(
                f"body: got {dtype}; expected float32 or float64: half precision moves vertices "
                "by millimetres"
            )

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        regressors = tuple(map_tensors(regressor, move) for regressor in self.regressors)
        return replace(map_tensors(self, move), regressors=regressors)

    def params(
        self, rotmats: Float[Tensor, "*b 24 3 3"], betas: Float[Tensor, "*b k"]
    ) -> BodyParams:
        """Parameters of this body."""
        return BodyParams(rotmats, betas, self.body_id)

    def rest_params(self, *batch: int) -> BodyParams:
        """The mean body in T-pose, with these leading axes."""
        eye = torch.eye(3, dtype=self.v_template.dtype, device=self.v_template.device)
        rotmats = eye.expand(*batch, len(SMPL_24), 3, 3).clone()
        return self.params(rotmats, self.v_template.new_zeros(*batch, self.num_betas))

    def shaped(self, betas: Float[Tensor, "*b k"]) -> Float[Tensor, "*b v 3"]:
        """Unposed vertices of these shapes, metres; no pose blend shapes."""
        return self.v_template + torch.einsum("vck,...k->...vc", self.shapedirs, betas)

    def joints(self, params: BodyParams) -> Float[Tensor, "*b 24 3"]:
        """The posed chain's joints, metres, without making a vertex; raises as `mesh`."""
        rotmats, betas = self._flat("joints", params)
        with torch.autocast(rotmats.device.type, enabled=False):
            joints = posed_chain(self._chain, rotmats, betas).joints
        return joints.reshape(*params.rotmats.shape[:-3], *joints.shape[1:])

    def mesh(self, params: BodyParams) -> Mesh:
        """The posed body, in the parameters' floating type even under autocast.

        Gradients reach rotations and betas once: second derivatives are not offered. On a GPU,
        products in TF32 (off by default in PyTorch) would be felt: ten bits of a metre.

        Raises:
            BodyIdentityError: the parameters belong to another body.
            ValueError: another number of betas than the body has.
            TypeError: another floating type than the body's.
        """
        rotmats, betas = self._flat("mesh", params)
        device = rotmats.device.type
        with torch.autocast(device, enabled=False):
            if device == "cpu":
                verts, joints = posed_compiled(self._compiled, rotmats, betas)
            else:
                chain = posed_chain(self._chain, rotmats, betas)
                verts, joints = posed_verts(self._blend, chain, rotmats, betas), chain.joints
        batch = params.rotmats.shape[:-3]
        return Mesh(
            verts.reshape(*batch, *verts.shape[1:]),
            joints.reshape(*batch, *joints.shape[1:]),
            self.body_id,
        )

    def keypoints(self, mesh: Mesh, joints: JointSet) -> Float[Tensor, "*b k 3"]:
        """Keypoints of a posed mesh by this body's rule for the joint set, metres.

        Raises:
            BodyIdentityError: the mesh belongs to another body.
            ValueError: the body has no rule for this set, or lacks a regressor that it needs.
        """
        self.check_identity("keypoints", mesh.body_id)
        if joints == SMPL_24:
            return mesh.joints
        rule = self._rule(joints)
        tables = self._tables_of(rule)
        sources = [mesh.joints, mesh.verts[..., tables.landmark_ids, :]]
        sources += [self._regressor(name, joints)(mesh) for name in rule.regressors()]
        return tables.matrix @ torch.cat(sources, -2)

    def joints_and_keypoints(
        self, params: BodyParams, joints: JointSet
    ) -> tuple[Float[Tensor, "*b 24 3"], Float[Tensor, "*b k 3"]]:
        """The chain's joints and the keypoints of a joint set, metres, as `mesh` and `keypoints`.

        No vertices are posed but those that the rule looks at.

        Raises:
            BodyIdentityError: the parameters belong to another body.
            ValueError: another number of betas than the body has, or a rule that needs a regressor.
            TypeError: another floating type than the body's.
        """
        rotmats, betas = self._flat("keypoints", params)
        rule = self._rule(joints)
        if rule.regressors():
            raise ValueError(
                f"keypoints {joints.name}: got a rule with regressor {rule.regressors()[0]}; "
                "expected chain joints and landmarks; make the mesh and use body.keypoints"
            )
        tables = self._tables_of(rule)
        ids = tables.landmark_ids
        blend = blend_tables(
            self.v_template[ids], self.shapedirs[ids], self.posedirs[:, ids], self.weights[ids]
        )
        with torch.autocast(rotmats.device.type, enabled=False):
            chain = posed_chain(self._chain, rotmats, betas)
            landmarks = posed_verts(blend, chain, rotmats, betas)
            found = tables.matrix @ torch.cat([chain.joints, landmarks], -2)
        batch = params.rotmats.shape[:-3]
        return chain.joints.reshape(*batch, len(SMPL_24), 3), found.reshape(*batch, len(joints), 3)

    def with_regressors(self, *regressors: Regressor) -> "BodyModel":
        """The same body with regressors that `keypoints` may use.

        Raises:
            BodyIdentityError: a regressor belongs to another body.
        """
        for regressor in regressors:
            self.check_identity(f"regressor {regressor.joints.name}", regressor.body_id)
        names = {regressor.joints.name for regressor in regressors}
        kept = tuple(r for r in self.regressors if r.joints.name not in names)
        return replace(self, regressors=kept + regressors)

    def check_identity(self, what: str, body_id: str) -> None:
        """Raise BodyIdentityError unless ``body_id`` is this body's."""
        if body_id != self.body_id:
            raise BodyIdentityError(what, body_id, self.body_id)

    def _flat(
        self, what: str, params: BodyParams
    ) -> tuple[Float[Tensor, "n 24 3 3"], Float[Tensor, "n k"]]:
        self.check_identity(what, params.body_id)
        if params.betas.shape[-1] != self.num_betas:
            raise ValueError(
                f"{what}: got {params.betas.shape[-1]} betas; expected {self.num_betas}; load the "
                "body with as many, or cut or pad the betas where they are read"
            )
        for name, tensor in (("rotmats", params.rotmats), ("betas", params.betas)):
            if tensor.dtype != self.v_template.dtype:
                raise TypeError(
                    f"{what}: got {name} of {tensor.dtype}; expected the body's "
                    f"{self.v_template.dtype}; convert them, or the body with .to(dtype=...)"
                )
        return params.rotmats.reshape(-1, 24, 3, 3), params.betas.reshape(-1, self.num_betas)

    def _rule(self, joints: JointSet) -> KeypointRule:
        for rule in self.keypoint_rules:
            if rule.joints == joints:
                return rule
        known = ", ".join([SMPL_24.name, *(rule.joints.name for rule in self.keypoint_rules)])
        raise ValueError(
            f"keypoints: got joint set {joints.name}; expected one that body {self.body_id} has a "
            f"rule for: {known}"
        )

    def _tables_of(self, rule: KeypointRule) -> KeypointTables:
        name = rule.joints.name
        if name not in self._keypoint_tables:
            self._keypoint_tables[name] = keypoint_tables(rule, self.landmarks, self.v_template)
        return self._keypoint_tables[name]

    def _regressor(self, name: str, joints: JointSet) -> Regressor:
        for regressor in self.regressors:
            if regressor.joints.name == name:
                return regressor
        raise ValueError(
            f"keypoints {joints.name}: got body {self.body_id} without regressor {name}; expected "
            f"it in the body; read {REGRESSOR_FILES[name]} with flowhmr.body.load_regressor and "
            "add it by body.with_regressors(...)"
        )


def body_id_of(topology: Topology, arrays: Mapping[str, np.ndarray]) -> str:
    """Identity of a body: its topology and a SHA-256 of its arrays, floats taken as float32."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        kind = "<f4" if np.issubdtype(arrays[name].dtype, np.floating) else "<i8"
        array = np.ascontiguousarray(arrays[name], dtype=kind)
        digest.update(f"{name}{array.shape}".encode())
        digest.update(array.tobytes())
    return f"{topology}:{digest.hexdigest()[:16]}"


def parts_of_faces(
    vertex_parts: Int[np.ndarray, "v"], faces: Int[np.ndarray, "f 3"]
) -> Int[np.ndarray, "f"]:
    """The part that two of a face's vertices share, else its first vertex's."""
    a, b, c = vertex_parts[faces].T
    return np.where(b == c, b, a)
