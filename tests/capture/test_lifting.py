"""From tracks to bodies in metres: where they stand, flow at the limbs, gaps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from flowhmr.body import COCO_17, BodyIdentityError, BodyModel, open_body
from flowhmr.cameras import (
    PerspectiveCamera,
    View,
    WeakCamera,
    crop_from_box,
    project_weak,
    translation_from_weak,
    view_of,
)
from flowhmr.capture import before_camera, default_camera, lift_track, limb_flows
from flowhmr.capture.engine import _rates
from flowhmr.capture.lifting import LimbFlow, corrected
from flowhmr.data import LIMB_POINTS, Journal, PersonTrack, VideoFrame, crops_along, track_input
from flowhmr.data.boxes import boxes_from_keypoints
from flowhmr.flow import FunctionFlow, flow_estimator
from flowhmr.geometry import map_tensors, rotmat_from_axis_angle
from flowhmr.networks import Lift, LiftConfig, MeanParams
from flowhmr.records import Estimate, Lifted, SceneMotion
from flowhmr.synth import mean_rotmats

SIZE = (320, 240)


@pytest.fixture(scope="module")
def body():
    return open_body()


@pytest.fixture(scope="module")
def network(body) -> Lift:
    torch.manual_seed(0)
    mean = MeanParams(mean_rotmats(), torch.zeros(10), body.body_id)
    lift = Lift(LiftConfig(width=16, dilations=(1, 2)), mean)
    # A fresh network says the same of everybody.
    torch.nn.init.normal_(lift.frame.weight, std=0.3)
    torch.nn.init.normal_(lift.shape.weight, std=0.3)
    torch.nn.init.normal_(lift.feet.weight, std=0.3)
    return lift.eval()


def standing(frames: list[int], seed: int = 0, shift_px: float = 3.0) -> PersonTrack:
    """Somebody upright, about 150 px tall, who moves to the right."""
    heights = {
        "nose": 40, "eye": 37, "ear": 40, "shoulder": 65, "elbow": 95, "wrist": 120, "hip": 120,
        "knee": 155, "ankle": 190,
    }  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    points = torch.zeros(len(frames), 17, 3)
    for row, frame in enumerate(frames):
        for k, name in enumerate(COCO_17.names):
            side = {"l": 12.0, "r": -12.0}.get(name[0], 0.0) * ("_" in name)
            x = 100 + side + shift_px * frame
            points[row, k] = torch.tensor([x, heights[name.split("_")[-1]], 0.9])
    points[..., :2] += torch.randn(points[..., :2].shape, generator=generator)
    boxes_px = boxes_from_keypoints(points)
    sure = torch.full((len(frames),), 0.9)
    return PersonTrack(0, torch.tensor(frames), boxes_px, sure, points)


def nothing(track: PersonTrack) -> LimbFlow:
    return LimbFlow(torch.zeros(len(track.frame_indices), LIMB_POINTS, 3))


def seen_bodies(body: BodyModel) -> tuple[Estimate, Tensor, View]:
    """Bodies in two views at the sides of a wide image, and the shape that they are to have."""
    boxes_px = torch.tensor([[40.0, 30.0, 60.0, 150.0], [220.0, 60.0, 70.0, 90.0]])
    camera = PerspectiveCamera(torch.tensor(150.0), torch.tensor([160.0, 120.0]))
    view = view_of(crop_from_box(boxes_px, 224), camera)
    generator = torch.Generator().manual_seed(3)
    rotmats = rotmat_from_axis_angle(0.7 * torch.randn(2, 24, 3, generator=generator))
    betas = torch.randn(2, 10, generator=generator)
    weak = WeakCamera(torch.tensor([[0.8, 0.1, -0.2], [1.1, -0.05, 0.3]]))
    return Estimate(body.params(rotmats, betas), weak), betas[0] + 0.5, view


def off_its_origin(body: BodyModel) -> BodyModel:
    """The open body's pelvis is within 5 mm of its origin, that of other bodies is not."""
    return replace(body, v_template=body.v_template + torch.tensor([0.2, -0.3, 0.1]))


