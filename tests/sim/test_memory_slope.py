"""A node that runs on and on weighs what it weighed: what the bound of `MemoryWeight` allows grows
with a run, so something that is kept of every message would pass there."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from consensus.certificates import CertificateCache
from localnet.sim.nodes import NodeCluster, make_config
from localnet.sim.oracles.memory import weigh
from node.core import NodeCore
from node.tracking import TRACKED_ENVELOPES_MAX, EnvelopeTracker

KEPT = 32
"""Of everything that is kept for a while, so that it is soon as much as it will be."""
STAGE_MS = 5_000
GROWTH_MAX_BYTES = 32_000
"""While hundreds of heights pass: windows of nonces and votes still fill up."""


@pytest.fixture
def little_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("committee.schedule.LEADER_CACHE_MAX", KEPT)
    monkeypatch.setattr("consensus.checkpoints.OWN_HEADERS_MAX", KEPT)
    monkeypatch.setattr("consensus.checkpoints.CERTIFIED_HEADERS_MAX", KEPT)
    monkeypatch.setattr("mempool.admission._STALE_EXPIRIES_MAX", KEPT)
    monkeypatch.setattr(CertificateCache.__init__, "__defaults__", (KEPT,))
    monkeypatch.setattr(EnvelopeTracker.__init__, "__defaults__", (TRACKED_ENVELOPES_MAX, KEPT))


def measure_growth() -> Iterator[tuple[int, int]]:
    """Of each node, the bytes at rest after two stages and after four."""
    config = make_config()
    config = replace(config, lanes=replace(config.lanes, links_retained_max=KEPT))
    cluster = NodeCluster(5, config=config)
    cluster.start()
    weights: list[list[int]] = []
    heights = []
    for _ in range(2):
        for _ in range(2):
            cluster.trade(60, STAGE_MS)
            cluster.world.run_for(STAGE_MS)
            cluster.stop_trading()
            cluster.come_to_rest()
        outside = (cluster.genesis, cluster.config, cluster.keys)
        weights.append([weigh(cluster.core(index), outside) for index in cluster.members])
        heights.append(cluster.lowest_committed())
    assert heights[1] > heights[0] + 300
    return zip(*weights, strict=True)


@pytest.mark.usefixtures("little_kept")
def test_a_node_that_runs_on_weighs_what_it_weighed() -> None:
    for before, after in measure_growth():
        assert after < before + GROWTH_MAX_BYTES


@pytest.mark.usefixtures("little_kept")
def test_a_word_kept_of_every_event_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    step = NodeCore.step

    def keep(self: NodeCore, now_ms: int, event: Any) -> list[Any]:
        self._delivery.__dict__.setdefault("kept", []).append(now_ms)
        return step(self, now_ms, event)

    monkeypatch.setattr(NodeCore, "step", keep)
    assert any(after >= before + GROWTH_MAX_BYTES for before, after in measure_growth())
