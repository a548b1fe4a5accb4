"""Rebuilding the open body: skeleton, skinning, shape, joints, decimation."""

from dataclasses import replace

import numpy as np
import pytest
from open_body_tool import (
    TETRAHEDRON,
    bone_heads,
    correctives,
    decimate,
    geometry,
    mesh_volume,
    mirror_of,
    poses,
    random_motion,
    random_people,
    random_weights,
    regressors,
    shape_space,
    skeleton,
    skin,
    skinning,
    sphere,
    stick_person,
    t_pose,
)
from scipy import sparse
from scipy.spatial.transform import Rotation

# Skeleton and skinning


def test_tree_and_mirror_of_the_joints_agree():
    joints = np.arange(24)
    np.testing.assert_array_equal(skeleton.MIRROR_JOINT[skeleton.MIRROR_JOINT], joints)
    assert (skeleton.PARENTS[1:] < joints[1:]).all()
    mirrored_parents = skeleton.MIRROR_JOINT[skeleton.PARENTS[1:]]
    np.testing.assert_array_equal(skeleton.PARENTS[skeleton.MIRROR_JOINT[1:]], mirrored_parents)
    for joint, parent in enumerate(skeleton.PARENTS):
        sides = {skeleton.JOINT_NAMES[i][:2] for i in (joint, parent) if i >= 0} & {"l_", "r_"}
        assert len(sides) < 2


@pytest.mark.parametrize(
    ("bone", "joint"),
    [
        ("spine04", "pelvis"),
        ("pelvis.L", "pelvis"),
        ("breast.R", "spine3"),
        ("shoulder01.R", "r_collar"),
        ("upperarm02.L", "l_shoulder"),
        ("finger1-2.L", "l_wrist"),
        ("finger4-3.R", "r_hand"),
        ("toe5-3.L", "l_foot"),
        ("oris02", "head"),
        ("eye.L", "head"),
    ],
)
def test_bones_move_with_their_part(bone: str, joint: str):
    assert skeleton.JOINT_NAMES[skeleton.part_of_bone(bone)] == joint


def test_part_weights_are_symmetric_and_sum_to_one():
    maker = stick_person()
    rng = np.random.default_rng(2)
    bone_weights = rng.dirichlet([0.1] * len(maker.bone_names), len(maker.template_m))
    mirror = maker.skin.mirror
    weights = skeleton.part_weights(bone_weights, maker.bone_names, mirror)
    few = skeleton.strongest_weights(weights, mirror, 3)
    for values in (weights, few):
        np.testing.assert_allclose(values.sum(1), 1)
        mirrored = values[mirror][:, skeleton.MIRROR_JOINT]
        np.testing.assert_allclose(values, mirrored, atol=1e-15)
    assert (few > 0).sum(1).max() <= 6
    assert ((weights > 0) & (few == 0)).any()


def test_mirrored_rotations_turn_mirrored_points():
    local = poses.random_poses(4, np.random.default_rng(3))
    mirrored = geometry.mirrored_rotations(local, skeleton.MIRROR_JOINT)
    point = np.array([0.3, -0.2, 0.5])
    np.testing.assert_allclose(
        mirrored[:, skeleton.MIRROR_JOINT] @ (geometry.MIRROR_X * point),
        geometry.MIRROR_X * (local @ point),
        atol=1e-12,
    )


def test_shortest_rotation_carries_start_to_end_about_their_normal():
    rng = np.random.default_rng(4)
    start, end = rng.normal(size=(20, 3)), np.array([0.0, -2.0, 0.5])
    rotation = geometry.shortest_rotation(start, end)
    carried = np.einsum("nab,nb->na", rotation, geometry.unit(start))
    np.testing.assert_allclose(carried, np.broadcast_to(geometry.unit(end), (20, 3)), atol=1e-12)
    axis = np.cross(start, end)
    np.testing.assert_allclose(np.einsum("nab,nb->na", rotation, axis), axis, atol=1e-12)


def test_unskinning_inverts_skinning():
    rng = np.random.default_rng(6)
    motion, weights = random_motion(rng, 3, 60), random_weights(rng, 50)
    verts_m = rng.normal(size=(3, 50, 3))
    moved_m = skinning.linear_skinning(verts_m, motion, weights)
    np.testing.assert_allclose(
        skinning.linear_unskinning(moved_m, motion, weights), verts_m, atol=1e-9
    )


