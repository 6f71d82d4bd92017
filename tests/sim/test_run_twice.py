"""A test whose run cannot be repeated fails, whatever else it asks."""

from itertools import count

import pytest

from localnet.sim.nodes import NodeCluster
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule

QUIET = Schedule(seed=1, views=2)


def test_a_run_that_drifts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_schedule(QUIET).violation is None
    trade, runs = NodeCluster.trade, count(40)
    monkeypatch.setattr(
        NodeCluster, "trade", lambda self, _, duration_ms: trade(self, next(runs), duration_ms)
    )
    with pytest.raises(AssertionError, match=r"seed 1: [0-9a-f]+ and [0-9a-f]+"):
        run_schedule(QUIET)
