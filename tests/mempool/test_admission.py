"""One node's door: what it lets in, what it holds, and when it lets go."""

import pytest

from mempool.admission import (
    _STALE_EXPIRIES_MAX,
    OPAQUE_SOURCE_SHARE,
    OPAQUE_SUBMISSION_MAX_BYTES,
    SENDER_PENDING_MAX_BYTES,
    SENDER_PENDING_MAX_COUNT,
    Admission,
    AdmissionConfig,
    Candidate,
    Refusal,
)
from mempool.batch import OPAQUE_TRANSACTION_MAX_BYTES, decode_batch_body
from mempool.batcher import ITEM_OVERHEAD_BYTES, Batcher, BatcherConfig
from mempool.envelope import BODY_SIZE_MAX_BYTES, BodyKind
from mempool.ledger import FeeSchedule, HeaderLedger
from mempool.refusal import RefusalCode


class Door:
    """Admission with its batcher and ledger, at one moment."""

    def __init__(self, chain_id: bytes, ledger: HeaderLedger, config: AdmissionConfig) -> None:
        self.ledger = ledger
        self.now_ms = ledger.time_ms
        self.batcher = Batcher(BatcherConfig())
        self.admission = Admission(config, chain_id, ledger, self.batcher)

    def offer(self, data: bytes, is_signature_valid: bool = True) -> RefusalCode | None:
        checked = self.admission.precheck(self.now_ms, data)
        if isinstance(checked, Refusal):
            return checked.code
        return self.admission.admit(self.now_ms, checked, is_signature_valid)

    def order(self, *summaries) -> None:
        self.ledger.apply_block(self.ledger.height + 1, self.ledger.time_ms + 1, summaries)
        self.admission.on_ordered(summaries)

    def taken(self) -> tuple[bytes, ...]:
        body = self.batcher.take(self.batcher.next_deadline_ms() or 0)
        return decode_batch_body(body).envelopes if body is not None else ()


@pytest.fixture
def make_door(chain_id, make_ledger, alice, bob):
    def make(ledger: HeaderLedger | None = None, **limits) -> Door:
        return Door(chain_id, ledger or make_ledger(alice.key, bob.key), AdmissionConfig(**limits))

    return make


def test_an_admitted_envelope_waits_for_a_batch_and_is_pending_until_ordered(
    make_door, alice, time_ms
):
    door, data = make_door(), alice.envelope(time_ms)
    assert door.offer(data) is None
    assert (door.admission.pending_count, door.admission.pending_bytes) == (1, len(data))
    assert door.taken() == (data,)
    assert door.admission.pending_count == 1
    door.order(alice.summary(time_ms))
    assert (door.admission.pending_count, door.admission.pending_bytes) == (0, 0)
    assert door.offer(data) is RefusalCode.NONCE_DUPLICATE


def test_a_candidate_says_what_to_verify(make_door, alice, time_ms):
    candidate = make_door().admission.precheck(time_ms, alice.envelope(time_ms))
    assert isinstance(candidate, Candidate)
    header = alice.header(time_ms)
    assert candidate.claim.public_keys == (alice.key,)
    assert candidate.claim.message == header.signing_bytes()
    assert candidate.summary.envelope_id == header.envelope_id()


def test_a_forged_envelope_reserves_nothing(make_door, alice, bob, time_ms):
    door = make_door()
    forged = alice.envelope(time_ms, secret=bob.secret)
    assert door.offer(forged, is_signature_valid=False) is RefusalCode.SIGNATURE_INVALID
    assert door.admission.pending_count == 0
    assert door.offer(alice.envelope(time_ms)) is None


def test_a_refusal_names_the_envelope_once_it_could_be_read(make_door, alice, time_ms):
    door = make_door()
    assert door.admission.precheck(time_ms, b"junk") == Refusal(b"", RefusalCode.ENVELOPE_MALFORMED)
    expired = alice.envelope(time_ms, expiry_height=1)
    envelope_id = alice.header(time_ms, expiry_height=1).envelope_id()
    assert door.admission.precheck(time_ms, expired) == Refusal(envelope_id, RefusalCode.EXPIRED)


