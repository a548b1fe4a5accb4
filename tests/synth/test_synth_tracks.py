"""Tracks: what they say of a person agrees with the person, the camera and with itself."""

from dataclasses import astuple, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import max_pool2d
from torch.testing import assert_close

from flowhmr.body import COCO_17, BodyModel, Mesh
from flowhmr.cameras import PerspectiveCamera
from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.raster import visible_vertices
from flowhmr.records import FEET
from flowhmr.synth import ShotConfig, SynthTrack, TrackConfig, synth_track
from flowhmr.synth import tracks as tracks_module
from flowhmr.synth.shots import Shot, sample_shot

SIZE, FRAMES = 64, 12
ALONE = TrackConfig(frames=FRAMES, size_px=SIZE, occluder=0.0)


def filmed(motion: str, zoom: float = 0.0, close: float = 0.0) -> TrackConfig:
    """One way of the camera only, and nothing before the person."""
    return replace(ALONE, shot=ShotConfig(motions=((motion, 1.0),), zoom=zoom, close=close))


def mesh_cam(track: SynthTrack, body: BodyModel) -> Mesh:
    """The body of the labels before the camera."""
    mesh, offset = body.mesh(track.params), track.translation_m[:, None]
    return Mesh(mesh.verts + offset, mesh.joints + offset, mesh.body_id)