def test_a_vertex_of_one_part_moves_rigidly_in_both_skinnings():
    rng = np.random.default_rng(7)
    motion = random_motion(rng, 3, 170)
    part = rng.integers(0, 24, 40)
    verts_m = rng.normal(size=(3, 40, 3))
    from_m, to_m = motion.joints_from_m[:, part], motion.joints_to_m[:, part]
    rigid_m = np.einsum("nvab,nvb->nva", motion.rotations[:, part], verts_m - from_m) + to_m
    for skin_with in (skinning.linear_skinning, skinning.dual_quaternion_skinning):
        moved_m = skin_with(verts_m, motion, np.eye(24)[part])
        np.testing.assert_allclose(moved_m, rigid_m, atol=1e-9)
    back = skinning.linear_skinning(rigid_m, motion.reversed(), np.eye(24)[part])
    np.testing.assert_allclose(back, verts_m, atol=1e-9)


def test_dual_quaternions_keep_the_distance_of_a_vertex_from_the_axis():
    rotations = np.broadcast_to(np.eye(3), (1, 24, 3, 3)).copy()
    rotations[:, 4] = Rotation.from_euler("x", 120, degrees=True).as_matrix()
    still = np.zeros((1, 24, 3))
    motion = skinning.PartMotion(rotations, still, still)
    weights = np.zeros((1, 24))
    weights[0, [1, 4]] = 0.5
    verts_m = np.array([[[0.0, 0, 0.1]]])
    dual_m = skinning.dual_quaternion_skinning(verts_m, motion, weights)
    linear_m = skinning.linear_skinning(verts_m, motion, weights)
    assert np.linalg.norm(dual_m) == pytest.approx(0.1)
    assert np.linalg.norm(linear_m) == pytest.approx(0.05)


def test_dual_quaternions_meet_half_way_whatever_the_signs_of_their_quaternions():
    # Between these two turns the largest component of the quaternion changes.
    rotations = np.broadcast_to(np.eye(3), (1, 24, 3, 3)).copy()
    rotations[:, 1], rotations[:, 4] = Rotation.from_euler(
        "x", [[-80], [-100]], degrees=True
    ).as_matrix()
    still = np.zeros((1, 24, 3))
    weights = np.zeros((1, 24))
    weights[0, [1, 4]] = 0.5
    moved_m = skinning.dual_quaternion_skinning(
        np.array([[[0.0, 0, 0.1]]]), skinning.PartMotion(rotations, still, still), weights
    )
    np.testing.assert_allclose(moved_m, [[[0, 0.1, 0]]], atol=1e-12)


def test_t_pose_is_straight_symmetric_and_its_rotations_are_proper():
    heads_m, names = bone_heads(np.random.default_rng(8), 6)
    motion = t_pose.motion_to_t_pose(heads_m, names)
    rotations, joints_m = motion.rotations, motion.joints_to_m
    identity = rotations @ np.swapaxes(rotations, 2, 3)
    np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), identity.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    mirrored = geometry.mirrored_rotations(rotations, skeleton.MIRROR_JOINT)
    np.testing.assert_allclose(rotations, mirrored, atol=1e-12)

    def bone(start: str, end: str) -> np.ndarray:
        ids = skeleton.joint_id(start), skeleton.joint_id(end)
        return geometry.unit(joints_m[:, ids[1]] - joints_m[:, ids[0]])

    for start, end in (("l_shoulder", "l_elbow"), ("l_elbow", "l_wrist"), ("l_wrist", "l_hand")):
        np.testing.assert_allclose(bone(start, end), [[1, 0, 0]] * 6, atol=1e-9)
    thigh_deg = np.degrees(np.arccos(-bone("r_hip", "r_knee")[:, 1]))
    shank_deg = np.degrees(np.arccos(-bone("r_knee", "r_ankle")[:, 1]))
    np.testing.assert_allclose(thigh_deg, t_pose.THIGH_OUTWARD_DEG)
    np.testing.assert_allclose(shank_deg, t_pose.THIGH_OUTWARD_DEG / 2)
    assert (bone("r_hip", "r_knee")[:, 0] < 0).all()


def test_t_pose_has_the_palms_down():
    heads_m, names = bone_heads(np.random.default_rng(9), 3)
    motion = t_pose.motion_to_t_pose(heads_m, names)
    for side, suffix in (("l", ".L"), ("r", ".R")):
        hand = motion.rotations[:, skeleton.joint_id(f"{side}_hand")]
        index, little = (names.index(f"finger{finger}-1{suffix}") for finger in (2, 5))
        knuckles = np.einsum("nab,nb->na", hand, heads_m[:, index] - heads_m[:, little])
        assert (knuckles[:, 2] > 0).all()
        np.testing.assert_allclose(knuckles[:, 1], 0, atol=1e-9)