@pytest.mark.parametrize("change", [lambda body: body, off_its_origin])
def test_bodies_are_the_same_in_the_view_and_before_the_camera(body, change):
    """Turned about the camera's centre: its axes are others, its place is not."""
    body = change(body)
    bodies, betas, view = seen_bodies(body)
    shape = betas.expand(2, -1).contiguous()
    rotmats, translation_m = before_camera(bodies, betas, view, body)
    assert torch.equal(rotmats[:, 1:], bodies.params.rotmats[:, 1:])
    # A weak camera's scale and shift, as a pinhole camera says them that shows the same angle.
    scale, shift = bodies.camera.scale[:, None], bodies.camera.shift
    ahead_m = torch.cat([shift / scale, 1 / (scale * view.half[:, None])], -1)

    def surface_and_joints(rotmats: Tensor) -> Tensor:
        params = body.params(rotmats, shape)
        return torch.cat([body.joints(params), body.mesh(params).verts], 1)

    in_view_m = surface_and_joints(bodies.params.rotmats) + ahead_m[:, None]
    in_camera_m = surface_and_joints(rotmats) + translation_m[:, None]
    assert_close(in_camera_m @ view.rotmats.mT, in_view_m, atol=2e-5, rtol=0)
    pelvis_m = surface_and_joints(rotmats)[:, 0].norm(dim=-1)
    assert (pelvis_m > 0.3).all() or change is not off_its_origin


def test_a_body_stands_where_its_view_shows_it(body):
    """At the depth of its origin a pinhole camera and the weak one of the view say the same."""
    body = off_its_origin(body)
    bodies, betas, view = seen_bodies(body)
    rotmats, translation_m = before_camera(bodies, betas, view, body)
    shape = betas.expand(2, -1).contiguous()
    # The body's own origin, found from its pelvis: how far that is in the view, turned back.
    pelvis_m = body.joints(body.params(rotmats, shape))[:, 0] + translation_m
    from_origin_m = body.joints(body.params(bodies.params.rotmats, shape))[:, :1]
    origin_m = pelvis_m - (from_origin_m @ view.rotmats)[:, 0]
    flat_m = torch.tensor([[0.0, 0.0, 0.0], [0.3, -0.5, 0.0]]).expand(2, -1, -1)
    points_m = origin_m[:, None] + flat_m @ view.rotmats
    seen = view.see(view.camera.project(points_m)[..., :2])
    expected = project_weak(flat_m, bodies.camera, 2)[..., :2] - 1
    assert_close(seen, expected, atol=1e-4, rtol=0)


def test_a_centred_body_is_only_moved(body):
    """Straight ahead the view is the camera, and the old rule of the weak camera holds."""
    bodies, betas, _ = seen_bodies(body)
    camera = PerspectiveCamera(torch.tensor(400.0), torch.tensor([160.0, 120.0]))
    crops = crop_from_box(torch.tensor([[110.0, 45.0, 100.0, 150.0]]).repeat(2, 1), 224)
    rotmats, translation_m = before_camera(bodies, betas, view_of(crops, camera), body)
    assert torch.equal(rotmats, bodies.params.rotmats)
    expected = translation_from_weak(bodies.camera, 400 * 224 / crops.side_px, 224)
    assert_close(translation_m, expected, atol=1e-5, rtol=0)


def test_the_default_camera_sees_53_degrees_across_the_diagonal():
    camera = default_camera((1280, 720))
    assert_close(camera.centre_px, torch.tensor([640.0, 360.0]))
    diagonal = np.hypot(1280, 720)
    across = 2 * np.degrees(np.arctan(diagonal / 2 / float(camera.focal_px)))
    assert across == pytest.approx(53.13, abs=0.01)
    assert float(default_camera((1280, 720), 900.0).focal_px) == 900.0


