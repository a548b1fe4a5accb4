"""Camera electronics: the compiled path against its twin, and what each effect does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowhmr.synth.sensor import Sensor, expose, expose_reference, sample_sensor

SIZE = 32


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    torch.manual_seed(0)
    noise = torch.rand(3, 3, SIZE, SIZE)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, 1, 2, count_include_pad=False)
    return smooth.permute(0, 2, 3, 1).contiguous()


@pytest.fixture(scope="module")
def flow() -> torch.Tensor:
    torch.manual_seed(1)
    return 3 * torch.randn(3, SIZE, SIZE, 2)


def _levels(images: torch.Tensor) -> torch.Tensor:
    return (images.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def test_switched_off_it_changes_nothing(images: torch.Tensor, flow: torch.Tensor) -> None:
    assert torch.equal(expose(images, flow, Sensor()), _levels(images))
    assert Sensor().neutral


@pytest.mark.parametrize(
    "sensor",
    [
        Sensor(gain=(1.2, 0.9, 1.0)),
        Sensor(contrast=1.4, gamma=0.8),
        Sensor(vignette=0.3),
        Sensor(blur_px=0.8),
        Sensor(shutter=0.6),
        Sensor(noise=0.02, shot_noise=0.03, seed=5),
        Sensor(quality=30),
        *(sample_sensor(k, 160, np.random.default_rng(i))  # type: ignore[arg-type]
          for i, k in enumerate(("clean", "phone", "broadcast", "mixed"))),
    ],
)  # fmt: skip
def test_twin(images: torch.Tensor, flow: torch.Tensor, sensor: Sensor) -> None:
    fast, slow = expose(images, flow, sensor), expose_reference(images, flow, sensor)
    apart = (fast.int() - slow.int()).abs()
    # A coefficient on the edge of a quantiser's step may fall to either side.
    assert (apart > 1).float().mean() < 0.003
    assert not torch.equal(fast, _levels(images))


def test_noise_has_the_strength_that_was_asked_for() -> None:
    grey = torch.full((4, 64, 64, 3), 0.5)
    shown = expose(grey, None, Sensor(noise=0.03, seed=1)).float() / 255
    assert float(shown.std()) == pytest.approx(0.03, rel=0.05)
    assert float(shown.mean()) == pytest.approx(0.5, abs=0.003)
    flat = shown.flatten(1)
    # Frames, channels and neighbours are independent.
    assert abs(float(torch.corrcoef(flat[:2])[0, 1])) < 0.05
    assert abs(float(torch.corrcoef(torch.stack([flat[0, :-1], flat[0, 1:]]))[0, 1])) < 0.05
    other = expose(grey, None, Sensor(noise=0.03, seed=2)).float() / 255
    assert abs(float(torch.corrcoef(torch.stack([flat[0], other.flatten(1)[0]]))[0, 1])) < 0.05
    bright = expose(torch.full_like(grey, 0.8), None, Sensor(shot_noise=0.03, seed=1)).float()
    dark = expose(torch.full_like(grey, 0.1), None, Sensor(shot_noise=0.03, seed=1)).float()
    assert bright.std() > 2 * dark.std()


def test_compression_loses_more_at_lower_quality(images: torch.Tensor) -> None:
    def lost(quality: int) -> float:
        shown = expose(images, None, Sensor(quality=quality)).float() / 255
        return float((shown - images).square().mean())

    assert lost(95) < lost(60) < lost(20)
    flat = torch.full((1, 16, 16, 3), 100 / 255)
    assert (expose(flat, None, Sensor(quality=50)).int() - 100).abs().max() <= 3


def test_motion_blurs_along_the_motion_only() -> None:
    stripes = (torch.arange(SIZE) // 4 % 2).float()
    image = stripes[None, None, :, None].expand(1, SIZE, SIZE, 3).contiguous()
    along = torch.zeros(1, SIZE, SIZE, 2)
    along[..., 0] = 4
    across = along.flip(-1)
    sensor = Sensor(shutter=0.5)
    assert torch.equal(expose(image, across, sensor), _levels(image))
    assert expose(image, along, sensor).float().std() < 0.95 * _levels(image).float().std()


def test_automatic_exposure() -> None:
    sensor = Sensor(gain=(1.0, 1.1, 0.9), mean=0.4)
    assert sensor.metered(0.4) == replace(sensor, mean=0.0)
    assert sensor.metered(0.3).gain[0] == pytest.approx(4 / 3)
    # It cannot do wonders.
    assert sensor.metered(0.01).gain[0] == pytest.approx(2)
    assert sensor.metered(1.0).gain[0] == pytest.approx(2 / 3)
    assert Sensor().metered(0.1) == Sensor()