def test_what_the_ledger_would_refuse_is_refused_at_the_door(
    make_door, alice, make_trader, time_ms
):
    door = make_door()
    stranger = make_trader(50)
    for data, code in (
        (stranger.envelope(time_ms), RefusalCode.ACCOUNT_UNKNOWN),
        (
            alice.envelope(time_ms, signer=stranger.key, secret=stranger.secret),
            RefusalCode.KEY_UNAUTHORISED,
        ),
        (alice.envelope(1), RefusalCode.NONCE_TOO_OLD),
        (alice.envelope(time_ms, kind=BodyKind.SEALED), RefusalCode.KIND_UNSUPPORTED),
        (alice.envelope(time_ms, chain_id=bytes(32)), RefusalCode.WRONG_CHAIN),
    ):
        assert door.offer(data) is code


def test_the_same_envelope_and_the_same_nonce_are_told_apart(make_door, alice, time_ms):
    door = make_door()
    assert door.offer(alice.envelope(time_ms, b"buy")) is None
    assert door.offer(alice.envelope(time_ms, b"buy")) is RefusalCode.ENVELOPE_PENDING
    assert door.offer(alice.envelope(time_ms, b"sell")) is RefusalCode.NONCE_DUPLICATE


def test_of_two_candidates_with_one_nonce_the_second_is_refused(make_door, alice, time_ms):
    door = make_door()
    first, second = (
        door.admission.precheck(time_ms, alice.envelope(time_ms, body)) for body in (b"a", b"b")
    )
    assert door.admission.admit(time_ms, first, True) is None
    assert door.admission.admit(time_ms, second, True) is RefusalCode.NONCE_DUPLICATE


def test_pending_fees_are_reserved_and_released(make_door, alice, time_ms):
    ledger = HeaderLedger(time_ms, FeeSchedule(100, 0, 0))
    ledger.apply_credit(alice.key, 250)
    door = make_door(ledger)
    envelopes = [alice.envelope(time_ms + n, expiry_height=3) for n in range(3)]
    assert [door.offer(each) for each in envelopes] == [None, None, RefusalCode.FEE_INSUFFICIENT]
    door.order()
    door.order()
    assert door.offer(alice.envelope(time_ms + 2)) is None


def test_an_envelope_leaves_when_it_can_no_longer_be_ordered_in_time(make_door, alice, time_ms):
    door = make_door()
    soon, later = (alice.envelope(time_ms + n, expiry_height=3 + n) for n in range(2))
    assert door.offer(soon) is None
    assert door.offer(later) is None
    door.order()
    assert door.admission.pending_count == 2
    door.order()
    assert door.admission.pending_count == 1
    assert door.taken() == (later,)


def test_an_envelope_that_came_through_another_lane_leaves_the_queue(
    make_door, alice, bob, time_ms
):
    door = make_door()
    assert door.offer(alice.envelope(time_ms)) is None
    assert door.offer(bob.envelope(time_ms)) is None
    door.order(alice.summary(time_ms))
    assert door.taken() == (bob.envelope(time_ms),)


def test_an_envelope_whose_nonce_another_spent_leaves(make_door, alice, time_ms):
    door = make_door()
    assert door.offer(alice.envelope(time_ms, b"mine")) is None
    door.order(alice.summary(time_ms, b"refused", expiry_height=1))
    assert door.admission.pending_count == 1
    door.order(alice.summary(time_ms, b"other"))
    assert door.admission.pending_count == 0
    assert door.taken() == ()


