"""What must hold for whole nodes: one order, one result, and every promise kept.

The oracles see what nodes ask their hosts for and what leaves their engines, never their insides.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from committee.committee import Committee
from consensus.effects import Alarm, Halt, Misbehaviour, Persist, Store
from consensus.evidence import decode_evidence, verify_evidence
from consensus.types import Block, CheckpointHeader, StateCertificate
from crypto.codec import decode
from crypto.scheme import IdentityScheme, SignatureScheme
from engine.apply import apply_block
from engine.block import BlockInput, BlockOutput, EngineEnvelope, Reporter
from engine.state import create_state
from localnet.sim.node_world import Batch, open_batch
from localnet.sim.oracles import Watcher
from mempool.batch import check_batch
from node.delivery import Delivery, compute_block_seed
from node.events import BlockNotice, CertifiedNotice, Execute, ReceiptUpdate
from node.genesis import Genesis
from node.protocol import ReceiptLevel
from node.recovery import CHECKPOINT_TABLE, DELIVERY_TABLE, make_genesis_order

_RANK: Final = {
    ReceiptLevel.RECEIVED: 0,
    ReceiptLevel.AVAILABLE: 1,
    ReceiptLevel.REFUSED: 2,
    ReceiptLevel.ORDERED: 3,
    ReceiptLevel.EXECUTED: 4,
}


class OneOrder(Watcher):
    """One block a height, delivered alike on every node and in every life."""

    def __init__(self, exempt: Iterable[int] = ()) -> None:
        """What `exempt` hosts say proves nothing."""
        self._exempt = frozenset(exempt)
        self.blocks: dict[int, tuple[bytes, Block]] = {}
        self.deliveries: dict[bytes, bytes] = {}
        self.headers: dict[bytes, bytes] = {}
        """Own checkpoints, by height: whoever executes a height gets the same."""
        self.certified: dict[int, int] = {}
        """Highest height that each node announced as certified."""
        self.executed: dict[int, tuple[Execute, bytes, bytes]] = {}
        self.ordered: dict[bytes, int] = {}
        """Envelope to the height of its first place in the order, passed or refused."""
        self.passed: dict[bytes, int] = {}
        self.fills = 0

    def on_effect(self, index: int, effect: Any) -> None:
        if index in self._exempt:
            return
        match effect:
            case BlockNotice(block_id, block):
                held = self.blocks.setdefault(block.height, (block_id, block))
                assert held[0] == block_id, f"node {index} disagrees at height {block.height}"
            case Persist(store=Store.ARCHIVE, puts=puts):
                for put in puts:
                    self._compare(index, put.table, put.key, put.value)
            case CertifiedNotice(certificate, own):
                self._check_certified(index, certificate, own)
            case _:
                pass

    def _compare(self, index: int, table: str, key: bytes, value: bytes) -> None:
        held = {DELIVERY_TABLE: self.deliveries, CHECKPOINT_TABLE: self.headers}.get(table)
        if held is not None:
            known = held.setdefault(key, value)
            height = int.from_bytes(key, "big")
            assert known == value, f"node {index}: another {table} at height {height}"

    def _check_certified(
        self, index: int, certificate: StateCertificate, own: tuple[CheckpointHeader, ...]
    ) -> None:
        heights = [header.height for header in own]
        assert heights == sorted(heights)
        assert own[-1] == certificate.header, "announced when the own result agrees"
        self.certified[index] = certificate.header.height

    def on_executed(
        self,
        index: int,
        request: Execute,
        verdicts: tuple[tuple[bytes, bool], ...],
        output: BlockOutput,
    ) -> None:
        """An engine finished a height."""
        if index in self._exempt:
            return
        result = (request, output.state_root, output.receipts_root)
        known = self.executed.get(request.height)
        if known is not None:
            assert known == result, f"node {index}: another result at height {request.height}"
            return
        self.executed[request.height] = result
        self.fills += len(output.fills)
        for envelope_id, passed in verdicts:
            self.ordered.setdefault(envelope_id, request.height)
            if passed:
                assert envelope_id not in self.passed, "an envelope is executed once"
                self.passed[envelope_id] = request.height


class Promises(Watcher):
    """Receipt levels only rise within one life of a node, and are never given in vain."""

    def __init__(self, exempt: Iterable[int] = ()) -> None:
        """The word of `exempt` hosts is worth nothing."""
        self._exempt = frozenset(exempt)
        self.levels: dict[int, dict[bytes, ReceiptLevel]] = {}
        self.available: set[bytes] = set()
        """Every envelope that any node ever declared available."""
        self.heights: dict[bytes, int] = {}
        self.refused: dict[bytes, str] = {}

    def on_start(self, index: int) -> None:
        self.levels[index] = {}

    def on_effect(self, index: int, effect: Any) -> None:
        if not isinstance(effect, ReceiptUpdate) or index in self._exempt:
            return
        levels, envelope_id = self.levels[index], effect.envelope_id
        known = levels.get(envelope_id)
        assert known is None or _RANK[known] < _RANK[effect.level], (
            f"node {index}: {effect.level} after {known}"
        )
        assert known is not ReceiptLevel.EXECUTED
        levels[envelope_id] = effect.level
        match effect.level:
            case ReceiptLevel.AVAILABLE:
                self.available.add(envelope_id)
            case ReceiptLevel.ORDERED | ReceiptLevel.EXECUTED:
                height = self.heights.setdefault(envelope_id, effect.height)
                assert height == effect.height, "an envelope keeps its height"
                assert envelope_id not in self.refused
            case ReceiptLevel.REFUSED:
                assert effect.code is not None
                self.refused[envelope_id] = effect.code
                assert envelope_id not in self.heights, "what passed is not refused"
            case ReceiptLevel.RECEIVED:
                pass

    def validate(self, order: OneOrder, expiries: Mapping[bytes, int], height: int) -> None:
        """At the end, with every node up: what was available is ordered, unless it expired, and
        whoever said `ordered` has said `executed`."""
        for envelope_id in sorted(self.available):
            is_expired = expiries[envelope_id] <= height
            assert envelope_id in order.ordered or is_expired, "available, but never ordered"
        for envelope_id in self.refused:
            assert envelope_id not in order.passed, "refused, yet executed"
        for index, levels in self.levels.items():
            for envelope_id, level in levels.items():
                if level is ReceiptLevel.ORDERED:
                    ordered_height = self.heights[envelope_id]
                    certified_height = order.certified.get(index, 0)
                    assert ordered_height > certified_height, (
                        f"node {index} certified {certified_height}, ordered {ordered_height}"
                    )


class Innocence(Watcher):
    """Nobody blames the honest, and no node halts."""

    def __init__(self, guilty: Iterable[int] = (), exempt: Iterable[int] | None = None) -> None:
        """Members that may be blamed, and the hosts (theirs, if not named) whose blame is void."""
        self._guilty = frozenset(guilty)
        self._exempt = self._guilty if exempt is None else frozenset(exempt)

    def on_effect(self, index: int, effect: Any) -> None:
        if index in self._exempt:
            return
        match effect:
            case Misbehaviour(member, code, detail):
                assert member in self._guilty, f"{index} blames {member}: {code} {detail}"
            case Halt(code, detail):
                raise AssertionError(f"{index} halts: {code} {detail}")
            case Alarm(code, detail):
                raise AssertionError(f"{index} raises an alarm: {code} {detail}")
            case _:
                pass


def replay(
    genesis: Genesis,
    archive: Mapping[bytes, bytes],
    batches: Mapping[bytes, Batch],
    scheme: SignatureScheme,
    identity_scheme: IdentityScheme,
) -> dict[int, tuple[bytes, bytes, bytes]]:
    """Execute an archived chain (`ARCHIVE_BLOCK_TABLE`) from genesis with nothing but its blocks
    and batches; returns (order root, market root, receipts root) by height."""
    chain_id, committee = genesis.chain_id(), genesis.committee()
    engine = create_state(genesis.engine)
    order_state, ledger = make_genesis_order(genesis, committee)
    reporters = tuple(Reporter(each.oracle_key, each.power) for each in committee.members)
    delivery = Delivery(order_state, ledger, lambda height: None)
    roots: dict[int, tuple[bytes, bytes, bytes]] = {}
    for key in sorted(archive):
        block = decode(Block, archive[key])
        ids = _walk(block, delivery, batches)
        for batch_id in ids:
            _add_summary(delivery, chain_id, committee, identity_scheme, batch_id, batches)
        delivery.add_block(block.block_id(chain_id), block, ids)
        if block.evidence:
            verdicts = tuple(
                verify_evidence(decode_evidence(each), committee, chain_id, scheme, identity_scheme)
                for each in block.evidence
            )
            delivery.judge_evidence(block.height, verdicts)
        delivered = delivery.advance()
        assert delivered is not None, "its batches are all here"
        opened: list[EngineEnvelope] = []
        for batch in delivered.batches:
            codes = [None if code is None else code.value for code in batch.verdicts]
            for envelope, passed in open_batch(batches[batch.batch_id][1], codes):
                if passed:
                    opened.append(envelope)
        seed = compute_block_seed(chain_id, block.height)
        output = apply_block(
            engine,
            BlockInput(block.height, block.time_ms, seed, tuple(opened), reporters=reporters),
        )
        roots[block.height] = (delivered.order_root, output.state_root, output.receipts_root)
    return roots


def _walk(block: Block, delivery: Delivery, batches: Mapping[bytes, Batch]) -> tuple[bytes, ...]:
    ids: list[bytes] = []
    for tip in block.lanes:
        chain: list[bytes] = []
        cursor = delivery.order_state.lane_cursor(tip.data.author).sequence
        batch_id, sequence = tip.data.batch_id, tip.data.sequence
        while sequence > cursor:
            chain.append(batch_id)
            batch_id, sequence = batches[batch_id][0].header.parent, sequence - 1
        ids += reversed(chain)
    return tuple(ids)


def _add_summary(
    delivery: Delivery,
    chain_id: bytes,
    committee: Committee,
    identity_scheme: IdentityScheme,
    batch_id: bytes,
    batches: Mapping[bytes, Batch],
) -> None:
    signed, body = batches[batch_id]
    verdict = check_batch(
        scheme=identity_scheme,
        chain_id=chain_id,
        author_key=committee.members[signed.header.author].identity_key,
        author_signing_bytes=signed.author_signing_bytes(chain_id),
        signature=signed.signature,
        body_digest=signed.header.body_digest,
        size_bytes=signed.header.size_bytes,
        body=body,
    )
    assert verdict.summary is not None, "stored batches are good"
    delivery.add_summary(batch_id, signed.header, verdict.summary)


def compare_replay(order: OneOrder, roots: Mapping[int, tuple[bytes, bytes, bytes]]) -> int:
    """Hold a replay against every checkpoint that any node made; returns how many there were."""
    compared = 0
    for value in order.headers.values():
        header = decode(CheckpointHeader, value)
        if header.height in roots:
            expected = (header.order_root, header.market_root, header.receipts_root)
            assert roots[header.height] == expected, f"replay differs at height {header.height}"
            compared += 1
    return compared
