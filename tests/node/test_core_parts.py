"""The parts of `NodeCore` alone: delivery, tracking, results, submissions."""

import pytest

from committee.state import OrderState
from consensus.effects import Token
from consensus.evidence import DoubleVote
from consensus.types import (
    AckData,
    AvailabilityCertificate,
    BatchHeader,
    Block,
    CheckpointHeader,
    StateCertificate,
    VoteData,
)
from crypto.codec import encode
from crypto.digest import Domain, digest
from engine.instructions import PlaceOrder, Side
from localnet.sim.keys import Keys
from localnet.sim.nodes import NodeCluster
from localnet.sim.traders import BASE_PRICE_TICKS, MARKET
from mempool.admission import Admission, AdmissionConfig
from mempool.batch import BatchSummary
from mempool.batcher import Batcher, BatcherConfig
from mempool.ledger import HeaderLedger
from mempool.validity import validate_envelope
from node.clerk import Clerk
from node.delivery import Delivery
from node.events import (
    EnvelopesSubmitted,
    EnvelopesVerified,
    NodeEffect,
    ReceiptUpdate,
    SubmitReply,
    VerifyEnvelopes,
)
from node.protocol import ReceiptLevel
from node.recovery import make_genesis_order
from node.results import UNSETTLED_CHECKPOINTS_MAX, Results
from node.submissions import VERIFYING_SOURCE_SHARE, Submissions
from node.tracking import EnvelopeTracker

ACCOUNT = b"\x0a" * 32


# ---- delivery --------------------------------------------------------------------------------


class Chain:
    """Blocks of one author's lane, and what the lanes would say of them."""

    def __init__(self, **limits: int) -> None:
        self.keys = Keys()
        committee = self.keys.committee
        self.batches: dict[int, tuple[bytes, ...] | None] = {}
        self.delivery = Delivery(
            OrderState(committee, 0), HeaderLedger(0), self.batches.get, **limits
        )
        self.height = 0

    def header(self, sequence: int, fork: int = 0) -> tuple[bytes, BatchHeader]:
        batch_id = digest(Domain.BATCH, bytes([fork]), sequence.to_bytes(8, "big"))
        return batch_id, BatchHeader(0, 1, sequence, bytes(32), batch_id, 1)

    def check(self, sequence: int, fork: int = 0) -> None:
        batch_id, header = self.header(sequence, fork)
        self.delivery.add_summary(batch_id, header, BatchSummary((), ()))

    def commit(self, tip: int | None = None, evidence: tuple[bytes, ...] = ()) -> Block:
        self.height += 1
        self.batches[self.height] = ()
        lanes: tuple[AvailabilityCertificate, ...] = ()
        if tip is not None:
            batch_id, _ = self.header(tip)
            lanes = (AvailabilityCertificate(AckData(0, 1, tip, batch_id), b"\x0f", bytes(96)),)
            cursor = self.delivery.order_state.lane_cursor(1).sequence
            self.batches[self.height] = tuple(
                self.header(each)[0] for each in range(cursor + 1, tip + 1)
            )
        genesis = self.keys.genesis
        block = Block(
            0, self.height, self.height, 0, bytes(32), self.height, lanes, (), b"", evidence, None,
            genesis, None,
        )  # fmt: skip
        self.delivery.add_block(bytes(32), block)
        return block


def test_blocks_wait_for_every_batch_and_go_in_height_order():
    chain = Chain()
    chain.commit(2)
    chain.commit()
    assert chain.delivery.advance() is None
    chain.check(2)
    assert chain.delivery.advance() is None, "an empty block does not overtake"
    chain.check(1)
    first, second = chain.delivery.advance(), chain.delivery.advance()
    assert first is not None
    assert second is not None
    assert [first.block.height, second.block.height] == [1, 2]
    assert [batch.batch_id for batch in first.batches] == [chain.header(each)[0] for each in (1, 2)]
    assert first.record().height == 1
    assert chain.delivery.advance() is None
    assert chain.delivery.summaries_held == chain.delivery.queued_blocks == 0