def test_t_posed_bodies_skin_back_to_the_a_pose():
    maker = stick_person()
    rng = np.random.default_rng(10)
    weights = skeleton.symmetric_over_parts(
        random_weights(rng, len(maker.template_m)), maker.skin.mirror
    )
    people = random_people(2, rng)
    verts_t_m, joints_t_m = t_pose.t_posed(maker, people, weights)
    np.testing.assert_allclose(joints_t_m[:, 0], 0, atol=1e-12)
    verts_a_m, heads_m = maker.make(people)
    to_t = t_pose.motion_to_t_pose(heads_m, maker.bone_names)
    shifted = replace(to_t, joints_to_m=joints_t_m)
    back_m = skinning.linear_skinning(verts_t_m.astype(float), shifted.reversed(), weights)
    np.testing.assert_allclose(back_m, verts_a_m, atol=1e-6)


def test_random_poses_are_seeded_and_rest_where_asked():
    first = poses.random_poses(10, np.random.default_rng(11), at_rest=2)
    again = poses.random_poses(10, np.random.default_rng(11), at_rest=2)
    np.testing.assert_array_equal(first, again)
    features = poses.pose_features(first)
    assert features.shape == (10, 207)
    np.testing.assert_array_equal(features[:2], 0)
    assert np.abs(features[2:]).max(1).min() > 0.1
    knee = skeleton.joint_id("l_knee")
    np.testing.assert_array_equal(features[:, 9 * (knee - 1)], first[:, knee, 0, 0] - 1)


def test_a_body_of_rigid_parts_needs_no_pose_blend_shapes():
    maker = stick_person()
    parts = np.eye(24)[np.repeat(np.arange(24), 5)]
    rng = np.random.default_rng(12)
    count = len(parts)
    same = decimate.Decimation(sparse.csr_array(np.eye(count)), TETRAHEDRON, maker.skin.mirror)
    people = random_people(3, rng)
    rigid = correctives.fit_pose_blend_shapes(maker, people, parts, same, parts, rng, count=60)
    np.testing.assert_array_equal(rigid.steps, 0)
    blended = skeleton.symmetric_over_parts(0.8 * parts + 0.2 / 24, maker.skin.mirror)
    soft = correctives.fit_pose_blend_shapes(maker, people, blended, same, blended, rng, count=60)
    assert np.abs(soft.metres()).max() > 1e-3


# Shape, joints, decimation


def test_principal_directions_reproduce_bodies_of_their_rank():
    rng = np.random.default_rng(13)
    mean = rng.normal(0, 0.5, (40, 3))
    basis = rng.normal(0, 0.05, (3, 40, 3))
    verts_m = (mean + np.einsum("nk,kvc->nvc", rng.normal(size=(60, 3)), basis)).astype(np.float32)
    space = shape_space.principal_directions(verts_m, 3)
    np.testing.assert_allclose(shape_space.nearest_in_space_m(space, verts_m), verts_m, atol=1e-5)
    assert space.explained.sum() == pytest.approx(1, abs=1e-5)
    flat = space.directions_m.reshape(-1, 3).astype(float)
    betas = np.linalg.lstsq(flat, (verts_m - space.mean_m).reshape(60, -1).T, rcond=None)[0]
    np.testing.assert_allclose(betas.std(1, ddof=1), 1, rtol=1e-3)
    assert ((space.directions_m[:, 1] * space.mean_m[:, 1:2]).sum(0) > 0).all()
    worse = shape_space.nearest_in_space_m(space.first(1), verts_m)
    assert np.abs(worse - verts_m).max() > 0.01


def test_regressors_sum_to_one_are_symmetric_and_find_the_joints():
    maker = stick_person()
    rng = np.random.default_rng(14)
    mirror = maker.skin.mirror
    verts_m, joints_m = t_pose.t_posed(
        maker, random_people(30, rng), np.eye(24)[np.repeat(np.arange(24), 5)]
    )
    stretch = 1 + 0.1 * rng.normal(size=(30, 1, 3))
    verts_m, joints_m = (verts_m * stretch).astype(np.float32), joints_m * stretch
    regressor = regressors.fit_rest_regressor(verts_m, joints_m, mirror)
    np.testing.assert_allclose(regressor.sum(1), 1, rtol=1e-12)
    assert regressor.min() >= 0
    np.testing.assert_array_equal(regressor, regressor[skeleton.MIRROR_JOINT][:, mirror])
    assert (regressor > 0).sum(1).max() <= 2 * regressors.REST_FIT.max_vertices
    assert regressors.regression_error_m(regressor, verts_m, joints_m).max() < 2e-3


