"""Whoever begins with an empty disk, or an old one, gets to where the others are.

A member that lost its memory counts toward f: it may contradict what it signed. But it need not
lie to its own clients. Once everything is healed it comes to the others' height, blocks and
results, or it halts since it found out; only what it signs is not judged, and that one that follows
signs nothing. Who joined by a snapshot has the others' blocks and results from there on.
"""

from collections.abc import Iterable
from typing import Any

from consensus.effects import Halt, Sign, SignIdentity, Store, compute_key
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.certificates import hash_parts
from localnet.sim.oracles.watchers import Watcher
from localnet.verdicts import Verdict
from node.core import NodeCore


class Joining(Watcher):
    """See the module docstring."""

    effects = (Halt, Sign, SignIdentity)
    verdict = Verdict.LIVENESS

    def __init__(self, cluster: NodeCluster, hosts: Iterable[int]) -> None:
        """`hosts` lost their memory; liars and twins among them are not judged."""
        self._cluster = cluster
        dishonest = {*cluster.liars, *cluster.hosts[len(cluster.members) :], *cluster.twins}
        self._hosts = sorted(set(hosts) - dishonest)
        self._halted: set[int] = set()

    def on_start(self, index: int) -> None:
        self._halted.discard(index)

    def on_effect(self, index: int, effect: Any) -> None:
        if isinstance(effect, Halt):
            self._halted.add(index)
            return
        is_following = self._cluster.world.disk(index).is_following
        assert not is_following, f"node {index} signs, but has forgotten what it signed"

    def find_judged(self) -> list[int]:
        """The hosts that run, and found nothing to halt for."""
        world = self._cluster.world
        return [
            index for index in self._hosts if world.is_running(index) and index not in self._halted
        ]

    def find_behind(self, height: int) -> list[int]:
        """Who has not come to a certified height yet, or has not written its block."""
        cluster, key = self._cluster, compute_key(height)
        return [
            index
            for index in self.find_judged()
            if not isinstance(machine := cluster.world.hosts[index].machine, NodeCore)
            or machine.certified_height < height
            or (height and key not in cluster.world.disk(index).table(Store.ARCHIVE, "block"))
        ]

    def validate(self, height: int) -> None:
        """At the end: nobody is behind, and all blocks and results are those of the others."""
        cluster = self._cluster
        behind = self.find_behind(height)
        assert not behind, f"nodes {behind} do not come to height {height}: {cluster.describe()}"
        for index in self.find_judged():
            disk = cluster.world.disk(index)
            blocks = disk.table(Store.ARCHIVE, "block")
            # Who joined by a snapshot has no block below it.
            first = int.from_bytes(min(blocks), "big") if disk.is_following and blocks else 1
            for place in range(first, height + 1):
                encoded = blocks.get(compute_key(place))
                assert encoded is not None, f"node {index} has no block of height {place}"
                block_id = hash_parts("rota/block/v1", cluster.chain_id, encoded)
                assert block_id == cluster.order.blocks[place][0], (
                    f"node {index} has another block at height {place}"
                )
            for key, header in disk.table(Store.ARCHIVE, "checkpoint").items():
                known = cluster.order.headers.get(key, header)
                assert header == known, (
                    f"node {index} has another result at height {int.from_bytes(key, 'big')}"
                )
