"""The open body, for every test of synthetic people."""

import pytest

from flowhmr.body import BodyModel, open_body


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return open_body()