def test_posed_regressor_finds_the_joints_of_posed_bodies():
    maker = stick_person()
    parts = np.eye(24)[np.repeat(np.arange(24), 5)]
    rng = np.random.default_rng(15)
    verts_m, joints_m = t_pose.t_posed(maker, random_people(1, rng), parts)
    space = shape_space.ShapeSpace(verts_m[0], np.zeros((len(parts), 3, 1), np.float32), np.ones(1))
    rest = np.zeros((24, len(parts)))
    rest[np.arange(24), 5 * np.arange(24)] = rest[np.arange(24), 5 * np.arange(24) + 1] = 0.5
    sample = regressors.sample_posed_bodies(
        space, rest, np.zeros((207, len(parts), 3)), parts, rng, count=40
    )
    np.testing.assert_allclose(sample.mean_joints_m, joints_m[0], atol=1e-6)
    regressor = regressors.fit_posed_regressor(sample, maker.skin.mirror)
    np.testing.assert_allclose(regressor.sum(1), 1, rtol=1e-12)
    error_m = regressors.regression_error_m(regressor, sample.verts_m, sample.joints_m)
    assert error_m.max() < 2e-3


def test_a_mirrored_half_is_the_whole_symmetric_mesh():
    verts, faces = sphere()
    # Bend the sphere so that its two sides differ: only the left one may survive.
    uneven = verts * np.where(verts[:, :1] < -1e-9, 1.3, 1.0)
    left_faces = faces[verts[faces, 0].mean(1) > 0]
    ids, half_faces = np.unique(left_faces, return_inverse=True)
    half_faces = half_faces.reshape(-1, 3)
    half = sparse.csr_array(np.eye(len(verts))[ids])
    on_midline = np.abs(verts[ids, 0]) < 1e-9
    mirror = mirror_of(verts)
    whole = decimate.mirrored_half(half, half_faces, on_midline, mirror)
    assert skin.mesh_report(whole.faces).is_sphere()
    rebuilt = whole.apply(verts)
    np.testing.assert_allclose(rebuilt[whole.mirror] * geometry.MIRROR_X, rebuilt, atol=1e-12)
    assert mesh_volume(rebuilt, whole.faces) == pytest.approx(mesh_volume(verts, faces))
    np.testing.assert_array_equal(whole.mirror[whole.mirror], np.arange(len(whole.mirror)))
    np.testing.assert_allclose(whole.apply(np.ones((len(verts), 1))), 1)
    assert np.abs(whole.apply(uneven) - rebuilt)[~on_midline.nonzero()[0][:1]].max() > 0.1


def test_points_of_a_mesh_are_found_on_it():
    verts, faces = sphere()
    rng = np.random.default_rng(16)
    chosen = rng.integers(0, len(faces), 50)
    bary = rng.dirichlet([1, 1, 1], 50)
    points = (bary[:, :, None] * verts[faces[chosen]]).sum(1)
    face, found, distance = decimate.nearest_on_mesh(points, geometry.unit(points), verts, faces)
    np.testing.assert_allclose(distance, 0, atol=1e-9)
    np.testing.assert_allclose((found[:, :, None] * verts[faces[face]]).sum(1), points, atol=1e-9)
    outside = 1.5 * verts
    _, found, distance = decimate.nearest_on_mesh(outside, geometry.unit(verts), verts, faces)
    np.testing.assert_allclose(found.max(1), 1)
    np.testing.assert_allclose(distance, 0.5)


def test_faces_that_look_away_do_not_catch_points():
    """A thin slab: a point of the upper side, sunk below the lower one, still goes up."""
    square = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]])
    verts = np.concatenate([square + np.array([0, 0.1, 0]), square])
    faces = np.array([[0, 2, 1], [0, 3, 2], [4, 5, 6], [4, 6, 7]])
    point, up = np.array([[0.5, 0.01, 0.4]]), np.array([[0.0, 1, 0]])
    face, _, distance = decimate.nearest_on_mesh(point, up, verts, faces)
    assert face[0] in (0, 1)
    assert distance[0] == pytest.approx(0.09)
    face, _, _ = decimate.nearest_on_mesh(point, -up, verts, faces)
    assert face[0] in (2, 3)