def test_a_gap_in_the_commits_is_a_bug():
    chain = Chain()
    chain.height = 1
    with pytest.raises(AssertionError):
        chain.commit()


def test_both_batches_of_a_fork_leave_memory_when_one_is_delivered():
    chain = Chain()
    chain.check(1)
    chain.check(1, fork=9)
    chain.check(2, fork=9)
    chain.commit(1)
    assert chain.delivery.advance() is not None
    assert chain.delivery.summary(chain.header(1, 9)[0]) is None
    assert chain.delivery.summaries_held == 1, "the place above is not decided yet"
    chain.check(1, fork=8)
    assert chain.delivery.summaries_held == 1, "too late to matter"


def make_evidence(offender: int = 2) -> bytes:
    first, second = (VoteData(0, 5, 5, bytes([each]) * 32) for each in (1, 2))
    return encode(DoubleVote(offender, first, b"\x01" * 96, second, b"\x01" * 96))


@pytest.mark.parametrize("convicts", [False, True])
def test_a_block_with_evidence_waits_for_the_verdict(convicts: bool):
    chain = Chain()
    chain.commit()
    chain.commit(evidence=(make_evidence(),))
    assert chain.delivery.advance() is not None
    assert chain.delivery.advance() is None
    chain.delivery.judge_evidence(2, (convicts,))
    delivered = chain.delivery.advance()
    assert delivered is not None
    assert [record.offender for record in delivered.convictions] == [2] * convicts
    assert chain.delivery.order_state.convictions() == delivered.convictions


def test_the_queue_is_full_at_its_two_limits():
    chain = Chain(queued_blocks_max=4, queued_loaded_blocks_max=2)
    chain.commit(1)
    chain.commit()
    chain.commit()
    assert not chain.delivery.is_full
    chain.commit()
    assert chain.delivery.is_full
    chain.check(1)
    while chain.delivery.advance():
        pass
    assert not chain.delivery.is_full
    chain.commit(2)
    assert not chain.delivery.is_full
    chain.commit(3)
    assert chain.delivery.is_full


# ---- tracking --------------------------------------------------------------------------------


def test_levels_rise_and_a_refusal_of_one_copy_yields_to_the_pass_of_another():
    tracker = EnvelopeTracker()
    name = b"\x01" * 32
    assert tracker.open(name, ACCOUNT, ReceiptLevel.AVAILABLE, 9)
    assert not tracker.open(name, ACCOUNT, ReceiptLevel.RECEIVED, 9)
    assert tracker.refuse(name, 3, "fee.insufficient")
    assert not tracker.open(name, ACCOUNT, ReceiptLevel.AVAILABLE, 9), "another copy of it"
    assert tracker.settle(name, ACCOUNT, ReceiptLevel.ORDERED, 4)
    assert not tracker.refuse(name, 5, "nonce.duplicate")
    status = tracker.status(name)
    assert status is not None
    assert status.has_passed
    assert (status.level, status.height, status.code) == (ReceiptLevel.ORDERED, 4, None)
    assert tracker.settle(name, ACCOUNT, ReceiptLevel.EXECUTED, 4)
    assert not tracker.settle(name, ACCOUNT, ReceiptLevel.EXECUTED, 4)


def test_of_an_envelope_that_is_not_remembered_no_refusal_is_told():
    tracker = EnvelopeTracker()
    assert not tracker.refuse(b"a" * 32, 5, "nonce.duplicate")
    assert tracker.status(b"a" * 32) is None


def test_what_is_open_at_the_height_where_it_expires_is_named_then_and_nothing_else():
    tracker = EnvelopeTracker()
    for letter in (b"a", b"b", b"c", b"d"):
        tracker.open(letter * 32, ACCOUNT, ReceiptLevel.AVAILABLE, 9)
    tracker.open(b"e" * 32, ACCOUNT, ReceiptLevel.RECEIVED, 10)
    tracker.settle(b"b" * 32, ACCOUNT, ReceiptLevel.ORDERED, 5)
    tracker.refuse(b"c" * 32, 5, "fee.insufficient")
    assert tracker.expiring_at(8) == []
    assert tracker.expiring_at(9) == [b"a" * 32, b"d" * 32]
    for letter in (b"a", b"d"):
        tracker.refuse(letter * 32, 9, "envelope.expired")
    assert tracker.expiring_at(9) == []
    assert tracker.open_count == 1