def frames_of(count: int, step_px: tuple[int, int]) -> list[VideoFrame]:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (SIZE[1] // 4 + 40, SIZE[0] // 4 + 40, 3), dtype=np.uint8)
    wide = wide.repeat(4, 0).repeat(4, 1)
    out = []
    for k in range(count):
        x, y = 60 - k * step_px[0], 60 - k * step_px[1]
        out.append(VideoFrame(k, k / 30, wide[y : y + SIZE[1], x : x + SIZE[0]].copy()))
    return out


def test_flow_at_the_limbs_is_that_of_the_image():
    track = standing([0, 1, 2], shift_px=4.0)
    (limbs,) = limb_flows(frames_of(3, (4, -2)), [track], flow_estimator("dis"))
    known = limbs.flow_px[..., 2] > 0
    assert known[:2].float().mean() > 0.8
    assert not known[2].any(), "there is no next frame"
    assert_close(
        limbs.flow_px[known][:, :2].median(0).values, torch.tensor([4.0, -2.0]), atol=0.3, rtol=0
    )
    assert not limbs.flow_px[~known].any()


def test_flow_is_read_only_between_neighbours_and_for_those_who_are_there():
    asked = []

    def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        asked.append(1)
        return np.zeros((*a.shape[:2], 2), np.float32)

    tracks = [standing([0, 1, 4]), replace(standing([3, 4]), person=1)]
    found = limb_flows(frames_of(6, (0, 0)), tracks, FunctionFlow(flow, "none"))
    assert len(asked) == 2 * 2, "frames 0 to 1 of the one, 3 to 4 of the other; both ways"
    assert [f.flow_px[..., 2].any(-1).tolist() for f in found] == [
        [True, False, False],
        [True, False],
    ]


def test_people_without_keypoints_are_named():
    track = replace(standing([0, 1]), keypoints_px=None, person=7)
    with pytest.raises(ValueError, match=r"person 7: got a track without keypoints; expected"):
        limb_flows(frames_of(2, (0, 0)), [track], flow_estimator("dis"))


def test_each_stretch_is_lifted_by_itself(network, body):
    camera = default_camera(SIZE)
    whole = standing([0, 1, 2, 3, 10, 11, 12])
    lifted = lift_track(network, whole, nothing(whole), camera, 30.0, body)
    motion = lifted.motion
    assert motion.frame_indices.tolist() == [0, 1, 2, 3, 10, 11, 12]
    assert torch.equal(motion.params.betas, motion.params.betas[:1].expand(7, -1))
    first = PersonTrack(
        0, whole.frame_indices[:4], whole.boxes_px[:4], whole.confidence[:4],
        None if whole.keypoints_px is None else whole.keypoints_px[:4],
    )  # fmt: skip
    alone = lift_track(network, first, nothing(first), camera, 30.0, body)
    assert_close(motion.params.rotmats[:4], alone.motion.params.rotmats)
    assert_close(lifted.stands[:4], alone.stands)
    # Shapes differ: with them, where the pelvis is.
    assert_close(motion.translation_m[:4], alone.motion.translation_m, atol=0.02, rtol=0)
    assert bool((motion.translation_m[:, 2] > 0).all())


def test_a_track_is_what_the_network_says_of_it_before_the_camera(network, body):
    """Bodies turned out of the views, and how likely each foot stands."""
    camera, track = default_camera(SIZE), standing([4, 5, 6, 7])
    lifted = lift_track(network, track, nothing(track), camera, 30.0, body)
    assert track.keypoints_px is not None
    crops = crops_along(track.keypoints_px)
    view = view_of(crops, camera)
    told = track_input(track.keypoints_px, crops, nothing(track).flow_px, view)
    with torch.no_grad():
        found: Lifted = map_tensors(network(map_tensors(told, lambda t: t[None])), lambda t: t[0])
    motion = lifted.motion
    expected = view.rotmats.mT @ found.bodies.params.rotmats[:, 0]
    assert_close(motion.params.rotmats[:, 0], expected, atol=1e-5, rtol=0)
    assert float((expected - found.bodies.params.rotmats[:, 0]).abs().max()) > 0.01
    assert_close(motion.params.rotmats[:, 1:], found.bodies.params.rotmats[:, 1:])
    _, translation_m = before_camera(found.bodies, motion.params.betas[0], view, body)
    assert_close(motion.translation_m, translation_m, atol=1e-5, rtol=0)
    assert_close(lifted.stands, 1 / (1 + torch.exp(-found.stands)))
    assert lifted.stands.shape == (4, 4)
    assert bool((found.stands < 0).any()), "log-odds: else shares would pass for them"


def test_flow_counts_as_it_would_at_thirty_frames_a_second(network, body):
    camera, track = default_camera(SIZE), standing(list(range(6)))
    flow = torch.zeros(6, LIMB_POINTS, 3)
    flow[:-1, :, 0], flow[:-1, :, 2] = 2.0, 1.0
    slow = lift_track(network, track, LimbFlow(flow), camera, 30.0, body)
    halved = flow * torch.tensor([0.5, 0.5, 1.0])
    fast = lift_track(network, track, LimbFlow(halved), camera, 60.0, body)
    assert_close(slow.motion.params.rotmats, fast.motion.params.rotmats)
    still = lift_track(network, track, nothing(track), camera, 30.0, body)
    assert float((slow.motion.params.rotmats - still.motion.params.rotmats).abs().max()) > 1e-3


def test_where_the_frame_rate_changes_flow_counts_frame_by_frame(network, body):
    camera, track = default_camera(SIZE), standing(list(range(6)))
    flow = torch.zeros(6, LIMB_POINTS, 3)
    flow[:-1, :, 0], flow[:-1, :, 2] = 2.0, 1.0
    even = lift_track(network, track, LimbFlow(flow), camera, 30.0, body)
    steps = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.0])
    uneven = flow * torch.stack([steps, steps, torch.ones(6)], -1)[:, None]
    same = lift_track(network, track, LimbFlow(uneven), camera, 30.0 / steps, body)
    assert_close(even.motion.params.rotmats, same.motion.params.rotmats)
    blind = lift_track(network, track, LimbFlow(uneven), camera, 30.0, body)
    assert float((blind.motion.params.rotmats - even.motion.params.rotmats).abs().max()) > 1e-3