def inside(points_px: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return (points_px >= low).all(-1) & (points_px < high).all(-1)


def pixel_grid() -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.stack([x, y], -1) + 0.5


def wall_flow(shot: Shot, distance_m: float) -> np.ndarray:
    """Pixel by pixel onto the wall, into the world, and into the next frame; float64."""
    grid = pixel_grid().double().numpy().reshape(-1, 2)
    out = []
    for t in range(len(shot) - 1):
        focal_px, *centre_px = shot.lens_px[t]
        rays = np.concatenate([(grid - centre_px) / focal_px, np.ones((len(grid), 1))], 1)
        world = distance_m * rays @ shot.rotmats[t] + shot.centres_m[t]
        after = Shot(*(getattr(shot, k)[t + 1 :] for k in ("rotmats", "centres_m", "lens_px")))
        seen = after.project(np.repeat(world[None], len(after), 0))[0]
        out.append((seen - grid).reshape(SIZE, SIZE, 2))
    return np.stack(out)


@pytest.fixture(scope="module", params=[0, 3])
def track(request: pytest.FixtureRequest, body: BodyModel) -> SynthTrack:
    return synth_track(ALONE, request.param, body)


@pytest.fixture
def scene(monkeypatch) -> dict:
    """What `synth_track` draws on its way: the actor, the shot, the thing in the way."""
    seen = {}

    def listen(name: str) -> None:
        plain = getattr(tracks_module, name)

        def heard(*arguments):
            seen[name] = plain(*arguments)
            return seen[name]

        monkeypatch.setattr(tracks_module, name, heard)

    for name in ("sample_actor", "sample_shot", "_occluder"):
        listen(name)
    return seen


# --- the person


def test_the_labels_are_the_actor_before_the_camera(body, scene):
    """Two ways to the same joints and vertices: turned parameters, and a moved camera."""
    track = synth_track(filmed("dolly", zoom=1.0), 1, body)
    actor, shot = scene["sample_actor"], scene["sample_shot"]
    mesh = mesh_cam(track, body)
    for found, world in ((mesh.joints, actor.joints_world), (mesh.verts, actor.verts_world)):
        expected = shot.to_camera(world.double().numpy())
        assert_close(found, torch.from_numpy(expected).float(), atol=1e-4, rtol=0)
    assert_close(track.joints_m + track.translation_m[:, None], mesh.joints, atol=1e-4, rtol=0)
    shown = track.camera.project(mesh.joints)[..., :2].double().numpy()
    expected = shot.project(actor.joints_world.double().numpy())
    np.testing.assert_allclose(shown, expected, atol=0.01)
    assert track.params.body_id == body.body_id
    assert (track.params.betas == track.params.betas[0]).all()


def test_keypoints_and_boxes_are_those_of_the_body_under_the_camera(body, track):
    mesh = mesh_cam(track, body)
    seen = track.camera.project(body.keypoints(mesh, COCO_17))[..., :2]
    assert_close(track.keypoints_px, seen, atol=0.01, rtol=0)
    verts = track.camera.project(mesh.verts)[..., :2]
    box = torch.cat([verts.amin(1), verts.amax(1) - verts.amin(1)], -1)
    assert_close(track.boxes_px, box, atol=0.01, rtol=0)


def test_the_person_is_where_its_vertices_are(body, track):
    verts = track.camera.project(mesh_cam(track, body).verts)[..., :2]
    cells = verts.long()
    marked = torch.zeros(FRAMES, SIZE, SIZE)
    known = inside(cells, torch.tensor(0), torch.tensor(SIZE))
    frame = torch.arange(FRAMES)[:, None].expand_as(known)[known]
    marked[frame, cells[known][:, 1], cells[known][:, 0]] = 1
    near = max_pool2d(marked[:, None], 3, 1, 1)[:, 0] > 0
    assert track.person.any(-1).any(-1).all()
    assert near[track.person].float().mean() > 0.97
    wide = max_pool2d(track.person[:, None].float(), 3, 1, 1)[:, 0] > 0
    assert wide[marked > 0].float().mean() > 0.98


# --- flow


def test_flow_of_the_body_is_that_of_its_surface(body):
    """At the pixels of visible vertices, where one surface fills the pixels around."""
    counted, missed, moved = 0, [], []
    for index in (0, 1, 3):
        track = synth_track(replace(ALONE, size_px=128), index, body)
        seen = track.camera.project(mesh_cam(track, body).verts)
        scale = (track.camera.focal_px / track.translation_m[:, 2])[:, None, None]
        flat = torch.cat([seen[..., :2], seen[..., 2:] * scale], -1)
        visible = visible_vertices(flat, body.faces, 128, 128)[:-1]
        goes = (seen[1:] - seen[:-1])[..., :2]
        # A surface at a steep angle, or another limb, shows as a step of the flow.
        steps = torch.cat([track.flow.movedim(-1, 1), -track.flow.movedim(-1, 1)], 1)
        smooth = (max_pool2d(steps, 3, 1, 1) - steps).amax(1) < 0.15
        off = (~track.person[:-1])[:, None].float()
        at = seen[:-1, :, :2].long().clamp(0, 127)
        frame = torch.arange(FRAMES - 1)[:, None]
        good = (smooth & (max_pool2d(off, 3, 1, 1)[:, 0] == 0))[frame, at[..., 1], at[..., 0]]
        good &= visible & inside(seen[:-1, :, :2], torch.tensor(0), torch.tensor(128))
        counted += int(good.sum())
        missed.append((track.flow[frame, at[..., 1], at[..., 0]] - goes)[good].norm(dim=-1))
        moved.append(goes[good].norm(dim=-1))
    assert counted > 3000
    assert torch.cat(moved).quantile(0.75) > 0.5
    assert torch.cat(missed).quantile(0.99) < 0.12


def test_behind_a_still_camera_nothing_moves(body):
    for index in (0, 1):
        track = synth_track(filmed("static"), index, body)
        assert (track.flow[~track.person[:-1]] == 0).all()
        assert track.flow[track.person[:-1]].norm(dim=-1).amax() > 0.3


@pytest.mark.parametrize(
    ("motion", "zoom", "distance_m"),
    [("pan", 0.0, 3.0), ("pan", 1.0, 30.0), ("handheld", 0.0, 9.0), ("dolly", 1.0, 9.0)],
)
def test_flow_of_the_background_is_that_of_a_wall(
    body, scene, monkeypatch, motion, zoom, distance_m
):
    """A camera that only turns sees the same at every distance; the others at the wall's own."""
    placed_m = 9.0
    monkeypatch.setattr(tracks_module, "_backdrop_m", lambda verts_cam, rng: placed_m)
    track = synth_track(filmed(motion, zoom), 2, body)
    shot, still = scene["sample_shot"], ~track.person[:-1]
    expected = torch.from_numpy(wall_flow(shot, distance_m)).float()
    assert expected[still].norm(dim=-1).amax() > 0.05
    assert_close(track.flow[still], expected[still], atol=1e-3, rtol=0)
    if motion != "pan":
        nearer = torch.from_numpy(wall_flow(shot, distance_m / 2)).float()
        assert (nearer - expected).abs().amax() > 0.01


def test_the_wall_is_behind_the_person(body):
    track = synth_track(ALONE, 0, body)
    rng = np.random.default_rng(0)
    verts = mesh_cam(track, body).verts.double()
    far = np.array([tracks_module._backdrop_m(verts, rng) for _ in range(200)])
    person_m = float(verts[..., 2].mean())
    assert person_m * tracks_module.BACKDROP[0] < far.min() < 1.5 * person_m
    assert 5 * person_m < far.max() < person_m * tracks_module.BACKDROP[1]
    assert np.log(far / person_m).mean() == pytest.approx(
        np.log(tracks_module.BACKDROP).mean(), abs=0.15
    )


# --- what is hidden


def test_what_is_off_the_image_is_not_visible(body):
    outside = 0
    for index in (0, 2, 5):
        track = synth_track(filmed("handheld", close=1.0), index, body)
        off = ~inside(track.keypoints_px, torch.tensor(0), torch.tensor(SIZE))
        assert not track.visible[off].any()
        assert track.visible.any()
        outside += int(off.sum())
    assert outside > 50


def before_camera(body: BodyModel, heading: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints and vertices, pixels and metres, of a T-pose whose shoulders are at the eye's
    height; heading 0 faces the camera."""
    half_turn = rotmat_from_axis_angle(torch.tensor([np.pi, 0.0, 0.0]).float())
    turn = rotmat_from_axis_angle(torch.tensor([0.0, heading, 0.0]).float())
    rest = body.rest_params(1)
    rest.rotmats[:, 0] = half_turn @ turn
    mesh = body.mesh(rest)
    keypoints = body.keypoints(mesh, COCO_17)
    shoulders = keypoints[:, COCO_17.indices_of(("left_shoulder", "right_shoulder"))]
    offset = torch.tensor([0.0, 0.0, 4.0]) - shoulders.mean(1, keepdim=True)
    camera = PerspectiveCamera(torch.full((1,), 85.0), torch.full((1, 2), SIZE / 2))
    return camera.project((keypoints + offset).double()), camera.project(
        (mesh.verts + offset).double()
    )


@pytest.mark.parametrize(
    ("heading", "near", "far"), [(-1.57, "left", "right"), (1.57, "right", "left")]
)
def test_an_arm_behind_the_other_is_hidden(body, heading, near, far):
    """Seen from the side, one arm of a T-pose points at the camera and hides the other."""
    keypoints, verts_px = before_camera(body, heading)
    shown = tracks_module._visible(
        keypoints, verts_px, tracks_module._fragments(verts_px, body, SIZE)
    )
    wrists = [COCO_17.index(f"{side}_wrist") for side in (near, far)]
    assert keypoints[0, wrists[0], 2] < keypoints[0, wrists[1], 2] - 1
    assert (keypoints[0, wrists[0], :2] - keypoints[0, wrists[1], :2]).norm() < 5
    behind = COCO_17.indices_of((f"{near}_elbow", f"{far}_elbow", f"{far}_wrist"))
    assert shown[0, wrists[0]]
    assert not shown[0, list(behind)].any()
    facing, verts_px = before_camera(body, 0.0)
    fragments = tracks_module._fragments(verts_px, body, SIZE)
    assert tracks_module._visible(facing, verts_px, fragments).all()


@pytest.mark.parametrize(
    ("behind_m", "hidden"), [(-0.5, False), (0.15, False), (0.26, True), (3.0, True)]
)
def test_what_is_far_behind_the_surface_is_hidden(body, behind_m, hidden):
    _, verts_px = before_camera(body, 0.0)
    fragments = tracks_module._fragments(verts_px, body, SIZE)
    shoulder = torch.tensor([[[SIZE / 2, SIZE / 2 + 4, 0.0]]]).double()
    near = (verts_px[..., :2] - shoulder[..., :2]).norm(dim=-1) < 3
    surface_m = verts_px[..., 2][near].amin()
    shoulder[..., 2] = surface_m + behind_m
    assert bool(tracks_module._visible(shoulder, verts_px, fragments)) is not hidden
    beside = torch.tensor([[[1.0, 1.0, 9.0]]]).double()
    assert tracks_module._visible(beside, verts_px, fragments).all()


@pytest.mark.parametrize("index", [0, 1, 4])
def test_a_thing_in_the_way_hides_what_is_under_it_and_nothing_else(body, scene, index):
    plain = synth_track(filmed("static"), index, body)
    behind = synth_track(replace(filmed("static"), occluder=1.0), index, body)
    box = scene["_occluder"]
    low, high = box[:, None, :2], box[:, None, :2] + box[:, None, 2:]
    covered = inside(plain.keypoints_px, low, high)
    assert covered.any()
    assert torch.equal(behind.visible, plain.visible & ~covered)
    pixels = inside(pixel_grid().expand(FRAMES, -1, -1, -1), low[:, None], high[:, None])
    assert torch.equal(behind.person, plain.person & ~pixels)
    assert (plain.person & pixels).any()
    assert torch.equal(behind.flow[~pixels[:-1]], plain.flow[~pixels[:-1]])
    for name in ("joints_m", "translation_m", "keypoints_px", "boxes_px"):
        assert torch.equal(getattr(behind, name), getattr(plain, name)), name


def test_a_thing_in_the_way_stands_or_walks_straight_before_a_still_camera(body, scene):
    walks = []
    for index in range(6):
        track = synth_track(replace(filmed("static"), occluder=1.0), index, body)
        box = scene["_occluder"]
        steps = box[:, :2].diff(dim=0)
        assert_close(steps, steps[:1].expand_as(steps), atol=1e-4, rtol=0)
        walks.append(bool(steps.abs().amax() > 1e-4))
        middle = box[FRAMES // 2, :2] + box[FRAMES // 2, 2:] / 2
        assert (track.keypoints_px[FRAMES // 2] - middle).norm(dim=-1).amin() < 1e-3
        share = box[0, 2:] / track.boxes_px[FRAMES // 2, 2:].amax()
        assert ((share > tracks_module.HIDES[0]) & (share < tracks_module.HIDES[1])).all()
    assert any(walks)
    assert not all(walks)


def test_a_thing_in_the_way_goes_with_a_camera_that_turns():
    """Wherever the wall goes, it goes."""
    wall = torch.tensor([2.0, -1.0]).repeat(FRAMES - 1, 4, 4, 1)
    boxes = torch.tensor([10.0, 10, 20, 40]).expand(FRAMES, 4)
    keypoints = torch.full((FRAMES, 17, 2), 30.0)
    stands = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        box = tracks_module._occluder(boxes, keypoints, wall, rng)
        middle = box[FRAMES // 2]
        assert_close(middle[:2] + middle[2:] / 2, torch.full((2,), 30.0))
        steps = box[:, :2].diff(dim=0)
        stands += torch.allclose(steps, torch.tensor([2.0, -1.0]), atol=1e-3)
    assert 12 < stands < 28


# --- numbers


def tensors(track: SynthTrack) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    map_tensors(track, lambda t: found.append(t) or t)
    return found


def test_a_track_follows_from_seed_and_number_alone(body):
    config = replace(ALONE, occluder=0.5)
    first = {i: tensors(synth_track(config, i, body)) for i in (4, 5)}
    torch.manual_seed(123)
    torch.rand(5)
    for index in (5, 4):
        again = tensors(synth_track(config, index, body))
        assert all(torch.equal(a, b) for a, b in zip(first[index], again, strict=True))
    assert not torch.equal(first[4][0], first[5][0])
    other = tensors(synth_track(replace(config, seed=1), 4, body))
    assert not torch.equal(first[4][0], other[0])


def test_shapes_and_finite_numbers(track):
    assert len(track) == FRAMES
    assert track.flow.shape == (FRAMES - 1, SIZE, SIZE, 2)
    assert track.person.shape == (FRAMES, SIZE, SIZE)
    floats = [t for t in tensors(track) if t.is_floating_point()]
    assert all(t.dtype == torch.float32 and bool(t.isfinite().all()) for t in floats)
    assert astuple(ALONE)  # a config is plain numbers: the store's key is made of them


def test_another_body_is_refused(body):
    with pytest.raises(ValueError, match="expected the open body"):
        synth_track(ALONE, 0, replace(body, topology="smpl"))


def test_shots_only_turn_when_they_pan():
    """What the test of the wall relies on."""
    joints = np.random.default_rng(0).normal(0, 0.3, (FRAMES, 24, 3))
    joints += np.array([0, 1, 0])
    joints[..., 0] += np.linspace(0, 1, FRAMES)[:, None]
    shot = sample_shot(filmed("pan").shot, joints, SIZE, np.random.default_rng(1))
    assert np.ptp(shot.centres_m, 0).max() == 0
    assert np.abs(np.diff(shot.rotmats, axis=0)).max() > 1e-3


def test_feet_stand_where_the_world_sees_them_still():
    """Steps of a foot in the world, not before the camera: 0.3 m/s are 10 mm a frame."""
    frames = 9
    world = torch.zeros(frames, 24, 3, dtype=torch.float64)
    left, right = FEET[0], FEET[3]
    world[:, left, 0] = 0.0095 * torch.arange(frames)
    world[:, right, 2] = 0.0105 * torch.arange(frames)
    world[:, FEET[1], 1] = torch.tensor([0.0] * 5 + [0.5] * 4)
    stands = tracks_module._stands(world)
    assert stands[:, 0].all()
    assert not stands[:, 3].any()
    assert stands[:, 1].tolist() == [True] * 4 + [False] * 2 + [True] * 3
    assert stands[:, 2].all()
    assert tracks_module._stands(world[:1]).all()


def test_a_camera_that_moves_does_not_move_the_feet(body, scene):
    still = synth_track(filmed("static"), 1, body).stands
    dolly = synth_track(filmed("dolly"), 1, body).stands
    assert torch.equal(still, dolly)
    assert still.shape == (FRAMES, 4)
