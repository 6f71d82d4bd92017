"""What the tests of known bugs share."""

import pytest

from localnet.sim.solo import Solo


@pytest.fixture
def solo() -> Solo:
    """One core among scripted peers."""
    return Solo()
