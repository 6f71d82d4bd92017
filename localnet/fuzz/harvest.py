"""Harvests the corpus from simulated clusters: what nodes sent, stored and asked for."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from consensus.effects import CheckBatch, Persist, VerifyIdentities
from consensus.evidence import decode_evidence
from consensus.messages import (
    BatchMessage,
    Message,
    SnapshotOffer,
    encode_message,
)
from consensus.types import Block
from crypto.codec import decode, encode
from crypto.mock import derive_test_secret
from engine.instructions import (
    Amend,
    ArmDeadMan,
    Bid,
    Bundle,
    Cancel,
    ConditionalOrder,
    Instruction,
    MarginMode,
    OnBehalf,
    OneCancelsOther,
    PlaceOrder,
    SetMarginMode,
    Side,
    TrailingStop,
    Transfer,
    TriggerKind,
    TriggerSource,
    TwapOrder,
    VolatilityReport,
    Withdraw,
)
from engine.snapshots.whole import snapshot
from localnet.fuzz.corpus import Corpus, kind_of
from localnet.fuzz.door_harvest import DoorHarvest
from localnet.fuzz.file_harvest import harvest_files
from localnet.fuzz.ground import SCHEDULE
from localnet.fuzz.worker_harvest import harvest_execution, harvest_workers
from localnet.sim.faults import CrashFault, LossFault, WipeFault
from localnet.sim.nodes import EXPIRY_HEIGHTS, NodeCluster
from localnet.sim.oracles.watchers import Execution, Watcher
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Liar, Schedule, Traffic
from localnet.sim.traders import BASE_PRICE_TICKS, MARKET
from mempool.batch import decode_batch_body
from mempool.envelope import (
    NAMESPACE_ENGINE,
    BodyKind,
    Envelope,
    EnvelopeHeader,
    compute_body_digest,
    decode_envelope,
)
from mempool.keys import AuthorizeKey, KeyChanges, KeyScope, RevokeKey
from node.events import VerifyEnvelopes
from node.offences import EVIDENCE_TABLE
from node.recovery import ORDER_SNAPSHOT_TABLE, OrderSnapshot
from node.storage.segments import encode_record
from node.workers.statements import encode_file

DOOR_HOST: Final = 0
"""Whose door is listened to; it is never down."""

RARE_FROM_MS: Final = 200
RARE_EVERY_MS: Final = 250
"""A session key can be revoked once it is in force."""

SCHEDULES: Final = (
    Schedule(
        seed=1,
        views=24,
        traffic=Traffic(interval_ms=40),
        faults=(
            LossFault(at_ms=0, duration_ms=400, permille=150),
            CrashFault(at_ms=100, duration_ms=500, host=1),
        ),
    ),
    Schedule(seed=1, views=14, liars=(Liar(member=3, behaviour="equivocating_leader_one"),)),
    Schedule(seed=3, views=110, faults=(WipeFault(at_ms=200, duration_ms=60_000, host=2),)),
    # Of the ground's own chain, or no offer would be taken there.
    Schedule(
        seed=SCHEDULE.seed,
        views=60,
        faults=(WipeFault(at_ms=700, duration_ms=200, host=2, is_joining=True),),
    ),
    *(
        Schedule(seed=2, views=12, liars=(Liar(member=3, behaviour=name),))
        for name in (
            "silent",
            "double_vote",
            "conflicting_timeouts",
            "equivocating_leader",
            "forked_lane",
            "double_state_vote",
        )
    ),
)
"""Between them every message, record and kind of evidence occurs."""


@lru_cache(maxsize=1)
def harvest() -> Corpus:
    """The corpus: always the same one, made once in a process."""
    corpus = Corpus()
    for schedule in SCHEDULES:
        reaper = _Reaper(corpus)
        outcome = run_schedule(schedule, reaper.watch)
        assert outcome.violation is None, f"a corpus of a broken run: {outcome.violation}"
        reaper.finish()
    harvest_files(corpus)
    return corpus


class _Reaper(Watcher):
    """Sees everything in one cluster."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._cluster: NodeCluster
        self._door: DoorHarvest

    def watch(self, cluster: NodeCluster) -> None:
        """What `run_schedule` calls before the run."""
        self._cluster = cluster
        self._door = DoorHarvest(self._corpus, cluster)
        cluster.world.observers.append(self)
        for number, envelope in enumerate(make_rare_envelopes(cluster)):
            cluster.world.after(RARE_FROM_MS + RARE_EVERY_MS * number, self._submit(envelope))

    def on_sent(self, index: int, message: Message) -> None:
        corpus = self._corpus
        corpus.add(kind_of("message", type(message)), encode_message(message))
        if isinstance(message, SnapshotOffer) and message.offer:
            corpus.add("offer", message.offer)
        if not isinstance(message, BatchMessage):
            return
        corpus.add("batch", message.body)
        signed = message.signed_header
        batch_id = signed.header.batch_id(self._cluster.chain_id)
        corpus.add("segment", b"".join(encode_record(batch_id, signed, message.body)))
        for data in decode_batch_body(message.body).envelopes:
            self._add_envelope(data)

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case Persist():
                for put in effect.puts:
                    self._corpus.add(f"record.{effect.store}.{put.table}", put.value)
                    self._add_parts(put.table, put.value)
            case CheckBatch() | VerifyEnvelopes() | VerifyIdentities():
                harvest_workers(self._corpus, self._cluster, effect)
            case _:
                pass
        if index == DOOR_HOST:
            self._door.on_effect(effect)

    def on_executed(self, index: int, execution: Execution) -> None:
        if index == DOOR_HOST:
            request, output = execution.request, execution.output
            harvest_execution(self._corpus, self._cluster, index, request, output)
            self._door.on_output(request.height, output)

    def finish(self) -> None:
        """What is left when the run is over."""
        corpus = self._corpus
        for index in self._cluster.running():
            state = self._cluster.world.engines[index].state
            corpus.add("snapshot", snapshot(state))
            corpus.add("statement", encode_file(self._cluster.chain_id, state))
        self._door.finish(list(corpus.select(("envelope.*",))), list(corpus.select(("answer.*",))))

    def _submit(self, envelope: bytes) -> Any:
        return lambda: self._cluster.submit(envelope, DOOR_HOST)

    def _add_envelope(self, data: bytes) -> None:
        envelope = decode_envelope(data)
        kind = envelope.header.kind
        self._corpus.add(f"envelope.{kind.name.lower()}", data)
        if kind is BodyKind.KEYS:
            self._corpus.add("keys", envelope.body)
            for change in decode(KeyChanges, envelope.body).changes:
                self._corpus.add(kind_of("key_change", type(change)), envelope.body)
        else:
            for instruction in decode(Bundle, envelope.body).instructions:
                self._corpus.add(kind_of("instruction", type(instruction)), envelope.body)

    def _add_parts(self, table: str, value: bytes) -> None:
        corpus = self._corpus
        if table == ORDER_SNAPSHOT_TABLE:
            found = decode(OrderSnapshot, value)
            corpus.add("order_state", encode((found.order_state, found.order_state_root)))
            corpus.add("ledger", encode((found.ledger, found.ledger_root)))
        elif table == EVIDENCE_TABLE:
            corpus.add(kind_of("evidence", type(decode_evidence(value))), value)
        elif table == "block":
            block = decode(Block, value)
            for each in (block.qc, block.tc, block.state_certificate, *block.lanes):
                if each is not None:
                    corpus.add(f"certificate.{type(each).__name__}", encode(each))


