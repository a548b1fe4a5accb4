"""Names in, places out: the laws of joint sets."""

import pytest
import torch

from flowhmr.body import (
    COCO_17,
    H36M_14,
    H36M_17,
    JOINT_SETS,
    OPENPOSE_25,
    SMPL_24,
    SPIN_24,
    SPIN_49,
    SPIN_H36M_17,
    JointSet,
    convert_joints,
    joint_set,
)

all_sets = pytest.mark.parametrize("joints", JOINT_SETS.values(), ids=JOINT_SETS)


@all_sets
def test_mirror_is_an_involution_that_swaps_the_sides(joints):
    places = range(len(joints))
    assert [joints.mirror[joints.mirror[i]] for i in places] == list(places)
    for name, other in zip(joints.names, joints.mirror):
        twin = joints.names[other]
        assert ("left_" in name, "right_" in name) == ("right_" in twin, "left_" in twin)


@all_sets
def test_names_and_places_are_inverse(joints):
    assert joints.indices_of(joints.names) == tuple(range(len(joints)))
    assert joints.indices_of(name for name in joints.names) == tuple(range(len(joints)))
    assert joint_set(joints.name) is joints


@all_sets
def test_edges_connect_each_pair_once_and_are_mirror_symmetric(joints):
    edges = {frozenset(edge) for edge in joints.edges}
    assert len(edges) == len(joints.edges)
    assert all(len(edge) == 2 for edge in edges)
    assert edges == {frozenset(joints.mirror[i] for i in edge) for edge in edges}


def test_sizes_are_what_the_names_say():
    for joints in JOINT_SETS.values():
        assert len(joints) == int(joints.name.rpartition("-")[2])


def test_parents_come_before_their_children():
    assert SMPL_24.parents is not None
    assert all(parent < joint for joint, parent in enumerate(SMPL_24.parents))


def test_h36m_14_is_what_spin_takes_from_its_17():
    """H36M_TO_J14 of SPIN, whose regressor puts the left leg first."""
    assert SPIN_H36M_17.indices_of(H36M_14.names) == (
        6,
        5,
        4,
        1,
        2,
        3,
        16,
        15,
        14,
        11,
        12,
        13,
        8,
        10,
    )


def test_h36m_14_is_what_spin_takes_from_its_24():
    """J24_TO_J14 of SPIN: the head is Human3.6M's, not LSP's."""
    assert SPIN_24.indices_of(H36M_14.names) == (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18)


def test_the_two_orders_of_human36m_exchange_the_legs():
    assert H36M_17.indices_of(SPIN_H36M_17.names) == (0, 4, 5, 6, 1, 2, 3, *range(7, 17))


def test_spin_49_is_openpose_then_spin_24():
    names = [f"op_{name}" for name in OPENPOSE_25.names]
    assert SPIN_49.indices_of(names) == tuple(range(25))
    assert SPIN_49.indices_of(SPIN_24.names) == tuple(range(25, 49))


def test_conversion_follows_names_and_is_undone_by_its_inverse():
    values = torch.randn(2, 3, 17, 4)
    there = convert_joints(values, H36M_17, SPIN_H36M_17)
    left_knee = H36M_17.index("left_knee")
    assert torch.equal(there[..., SPIN_H36M_17.index("left_knee"), :], values[..., left_knee, :])
    assert torch.equal(convert_joints(there, SPIN_H36M_17, H36M_17), values)


def test_conversion_names_the_joints_that_are_missing():
    with pytest.raises(KeyError, match=r"coco-17.*'neck'.*'pelvis'"):
        convert_joints(torch.zeros(17, 3), COCO_17, OPENPOSE_25)


def test_conversion_refuses_values_of_another_set():
    with pytest.raises(ValueError, match=r"got values of 24 joints; expected the 17 of coco-17"):
        convert_joints(torch.zeros(24, 3), COCO_17, OPENPOSE_25)


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(KeyError, match=r"got 'coco17'; expected one of .*coco-17"):
        joint_set("coco17")
    with pytest.raises(KeyError, match=r"smpl-24: got 'l_knee'; expected some of .*left_knee"):
        SMPL_24.index("l_knee")


def test_a_name_given_twice_is_refused():
    with pytest.raises(ValueError, match=r"got \['nose'\] twice"):
        JointSet("twins", ("nose", "neck", "nose"))
