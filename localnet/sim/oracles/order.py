"""One order: every node delivers the same blocks and comes to the same results."""

from collections.abc import Iterable, Mapping
from typing import Any

from consensus.effects import Persist, Store
from consensus.types import Block, CheckpointHeader, StateCertificate
from localnet.sim.oracles.watchers import Execution, Watcher
from node.events import BlockNotice, CertifiedNotice, Execute
from node.recovery import CHECKPOINT_TABLE, DELIVERY_TABLE


def shorten(digest: bytes) -> str:
    """A block, an envelope or a root in a sentence: as the trace has it."""
    return digest.hex()[:8]


class OneOrder(Watcher):
    """One block a height, delivered alike on every node and in every life."""

    effects = (BlockNotice, Persist, CertifiedNotice)

    def __init__(self, exempt: Iterable[int] = ()) -> None:
        """What `exempt` hosts say proves nothing."""
        self.exempt = frozenset(exempt)
        self.blocks: dict[int, tuple[bytes, Block]] = {}
        self.deliveries: dict[bytes, bytes] = {}
        self.headers: dict[bytes, bytes] = {}
        """Own checkpoints, by height: whoever executes a height gets the same."""
        self._compared = {DELIVERY_TABLE: self.deliveries, CHECKPOINT_TABLE: self.headers}
        self.certified: dict[int, int] = {}
        """Highest height that each node announced as certified."""
        self.executed: dict[int, tuple[Execute, bytes, bytes]] = {}
        self.ordered: dict[bytes, int] = {}
        """Envelope to the height of its first place in the order, passed or refused."""
        self.passed: dict[bytes, int] = {}
        self.fills = 0
        self._first: dict[tuple[str, int], int] = {}
        """By kind and height: the node that said it first."""

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case BlockNotice(block_id, block):
                height = block.height
                held, _ = self.blocks.setdefault(height, (block_id, block))
                first = self._first.setdefault(("block", height), index)
                assert held == block_id, (
                    f"node {index} disagrees at height {height}: it has block {shorten(block_id)},"
                    f" node {first} block {shorten(held)}"
                )
            case Persist(store=Store.ARCHIVE, puts=puts):
                for put in puts:
                    self._compare(index, put.table, put.key, put.value)
            case CertifiedNotice(certificate, own):
                self._check_certified(index, certificate, own)
            case _:
                pass

    def _compare(self, index: int, table: str, key: bytes, value: bytes) -> None:
        held = self._compared.get(table)
        if held is not None:
            known = held.setdefault(key, value)
            height = int.from_bytes(key, "big")
            first = self._first.setdefault((table, height), index)
            assert known == value, (
                f"node {index}: another {table} at height {height} than node {first}"
            )

    def _check_certified(
        self, index: int, certificate: StateCertificate, own: tuple[CheckpointHeader, ...]
    ) -> None:
        heights = [header.height for header in own]
        assert heights == sorted(heights)
        assert own[-1] == certificate.header, "announced when the own result agrees"
        self.certified[index] = certificate.header.height

    def on_executed(self, index: int, execution: Execution) -> None:
        request, ordered, passed, _, output = execution
        result = (request, output.state_root, output.receipts_root)
        known = self.executed.get(request.height)
        if known is not None:
            first = self._first.setdefault(("result", request.height), index)
            assert known == result, (
                f"node {index}: another result at height {request.height} than node {first}: state"
                f" roots {shorten(output.state_root)} and {shorten(known[1])}"
            )
            return
        self._first.setdefault(("result", request.height), index)
        self.executed[request.height] = result
        self.fills += len(output.fills)
        for envelope_id in ordered:
            self.ordered.setdefault(envelope_id, request.height)
        for envelope_id in passed:
            assert envelope_id not in self.passed, (
                f"envelope {shorten(envelope_id)} is executed at height {request.height} again,"
                f" after height {self.passed[envelope_id]}"
            )
            self.passed[envelope_id] = request.height


class Expiry(Watcher):
    """Nothing is executed at or above the height at which its sender let it expire."""

    def __init__(self, expiries: Mapping[bytes, int], exempt: Iterable[int] = ()) -> None:
        """`expiries` by envelope; it may grow."""
        self._expiries = expiries
        self.exempt = frozenset(exempt)

    def on_executed(self, index: int, execution: Execution) -> None:
        request, passed = execution.request, execution.passed
        for envelope_id in passed:
            expiry_height = self._expiries.get(envelope_id, request.height + 1)
            assert request.height < expiry_height, (
                f"node {index} executes at height {request.height} what expired at {expiry_height}"
            )