def test_the_memory_of_envelopes_is_bounded_oldest_out_first():
    tracker = EnvelopeTracker(capacity=3)
    for number in range(5):
        tracker.open(bytes([number]) * 32, ACCOUNT, ReceiptLevel.RECEIVED, 9)
    assert len(tracker) == tracker.open_count == 3
    assert tracker.status(bytes([1]) * 32) is None
    assert tracker.status(bytes([2]) * 32) is not None


def test_of_what_was_executed_the_newest_are_remembered_and_push_out_nothing_else():
    tracker = EnvelopeTracker(capacity=3, executed_capacity=2)
    tracker.open(b"a" * 32, ACCOUNT, ReceiptLevel.RECEIVED, 99)
    for number in range(5):
        name = bytes([number]) * 32
        tracker.settle(name, ACCOUNT, ReceiptLevel.ORDERED, number)
        tracker.settle(name, ACCOUNT, ReceiptLevel.EXECUTED, number)
        assert not tracker.settle(name, ACCOUNT, ReceiptLevel.EXECUTED, number)
    assert tracker.settle(b"\x05" * 32, ACCOUNT, ReceiptLevel.EXECUTED, 5), (
        "ordered before a restart"
    )
    assert len(tracker) == 3
    assert tracker.status(b"\x03" * 32) is None
    status = tracker.status(b"\x04" * 32)
    assert status is not None
    assert status.level is ReceiptLevel.EXECUTED
    assert tracker.status(b"a" * 32) is not None


def test_available_is_not_told_of_what_passed_in_an_earlier_life():
    """A member may put an old envelope into its lane again, and have the batch certified."""
    cluster = NodeCluster(1)
    order = PlaceOrder(MARKET, Side.BUY, BASE_PRICE_TICKS, 1)
    chain_id = cluster.genesis.chain_id()
    old, new = (
        validate_envelope(chain_id, cluster.make_envelope(cluster.accounts[0], [order]))[1]
        for _ in range(2)
    )
    _, ledger = make_genesis_order(cluster.genesis, cluster.genesis.committee())
    assert ledger.apply_block(1, ledger.time_ms + 1, [old]) == (None,)
    told: list[NodeEffect] = []
    Clerk(ledger).tell_available([old, new], told)
    assert [each.envelope_id for each in told if isinstance(each, ReceiptUpdate)] == [
        new.envelope_id
    ]


# ---- results ---------------------------------------------------------------------------------


def make_header(height: int) -> CheckpointHeader:
    roots = (bytes(32), bytes(32), bytes(32))
    return CheckpointHeader(0, height, bytes(32), height, *roots)


def certify(height: int) -> StateCertificate:
    return StateCertificate(make_header(height), b"\x0f", bytes(96))


def test_a_height_settles_when_certified_and_executed_and_settles_all_below():
    results = Results(0, None, None)
    for height in (1, 2, 3):
        results.add_passed(height, ((bytes([height]) * 32, ACCOUNT),))
        results.add_own(make_header(height))
    assert results.settle() is None
    results.add_certificate(certify(4))
    assert results.settle() is None
    results.add_certificate(certify(2))
    settled = results.settle()
    assert settled is not None
    notice, passed = settled
    assert notice.certificate.header.height == results.certified_height == 2
    assert [header.height for header in notice.own] == [1, 2]
    assert [height for height, _ in passed] == [1, 2]
    assert results.settle() is None
    results.add_own(make_header(4))
    settled = results.settle()
    assert settled is not None
    assert [height for height, _ in settled[1]] == [3]