def test_rates_follow_the_stamps_as_far_as_they_can_be_true():
    times_s = torch.tensor([0.0, 1, 2, 4, 5, 5, 30, 31, 32, 33]) / 25
    scene = SceneMotion((), default_camera(SIZE), SIZE, times_s)
    usual = scene.fps
    expected = [25.0, 25, 12.5, 25, usual, usual, 25, 25, 25, usual]
    assert_close(_rates(scene), torch.tensor(expected), atol=1e-3, rtol=0)
    assert _rates(replace(scene, times_s=times_s[:1])).tolist() == pytest.approx([30.0])


def test_frames_without_keypoints_are_bridged_and_a_stretch_of_them_is_left_out(network, body):
    camera, track = default_camera(SIZE), standing([0, 1, 2, 3, 20, 21])
    keypoints_px = track.keypoints_px
    assert keypoints_px is not None
    blind = keypoints_px.clone()
    blind[2] = 0
    blind[4:] = 0
    lifted = lift_track(
        network, replace(track, keypoints_px=blind), nothing(track), camera, 30.0, body
    )
    motion = lifted.motion
    assert motion.frame_indices.tolist() == [0, 1, 2, 3]
    assert bool(motion.translation_m.isfinite().all())
    assert len(lifted.stands) == 4
    assert bool(lifted.stands.isfinite().all())
    # Two keypoints are not enough to say where the person is.
    blind[4:, 3:5] = keypoints_px[4:, 3:5]
    barely = replace(track, keypoints_px=blind)
    again = lift_track(network, barely, nothing(track), camera, 30.0, body).motion
    assert again.frame_indices.tolist() == [0, 1, 2, 3]
    assert_close(again.translation_m, motion.translation_m)
    with pytest.raises(ValueError, match=r"person 0: got no frame with confident keypoints"):
        lift_track(
            network, replace(track, keypoints_px=0 * blind), nothing(track), camera, 30.0, body
        )