def test_one_sender_is_bounded_by_count(make_door, alice, bob, time_ms):
    door = make_door()
    for number in range(SENDER_PENDING_MAX_COUNT):
        assert door.offer(alice.envelope(time_ms + number)) is None
    assert door.offer(alice.envelope(time_ms + 5000)) is RefusalCode.SENDER_FULL
    assert door.offer(bob.envelope(time_ms)) is None


def test_one_sender_is_bounded_by_bytes(make_door, alice, bob, time_ms):
    door, body = make_door(), bytes(BODY_SIZE_MAX_BYTES)
    number = 0
    while (code := door.offer(alice.envelope(time_ms + number, body))) is None:
        number += 1
    assert code is RefusalCode.SENDER_FULL
    assert door.admission.pending_bytes <= SENDER_PENDING_MAX_BYTES
    assert number == SENDER_PENDING_MAX_BYTES // len(alice.envelope(time_ms, body))
    assert door.offer(bob.envelope(time_ms)) is None


def test_the_pool_is_bounded_by_count_and_by_bytes(make_door, alice, bob, time_ms):
    door = make_door(pool_count=2)
    for number in range(2):
        assert door.offer(alice.envelope(time_ms + number)) is None
    assert door.offer(bob.envelope(time_ms)) is RefusalCode.POOL_FULL
    size_bytes = len(alice.envelope(time_ms))
    door = make_door(pool_size_bytes=2 * size_bytes - 1)
    assert door.offer(alice.envelope(time_ms)) is None
    assert door.offer(bob.envelope(time_ms)) is RefusalCode.POOL_FULL
    door.order(alice.summary(time_ms))
    assert door.offer(bob.envelope(time_ms)) is None


def test_bookkeeping_does_not_grow_with_what_was_ordered(make_door, alice, time_ms):
    door = make_door()
    for number in range(3000):
        nonce = time_ms + number
        assert door.offer(alice.envelope(nonce)) is None
        door.admission.on_ordered([alice.summary(nonce)])
    assert door.admission.pending_count == 0
    assert len(door.admission._expiries) <= _STALE_EXPIRIES_MAX


# ---- opaque --------------------------------------------------------------------------------


def test_opaque_transactions_are_admitted_whole_or_not_at_all(make_door, time_ms):
    door = make_door()
    for namespace, size_bytes, data in (
        (0, 1, b"x"),
        (2**32, 1, b"x"),
        (1, 0, b"x"),
        (1, 1, b""),
        (1, 2, b"xyz"),
        (1, OPAQUE_TRANSACTION_MAX_BYTES + 1, bytes(OPAQUE_TRANSACTION_MAX_BYTES + 1)),
        (1, 1, bytes(OPAQUE_SUBMISSION_MAX_BYTES + 1)),
    ):
        code = door.admission.admit_opaque(time_ms, "peer", namespace, size_bytes, data)
        assert code is RefusalCode.OPAQUE_MALFORMED
    assert door.batcher.waiting_bytes == 0
    assert door.admission.admit_opaque(time_ms, "peer", 1, 2, b"wxyz") is None
    body = decode_batch_body(door.batcher.take(door.batcher.next_deadline_ms() or 0))
    assert [(each.namespace, each.data) for each in body.opaque] == [(1, b"wxyz")]


def test_opaque_floods_are_bounded_for_each_source_and_in_all(make_door, time_ms):
    cost_bytes = 1000 + ITEM_OVERHEAD_BYTES
    door = make_door(pool_size_bytes=OPAQUE_SOURCE_SHARE * 2 * cost_bytes)

    def offer(source):
        return door.admission.admit_opaque(time_ms, source, 1, 10, bytes(1000))

    assert [offer("flood") for _ in range(3)] == [None, None, RefusalCode.SENDER_FULL]
    others = [offer(source) for source in "abc" for _ in range(2)]
    assert set(others) == {None}
    assert offer("late") is RefusalCode.POOL_FULL
    door.batcher.take(door.batcher.next_deadline_ms() or 0)
    assert offer("late") is None
