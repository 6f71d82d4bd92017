"""The order as clients and the engine get it: every height once, in order, and whole.

What a block orders is worked out here from the blocks and the stored batches alone: of each lane,
by rising author, the batches above the lane's cursor up to the tip that the block names, oldest
first along the parents' digests.
"""

from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from consensus.effects import Store, compute_key
from consensus.types import Block
from crypto.codec import encode
from localnet.sim.node_world import NodeWorld
from localnet.sim.oracles.certificates import hash_parts
from localnet.sim.oracles.order import OneOrder
from localnet.sim.oracles.watchers import Watcher
from mempool.batch import decode_batch_body
from mempool.envelope import EnvelopeHeader
from mempool.nonce import NONCE_WINDOW
from node.events import BlockNotice, DeliveredNotice, Execute

OpaqueTransaction = tuple[int, bytes]
"""Its namespace and its bytes."""


class _Owed(NamedTuple):
    """One lane's part of a block: the batches above a sequence up to a tip."""

    author: int
    above: int
    sequence: int
    tip: bytes


class _Contents(NamedTuple):
    """What a block orders."""

    executed: tuple[bytes, ...]
    """Batches that hold envelopes, in their order."""
    envelopes: int


class Delivery(Watcher):
    """On each node and in each life: block notices rise by one from the archive's end, each on its
    parent; delivered heights rise by one from the newest that was recorded; the engine gets every
    height above its own, with the block's batches, each once and in order."""

    effects = (BlockNotice, DeliveredNotice, Execute)

    def __init__(self, world: NodeWorld, chain_id: bytes, exempt: Iterable[int] = ()) -> None:
        self._world = world
        self._chain_id = chain_id
        self.exempt = frozenset(exempt)
        self._ids = {0: hash_parts("rota/genesis/v1", chain_id)}
        self._owed: dict[int, tuple[_Owed, ...]] = {}
        self._cursors: dict[int, int] = {}
        self._contents: dict[int, _Contents] = {}
        self._ordered: set[bytes] = set()
        self.opaque: Counter[OpaqueTransaction] = Counter()
        """How often each opaque transaction is in the order."""
        self.noticed: dict[int, int] = {}
        """By host: the newest height that it told of or found in its archive."""
        self.delivered: dict[int, int] = {}
        self._executed: dict[int, int] = {}

    def on_start(self, index: int) -> None:
        disk = self._world.disk(index)
        self.noticed[index] = _find_last(disk.table(Store.ARCHIVE, "block"))
        self.delivered[index] = _find_last(disk.table(Store.ARCHIVE, "delivery"))
        self._executed[index] = self._world.engines[index].state.height

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case BlockNotice(block_id, block):
                self._on_block(index, block_id, block)
            case DeliveredNotice(height=height, envelopes=envelopes):
                self._step(index, self.delivered, height, "tells that it delivered")
                assert height <= self.noticed[index], f"node {index} delivers what is not committed"
                expected = self._open(index, height).envelopes
                assert envelopes == expected, (
                    f"node {index}: height {height} has {expected} envelopes, it tells {envelopes}"
                )
            case Execute(height=height, batches=batches):
                self._step(index, self._executed, height, "executes")
                given = tuple(batch.batch_id for batch in batches)
                assert given == self._open(index, height).executed, (
                    f"node {index} executes other batches than height {height} orders"
                )
            case _:
                pass

    def _step(self, index: int, newest: dict[int, int], height: int, what: str) -> None:
        last = newest[index]
        assert height == last + 1, f"node {index} {what} height {height} after {last}"
        newest[index] = height

    # ---- blocks --------------------------------------------------------------------------------

    def _on_block(self, index: int, block_id: bytes, block: Block) -> None:
        height = block.height
        self._step(index, self.noticed, height, "tells of")
        parent_id = self._ids.get(height - 1)
        assert block.parent_id == parent_id, f"node {index}: height {height} is not on its parent"
        known = self._ids.get(height)
        if known is None:
            known = hash_parts("rota/block/v1", self._chain_id, encode(block))
            self._ids[height] = known
            self._owed[height] = tuple(self._take(block))
        assert block_id == known, f"node {index}: height {height} under a false id"

    def _take(self, block: Block) -> Iterable[_Owed]:
        """Blocks become known in the order of their heights: whoever tells of one told of, or
        holds, its parent."""
        for certificate in block.lanes:
            data = certificate.data
            above = self._cursors.get(data.author, 0)
            assert data.sequence > above, f"height {block.height} orders lane {data.author} again"
            self._cursors[data.author] = data.sequence
            yield _Owed(data.author, above, data.sequence, data.batch_id)

    def _open(self, index: int, height: int) -> _Contents:
        """What a height orders, read once from the disk of a node that delivers it."""
        found = self._contents.get(height)
        if found is not None:
            return found
        assert height in self._owed, (
            f"node {index} delivers height {height}, which nobody committed"
        )
        disk = self._world.disk(index)
        executed: list[bytes] = []
        envelopes = 0
        for author, above, sequence, tip in self._owed.pop(height):
            chain: list[bytes] = []
            wanted = tip
            for place in range(sequence, above, -1):
                stored = disk.get(wanted)
                assert stored is not None, f"node {index} delivers height {height} without a batch"
                header, body = stored[0].header, stored[1]
                assert (header.author, header.sequence) == (author, place), (
                    f"height {height} orders a batch out of its place"
                )
                content = decode_batch_body(body)
                count = len(content.envelopes)
                for chunk in content.opaque:
                    size_bytes = chunk.transaction_size_bytes
                    self.opaque.update(split_opaque(chunk.namespace, size_bytes, chunk.data))
                assert wanted not in self._ordered, f"height {height} orders a batch again"
                self._ordered.add(wanted)
                envelopes += count
                if count:
                    chain.append(wanted)
                wanted = header.parent
            executed += reversed(chain)
        found = self._contents[height] = _Contents(tuple(executed), envelopes)
        return found

    # ---- the end -------------------------------------------------------------------------------

    def find_unarchived(self, running: Iterable[int], height: int, order: OneOrder) -> list[str]:
        """What is missing from archives: blocks and delivery records up to a height, and where
        each envelope passed."""
        passed = [(each, place) for each, place in order.passed.items() if place <= height]
        missing: list[str] = []
        for index in running:
            archive = self._world.disk(index).stores[Store.ARCHIVE]
            for name in ("block", "delivery"):
                table = archive.get(name, {})
                heights = [each for each in range(1, height + 1) if compute_key(each) not in table]
                if heights:
                    missing.append(f"node {index} has no {name} of heights {heights[:3]}")
            places = archive.get("envelope", {})
            if any(places.get(envelope_id) != compute_key(place) for envelope_id, place in passed):
                missing.append(f"node {index} does not know where every envelope passed")
        return missing

    def validate(
        self,
        running: Iterable[int],
        height: int,
        order: OneOrder,
        expiries: Mapping[bytes, int],
        genuine: Mapping[bytes, EnvelopeHeader],
    ) -> None:
        """At rest: everybody was told of all heights up to the one at which the last envelope was
        ordered; and what is ordered is executed, unless it had expired, or is refused everywhere
        for one reason. For what is `genuine` there are but two: so many envelopes of its key passed
        before it that its nonce had left the window; or its nonce was spent, as often as anything
        passed that is not genuine."""
        running = tuple(running)
        for index in running:
            told = (self.noticed[index], self.delivered[index], self._executed[index])
            assert min(told) >= height, (
                f"node {index} told of {told[0]}, delivered {told[1]} and executed {told[2]}"
                f" heights of {height}"
            )
            assert order.certified.get(index, 0) >= height, (
                f"node {index} never told that height {height} is certified"
            )
        missing = self.find_unarchived(running, height, order)
        assert not missing, "; ".join(missing)
        lost = {
            envelope_id: height
            for envelope_id, height in order.ordered.items()
            if envelope_id not in order.passed and expiries.get(envelope_id, 0) > height
        }
        overtaken = find_overtaken(order, genuine) if lost.keys() & genuine.keys() else frozenset()
        # Who replays what the same keys signed elsewhere may spend the nonce of one of ours each.
        foreign = sum(envelope_id not in genuine for envelope_id in order.passed)
        for envelope_id, ordered_height in lost.items():
            what = f"{envelope_id.hex()[:16]} is ordered at height {ordered_height}"
            reasons = {self.find_refusal(index, envelope_id) for index in running}
            if envelope_id in genuine and foreign and reasons == {b"nonce.duplicate"}:
                foreign -= 1
            elif envelope_id in genuine:
                assert envelope_id in overtaken, f"{what}, and not executed"
                assert reasons == {b"nonce.too_low"}, (
                    f"{what}, overtaken, and refused for {reasons}"
                )
            assert len(reasons) == 1, f"{what}, and refused for {reasons}"
            assert None not in reasons, f"{what}, and neither executed nor refused"

    def find_refusal(self, index: int, envelope_id: bytes) -> bytes | None:
        """Why a node's archive says that an envelope was refused; None for nothing."""
        return self._world.disk(index).stores[Store.ARCHIVE].get("refused", {}).get(envelope_id)