def make_rare_envelopes(cluster: NodeCluster) -> Iterator[bytes]:
    """What the simulator's own traders never send: other instructions, session keys."""
    secret = cluster.accounts[0]
    key = cluster.identity.public_key(derive_test_secret("session"))
    order = PlaceOrder(MARKET, Side.BUY, BASE_PRICE_TICKS - 400, 3, client_id=5)
    yield cluster.make_envelope(secret, [order])
    yield make_keys_envelope(
        cluster, KeyChanges((AuthorizeKey(key, 10**9, KeyScope.TRADE),)), nonce=500
    )
    yield cluster.make_envelope(secret, [Amend(0, 5, BASE_PRICE_TICKS - 401, 2)])
    yield cluster.make_envelope(secret, [Cancel(0, 5)])
    low = BASE_PRICE_TICKS - 400
    stop = ConditionalOrder(
        MARKET, Side.SELL, TriggerKind.STOP, TriggerSource.INDEX, low, low - 100, 1
    )
    trailing = TrailingStop(MARKET, Side.SELL, TriggerSource.LAST, 400, 100, 1)
    twap = TwapOrder(MARKET, Side.BUY, low, 4, 4_000, 1_000)
    waiting: list[Instruction] = [
        stop,
        trailing,
        OneCancelsOther(stop, trailing),
        twap,
        ArmDeadMan(60_000),
        SetMarginMode(MarginMode.PORTFOLIO),
        VolatilityReport(MARKET, (600_000, 500_000, 550_000), 1, 1_000),
        Bid(bytes(32), 250_000, 10_000),
    ]
    yield cluster.make_envelope(secret, waiting)
    receiver = cluster.identity.public_key(cluster.accounts[1])
    own = OnBehalf(1, PlaceOrder(MARKET, Side.BUY, low, 1))
    moves: list[Instruction] = [Withdraw(5, b"d" * 20), Transfer(7, receiver), Transfer(9, sub=1)]
    yield cluster.make_envelope(secret, [*moves, own])
    yield make_keys_envelope(cluster, KeyChanges((RevokeKey(key),)), nonce=501)


def make_keys_envelope(cluster: NodeCluster, changes: KeyChanges, nonce: int) -> bytes:
    """Session keys of the first account come or go."""
    secret = cluster.accounts[0]
    body, sender = encode(changes), cluster.identity.public_key(secret)
    header = EnvelopeHeader(
        chain_id=cluster.chain_id,
        namespace=NAMESPACE_ENGINE,
        kind=BodyKind.KEYS,
        sender=sender,
        signer=sender,
        nonce=nonce,
        expiry_height=EXPIRY_HEIGHTS,
        body_digest=compute_body_digest(body),
        body_size_bytes=len(body),
    )
    cluster.expiries[header.envelope_id()] = EXPIRY_HEIGHTS
    signature = cluster.identity.sign(secret, header.signing_bytes())
    return encode(Envelope(header, signature, body))
