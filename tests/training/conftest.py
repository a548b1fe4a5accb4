"""What the tests of training share."""

import pytest

from flowhmr.body import open_body
from flowhmr.records import Sequence
from flowhmr.synth import ClipConfig, PoolConfig, StillConfig, StillPool, render_clip


@pytest.fixture(scope="session")
def pool(tmp_path_factory) -> StillPool:
    """A few labelled stills."""
    config = PoolConfig(StillConfig(size_px=64), count=32, backgrounds=4, chunk=32)
    return StillPool(config, tmp_path_factory.mktemp("pool"), workers=1)


@pytest.fixture(scope="session")
def video() -> list[Sequence]:
    """Five frames."""
    return [render_clip(ClipConfig(frames=5, size_px=96), 0, open_body())]