def find_overtaken(order: OneOrder, genuine: Mapping[bytes, EnvelopeHeader]) -> frozenset[bytes]:
    """The genuine envelopes that stand in the order behind more than `NONCE_WINDOW` of their own
    key with higher nonces: a client may have that many on their way, and lanes carry what it hands
    to several nodes past each other. What others passed may have spent a nonce of any key."""
    spent: defaultdict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    foreign = 0
    overtaken = set()
    # Stable: those of one height were noted in the order in which it holds them.
    for envelope_id, height in sorted(order.ordered.items(), key=lambda item: item[1]):
        is_passed = order.passed.get(envelope_id) == height
        header = genuine.get(envelope_id)
        if header is None:
            foreign += is_passed
            continue
        nonces = spent[header.sender, header.signer]
        if is_passed:
            insort(nonces, header.nonce)
        elif len(nonces) - bisect_right(nonces, header.nonce) + foreign > NONCE_WINDOW:
            overtaken.add(envelope_id)
    return frozenset(overtaken)


def split_opaque(namespace: int, size_bytes: int, data: bytes) -> Iterator[OpaqueTransaction]:
    """The transactions that lie back to back in some data."""
    for start in range(0, len(data), size_bytes):
        yield namespace, data[start : start + size_bytes]


def _find_last(table: Mapping[bytes, bytes]) -> int:
    """The newest height of an archived table; 0 for none."""
    return int.from_bytes(max(table, default=b""), "big")