def test_what_was_certified_in_an_earlier_life_is_settled_when_delivered_again():
    results = Results(10, make_header(8), certify(8))
    assert results.certified_height == 8
    results.add_passed(7, ((b"\x07" * 32, ACCOUNT),))
    results.add_passed(9, ((b"\x09" * 32, ACCOUNT),))
    assert [height for height, _ in results.take_settled()] == [7]


def test_a_certificate_ahead_of_the_engine_settles_when_the_engine_gets_there():
    results = Results(5, None, certify(8))
    assert results.certified_height == 5
    results.add_own(make_header(8))
    assert results.settle() is not None
    assert results.certified_height == 8


def test_unsettled_results_are_bounded():
    results = Results(0, None, None, unsettled_heights_max=3)
    count = UNSETTLED_CHECKPOINTS_MAX + 5
    for height in range(1, count + 1):
        results.add_own(make_header(height))
        results.add_passed(height, ((height.to_bytes(32, "big"), ACCOUNT),))
    results.add_certificate(certify(1))
    assert results.settle() is None, "forgotten"
    results.add_certificate(certify(count))
    settled = results.settle()
    assert settled is not None
    notice, passed = settled
    assert len(notice.own) == UNSETTLED_CHECKPOINTS_MAX
    assert [height for height, _ in passed] == [count - 2, count - 1, count]


# ---- submissions -----------------------------------------------------------------------------


class Door:
    """Clients' envelopes on their way through `Submissions`."""

    def __init__(self, size_max_bytes: int) -> None:
        self.cluster = NodeCluster(1)
        genesis = self.cluster.genesis
        _, ledger = make_genesis_order(genesis, genesis.committee())
        admission = Admission(
            AdmissionConfig(), genesis.chain_id(), ledger, Batcher(BatcherConfig())
        )
        self.submissions = Submissions(admission, size_max_bytes)
        self.requests = 0

    def envelope(self, account: int = 0) -> bytes:
        order = PlaceOrder(MARKET, Side.BUY, BASE_PRICE_TICKS, 1)
        return self.cluster.make_envelope(self.cluster.accounts[account], [order])

    def submit(self, source: int, *envelopes: bytes) -> SubmitReply | VerifyEnvelopes:
        self.requests += 1
        event = EnvelopesSubmitted(source, self.requests, envelopes)
        return self.submissions.submit(0, event, Token("node", self.requests))


def test_results_come_back_in_the_order_of_the_request():
    door = Door(1 << 20)
    good, forged = door.envelope(), door.envelope(1)
    verify = door.submit(1, b"junk", good, forged, good[:-1])
    assert isinstance(verify, VerifyEnvelopes)
    assert len(verify.claims) == 2
    reply, admitted = door.submissions.on_verified(
        0, EnvelopesVerified(verify.token, (True, False))
    )
    assert [result.code for result in reply.results] == [
        "envelope.malformed",
        None,
        "envelope.signature_invalid",
        "envelope.malformed",
    ]
    assert len(admitted) == 1
    assert door.submissions.size_bytes == 0


def test_signatures_under_verification_are_bounded_in_all_and_for_each_source():
    size_bytes = len(Door(1).envelope())
    door = Door(size_bytes * 2 * VERIFYING_SOURCE_SHARE)
    tokens = []
    for source in range(VERIFYING_SOURCE_SHARE):
        for _ in range(2):
            verify = door.submit(source, door.envelope())
            assert isinstance(verify, VerifyEnvelopes)
            tokens.append(verify.token)
        if source < VERIFYING_SOURCE_SHARE - 1:
            refused = door.submit(source, door.envelope())
            assert isinstance(refused, SubmitReply)
            assert refused.results[0].code == "pool.sender_full"
    refused = door.submit(99, door.envelope())
    assert isinstance(refused, SubmitReply)
    assert refused.results[0].code == "pool.full"
    for token in tokens:
        door.submissions.on_verified(0, EnvelopesVerified(token, (True,)))
    assert door.submissions.size_bytes == 0
    assert isinstance(door.submit(99, door.envelope()), VerifyEnvelopes)
