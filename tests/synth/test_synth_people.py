"""People: dressed everywhere, alike on both sides, and the same for the same seed."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from flowhmr.body import SMPL_24, BodyModel
from flowhmr.synth.people import (
    BOTTOM,
    GLOSS,
    HAIR,
    MATERIAL_COLUMNS,
    MATERIALS,
    RGB,
    RGB2,
    SHOES,
    SKIN,
    TOP,
    Person,
    random_rgb,
    sample_person,
)


@pytest.fixture(scope="module")
def people(body) -> list[Person]:
    return [sample_person(np.random.default_rng(seed), body) for seed in range(60)]


def mirrored_faces(body: BodyModel) -> np.ndarray:
    """For each triangle its counterpart on the other side."""
    place = {tuple(sorted(face)): i for i, face in enumerate(body.faces.tolist())}
    return np.array([place[tuple(sorted(face))] for face in body.symmetry[body.faces].tolist()])


def test_people_are_seeded(body, people):
    again = sample_person(np.random.default_rng(7), body)
    for field in fields(Person):
        assert np.array_equal(getattr(again, field.name), getattr(people[7], field.name))
    assert not np.array_equal(people[7].betas, people[8].betas)
    assert not np.array_equal(people[7].materials, people[8].materials)


def test_every_triangle_is_made_of_something(body, people):
    for person in people:
        assert person.face_material.shape == (len(body.faces),)
        assert person.face_material.min() >= 0
        assert person.face_material.max() < len(MATERIALS)
        assert person.materials.shape == (len(MATERIALS), MATERIAL_COLUMNS)


def test_colours_are_colours(people):
    for person in people:
        colours = person.materials[:, [*range(RGB.start, RGB2.stop)]]
        assert colours.min() >= 0
        assert colours.max() <= 1
        assert (person.materials[:, GLOSS] >= 0).all()
        assert np.isfinite(person.materials).all()


def test_cloth_never_sinks_into_the_skin(people):
    for person in people:
        assert person.lift_m.min() == 0
        assert person.lift_m.max() <= 0.03


def test_both_sides_are_dressed_alike(body, people):
    faces = mirrored_faces(body)
    # Twelve triangles on the seams of hips and neck belong to parts that do not mirror.
    mirror = np.array(SMPL_24.mirror)
    parts = body.face_parts.numpy()
    alike = mirror[parts[faces]] == parts
    assert alike.sum() >= len(faces) - 12
    for person in people:
        assert np.array_equal(person.lift_m[body.symmetry], person.lift_m)
        same = person.face_material[faces] == person.face_material
        assert same[alike].all()


def test_clothes_are_where_they_belong(body, people):
    def share(person: Person, name: str, material: int) -> float:
        mine = body.face_parts.numpy() == SMPL_24.index(name)
        return float((person.face_material[mine] == material).mean())

    dressed = [p for p in people if TOP in p.face_material]
    assert 0.8 * len(people) < len(dressed) < len(people)
    for person in people:
        for side in ("left_", "right_"):
            assert share(person, side + "hand", SKIN) == 1
            assert share(person, side + "foot", SHOES) in (0, 1)
        assert share(person, "head", TOP) == share(person, "head", BOTTOM) == 0
        assert share(person, "pelvis", BOTTOM) > 0.3
    for person in dressed:
        assert share(person, "spine3", TOP) > 0.3
    assert sum(HAIR in p.face_material for p in people) > 0.8 * len(people)
    assert any(HAIR not in p.face_material for p in people)


def test_shapes_are_those_of_a_population(people):
    betas = np.stack([p.betas for p in people])
    assert np.abs(betas).max() <= 3
    assert betas.std() == pytest.approx(1.05, abs=0.15)
    assert betas.mean() == pytest.approx(0, abs=0.15)


def test_clothes_are_not_cut_for_another_body(body):
    other = replace(body, body_id="smpl:0123456789abcdef")
    with pytest.raises(ValueError, match="clothes are cut for its parts"):
        sample_person(np.random.default_rng(0), other)


def test_random_colours_are_spread():
    rng = np.random.default_rng(0)
    colours = torch.tensor(np.stack([random_rgb(rng) for _ in range(500)])).clamp(0, 1)
    assert (colours.std(0) > 0.15).all()
    assert ((colours.mean(0) > 0.3) & (colours.mean(0) < 0.6)).all()