def test_a_network_of_another_body_is_refused(network, body):
    track = standing([0, 1])
    other = Lift(network.config, MeanParams(mean_rotmats(), torch.zeros(10), "another"))
    with pytest.raises(BodyIdentityError):
        lift_track(other, track, nothing(track), default_camera(SIZE), 30.0, body)


def test_what_the_network_is_told_follows_the_camera():
    """The longer the lens, the less of an angle a crop takes, and the less a view is turned."""
    track = standing([0, 1])
    assert track.keypoints_px is not None
    crops = crop_from_box(track.boxes_px, 224)

    def told(focal_px: float):
        view = view_of(crops, default_camera(SIZE, focal_px))
        return track_input(track.keypoints_px, crops, nothing(track).flow_px, view)

    near, far, further = told(80.0), told(4e4), told(4e5)
    assert_close(far.half, crops.side_px / 8e4, atol=0, rtol=1e-3)
    assert_close(far.half / further.half, torch.full((2,), 10.0), atol=0, rtol=1e-3)
    # The limit: the crop itself.
    flat = (track.keypoints_px[..., :2] - crops.centre_px[:, None]) / crops.side_px[:, None, None]
    assert_close(further.keypoints[..., :2], 2 * flat, atol=2e-3, rtol=0)
    assert float((near.keypoints - further.keypoints).abs().max()) > 0.05
    assert bool((near.half < 0.9 * crops.side_px / 160).all())


def test_a_pass_that_was_stopped_goes_on_where_it_was(tmp_path):
    """With a journal the flow of each pair is estimated once, whatever happens in between."""
    asked: list[int] = []

    def flow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        asked.append(1)
        return np.full((*a.shape[:2], 2), 0.37, np.float32)

    estimator = FunctionFlow(flow, "none")
    tracks = [standing([0, 1, 2, 3, 4]), replace(standing([2, 3]), person=1)]
    whole = limb_flows(frames_of(5, (0, 0)), tracks, estimator)
    per_pass = len(asked)

    class Stopped(RuntimeError): ...

    def until(frame: int) -> None:
        if frame == 2:
            raise Stopped

    asked.clear()
    path = tmp_path / "flow.jsonl"
    with pytest.raises(Stopped), Journal(path, {}) as journal:
        limb_flows(frames_of(5, (0, 0)), tracks, estimator, until, journal)
    assert 0 < len(asked) < per_pass
    with Journal(path, {}) as journal:
        resumed = limb_flows(frames_of(5, (0, 0)), tracks, estimator, None, journal)
    assert len(asked) == per_pass
    for a, b in zip(resumed, whole, strict=True):
        assert torch.equal(a.flow_px, b.flow_px)


# --- what the detector mistook


def test_sides_that_were_swapped_for_a_while_do_not_reach_the_network(network, body):
    track = standing(list(range(20)))
    swapped = track.keypoints_px.clone()
    swapped[8:12] = swapped[8:12, list(COCO_17.mirror)]
    camera = default_camera(SIZE)
    straight = lift_track(network, track, nothing(track), camera, 30.0, body).motion
    wrong = replace(track, keypoints_px=swapped)
    bent = lift_track(network, wrong, nothing(track), camera, 30.0, body).motion
    assert (bent.params.rotmats - straight.params.rotmats).abs().max() > 1e-2
    right, limbs = corrected(wrong, nothing(track))
    assert torch.equal(right.keypoints_px, track.keypoints_px)
    mended = lift_track(network, right, limbs, camera, 30.0, body).motion
    assert_close(mended.params.rotmats, straight.params.rotmats)
