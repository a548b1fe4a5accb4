"""Ground truth of synthetic clips: every layer agrees with the pictures and with the others."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import max_pool2d

from flowhmr.body import open_body
from flowhmr.cameras import project_weak, sample_map
from flowhmr.flow import sample_flow
from flowhmr.synth.sensor import Sensor
from flowhmr.synth.shots import ShotConfig
from flowhmr.synth.stage import SynthConfig, set_stage
from flowhmr.synth.truth import SynthClip, clip_of, synth_clip

BODY = open_body()
SIZE = 96
QUIET = SynthConfig(size_px=SIZE, frames=5, place=replace(SynthConfig().place, textures=3))
NO_SENSOR = Sensor()


@pytest.fixture(scope="module", params=[2, 3, 5, 8])
def clip(request: pytest.FixtureRequest) -> SynthClip:
    return synth_clip(QUIET, request.param, BODY, NO_SENSOR)


def _inside(mask: torch.Tensor) -> torch.Tensor:
    """Pixels whose eight neighbours are in the mask too."""
    return max_pool2d((~mask).float()[:, None], 3, 1, 1)[:, 0] < 0.5


def _around(mask: torch.Tensor) -> torch.Tensor:
    """Pixels in the mask or beside it."""
    return max_pool2d(mask.float()[:, None], 3, 1, 1)[:, 0] > 0.5


def _at(maps: torch.Tensor, points_px: torch.Tensor) -> torch.Tensor:
    cells = points_px.long().clamp(0, maps.shape[-1] - 1)
    return maps[torch.arange(len(maps))[:, None], cells[..., 1], cells[..., 0]]


def _grid_px() -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.stack([columns, rows], -1).float() + 0.5


def test_the_next_frame_warped_by_the_flow_is_this_frame(clip: SynthClip) -> None:
    images = clip.images.float() / 255
    flow, valid = clip.flow.forward, clip.flow.forward_valid
    points = (_grid_px() + flow).reshape(len(flow), -1, 2)
    warped = sample_map(images[1:], points).reshape(images[1:].shape)
    error = (warped - images[:-1]).abs().mean(-1)
    assert valid.float().mean() > 0.7
    assert error[valid].mean() < 0.02
    # The motion is needed for that: without it the error is larger, on the body above all.
    moving = valid & (flow.norm(dim=-1) > 0.7)
    if moving.sum() > 500:
        still = (images[1:] - images[:-1]).abs().mean(-1)
        assert error[moving].mean() < 0.8 * still[moving].mean()


def test_flow_there_and_back_ends_where_it_began(clip: SynthClip) -> None:
    forward, valid = clip.flow.forward, clip.flow.forward_valid
    points = (_grid_px() + forward).reshape(len(forward), -1, 2)
    back = sample_map(clip.flow.backward, points).reshape(forward.shape)
    both = _inside(valid) & _inside(clip.people[:-1] == 0) & (clip.depth_m[:-1] < 50)
    missed = (forward + back).norm(dim=-1)[both]
    assert missed.quantile(0.95) < 0.1


def test_flow_at_visible_vertices_is_their_displacement(clip: SynthClip) -> None:
    start, end = clip.surface_px[:-1], clip.surface_px[1:]
    depth, parts = clip.depth_m[:, None], clip.parts[:, None].float()
    nearest, furthest = -max_pool2d(-depth, 3, 1, 1), max_pool2d(depth, 3, 1, 1)
    one_part = max_pool2d(parts, 3, 1, 1) == -max_pool2d(-parts, 3, 1, 1)
    # Where nothing but the surface around the vertex is near, at no steep angle.
    one_surface = (clip.silhouette[:, None] & one_part & (furthest - nearest < 0.05))[:, 0]
    own_part = _at(clip.parts[:-1], start) == BODY.vertex_parts + 1
    counted = clip.vertex_visible[:-1] & _at(one_surface[:-1], start) & own_part
    missed = (sample_flow(clip.flow.forward, start) - (end - start)).norm(dim=-1)[counted]
    assert counted.sum() > 300
    assert missed.quantile(0.99) < 0.1


def test_vertices_lie_on_the_silhouette(clip: SynthClip) -> None:
    visible = clip.vertex_visible
    assert visible.any()
    near, nearer = _around(_around(clip.silhouette)), _around(clip.silhouette)
    # Fingers are thinner than a pixel.
    assert _at(nearer, clip.surface_px)[visible].float().mean() > 0.99
    assert _at(near, clip.surface_px)[visible].float().mean() > 0.999
    # And nearly every pixel of the silhouette is next to a vertex: it is not too large either.
    marked = torch.zeros_like(clip.silhouette)
    cells = clip.surface_px.long().clamp(0, SIZE - 1)
    marked[torch.arange(len(marked))[:, None], cells[..., 1], cells[..., 0]] = True
    near = _around(_around(marked))
    assert near[clip.silhouette].float().mean() > 0.97


def test_hidden_vertices_are_behind_something(clip: SynthClip) -> None:
    cells = clip.surface_px
    on_image = ((cells >= 0) & (cells < SIZE)).all(-1)
    # On another person or a thing before the body no vertex is visible.
    other = _inside((clip.people != 1) & (clip.depth_m < 1.0))
    assert not (clip.vertex_visible & on_image & _at(other, cells)).any()
    assert not (clip.vertex_visible & ~on_image).any()


def test_joints_reproject_by_the_camera(clip: SynthClip) -> None:
    shown = clip.camera.project(clip.joints_m + clip.translation_m[:, None])
    torch.testing.assert_close(shown[..., :2], clip.joints_px, atol=2e-3, rtol=0)
    mesh = BODY.mesh(clip.params)
    torch.testing.assert_close(mesh.joints, clip.joints_m, atol=2e-5, rtol=0)
    naked = clip.camera.project(mesh.verts + clip.translation_m[:, None])[..., :2]
    # Clothes stand off the skin by centimetres, no more.
    per_metre = clip.camera.focal_px / clip.translation_m[:, 2]
    assert ((naked - clip.surface_px).norm(dim=-1) < 0.09 * per_metre[:, None]).all()


def test_the_weak_camera_is_the_best_one(clip: SynthClip) -> None:
    verts = BODY.mesh(clip.params).verts
    target = clip.camera.project(verts + clip.translation_m[:, None])[..., :2]

    def missed(scale: float, shift: float) -> torch.Tensor:
        params = clip.weak.params * torch.tensor([scale, 1.0, 1.0])
        camera = type(clip.weak)(params + torch.tensor([0.0, shift, 0.0]))
        shown = project_weak(verts, camera, SIZE)[..., :2]
        return (shown - target).square().sum(-1).mean(-1).sqrt()

    torch.testing.assert_close(missed(1, 0), clip.weak_residual_px, atol=0.01, rtol=0.02)
    for scale, shift in ((1.02, 0), (0.98, 0), (1, 0.02), (1, -0.02)):
        assert (missed(scale, shift) > clip.weak_residual_px).all()


def test_maps_of_people_agree(clip: SynthClip) -> None:
    assert torch.equal(clip.parts > 0, clip.people == 1)
    assert clip.parts.max() <= 24
    assert torch.equal(clip.silhouette, clip.people == 1)
    assert clip.silhouette.any(-1).any(-1).all()
    # Pixels of a part are near its vertices.
    for part in clip.parts.unique()[1:].tolist():
        mask = _around(_around(clip.parts == part))
        verts = clip.surface_px[:, BODY.vertex_parts == part - 1]
        visible = clip.vertex_visible[:, BODY.vertex_parts == part - 1]
        if (clip.parts == part).sum() > 150:
            assert _at(mask, verts)[visible].float().mean() > 0.9


def test_depth_is_that_of_the_body(clip: SynthClip) -> None:
    verts = BODY.mesh(clip.params).verts + clip.translation_m[:, None]
    near, far = verts[..., 2].amin(1) - 0.1, verts[..., 2].amax(1) + 0.1
    for t in range(len(clip)):
        depth = clip.depth_m[t][clip.silhouette[t]]
        assert depth.min() > near[t]
        assert depth.max() < far[t]


def test_hidden_joints_have_a_reason(clip: SynthClip) -> None:
    joints_z_m = (clip.joints_m + clip.translation_m[:, None])[..., 2]
    inside = ((clip.joints_px >= 0) & (clip.joints_px < SIZE)).all(-1)
    assert not clip.joint_visible[~inside].any()
    own, depth = _at(clip.silhouette, clip.joints_px), _at(clip.depth_m, clip.joints_px)
    far_behind = inside & own & (joints_z_m > depth + 0.2)
    assert not clip.joint_visible[far_behind].any()
    plain = inside & own & (joints_z_m < depth + 0.19) & ~clip.dropped[:, None]
    assert clip.joint_visible[plain].all()


def test_nobody_floats_and_nobody_sinks() -> None:
    stands = []
    for index in range(24):
        actor = set_stage(QUIET, index, BODY).actors[0]
        low = actor.verts_world[..., 1].amin(1)
        assert low.min() > -0.011
        stands.append(float(low.min()) < 0.02)
    # Some windows of the capture are in the air from end to end.
    assert sum(stands) >= 21


def test_a_still_person_before_a_still_camera_has_no_flow() -> None:
    shot = ShotConfig(motions=(("static", 1.0),), zoom=0.0)
    config = replace(QUIET, shot=shot, place=replace(QUIET.place, movers=0.0), others=0.0)
    stage = set_stage(config, 1, BODY)
    actor = stage.actors[0]
    first = torch.zeros(len(stage), dtype=torch.long)
    frozen = replace(
        actor,
        verts_world=actor.verts_world[first],
        joints_world=actor.joints_world[first],
        params=BODY.params(actor.params.rotmats[first], actor.params.betas),
    )
    from flowhmr.synth.drawing import draw

    stage = replace(stage, actors=(frozen,))
    clip = clip_of(stage, draw(stage, BODY), BODY, NO_SENSOR)
    assert clip.flow.forward.norm(dim=-1).max() < 1e-3
    assert clip.flow.forward_valid.float().mean() > 0.999
    assert (clip.images == clip.images[:1]).all()


def test_dropped_frames_show_no_joint() -> None:
    config = replace(QUIET, drops=1.0)
    clip = synth_clip(config, 0, BODY)
    assert clip.dropped.any()
    assert not clip.dropped.all()
    assert not clip.joint_visible[clip.dropped].any()
    assert clip.images[clip.dropped].any()


def test_as_a_sequence(clip: SynthClip) -> None:
    sequence = clip.sequence()
    assert sequence.labels is not None
    assert torch.equal(sequence.labels.keypoint_confidence > 0, clip.joint_visible)
    box = sequence.boxes_px
    assert torch.equal(box[:, 2:] > 0, torch.ones(len(clip), 2, dtype=torch.bool))
    assert sequence.times_s[1] == pytest.approx(1 / 30)
