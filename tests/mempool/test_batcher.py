"""Batches by time and size, fair between flows, without work for each opaque transaction."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.types import BATCH_BODY_MAX_BYTES
from mempool.batch import (
    BATCH_CHUNKS_MAX,
    BATCH_ENVELOPES_MAX,
    OPAQUE_TRANSACTION_MAX_BYTES,
    BatchBody,
    decode_batch_body,
)
from mempool.batcher import (
    BATCH_FILL_MAX_BYTES,
    TURN_QUANTUM_BYTES,
    Batcher,
    BatcherConfig,
)
from mempool.envelope import ENVELOPE_SIZE_MAX_BYTES

SENDERS = [bytes([number]) * 32 for number in range(8)]


def take_when_due(batcher: Batcher) -> bytes | None:
    return batcher.take(batcher.next_deadline_ms() or 0)


def take(batcher: Batcher) -> BatchBody | None:
    body = take_when_due(batcher)
    return decode_batch_body(body) if body is not None else None


def take_all(batcher: Batcher) -> list[BatchBody]:
    bodies = []
    while (body := take(batcher)) is not None:
        bodies.append(body)
    return bodies


def test_nothing_is_due_while_nothing_waits():
    batcher = Batcher(BatcherConfig())
    assert batcher.next_deadline_ms() is None
    assert batcher.take(0) is None


def test_a_batch_is_due_a_fixed_time_after_its_first_item():
    batcher = Batcher(BatcherConfig(batch_interval_ms=5))
    batcher.add_envelope(100, SENDERS[0], b"first")
    batcher.add_envelope(103, SENDERS[0], b"second")
    assert batcher.next_deadline_ms() == 105
    assert batcher.take(104) is None
    assert decode_batch_body(batcher.take(105)).envelopes == (b"first", b"second")
    assert batcher.next_deadline_ms() is None
    batcher.add_envelope(200, SENDERS[0], b"third")
    assert batcher.next_deadline_ms() == 205
    assert take(batcher).envelopes == (b"third",)


def test_a_full_batch_is_due_at_once_and_the_rest_waits_anew():
    batcher = Batcher(BatcherConfig(batch_interval_ms=5, batch_size_bytes=100_000))
    for number in range(12):
        batcher.add_envelope(100 + number, SENDERS[number % 8], bytes(10_000))
    assert batcher.next_deadline_ms() <= 111
    assert len(decode_batch_body(batcher.take(111)).envelopes) == 10
    assert batcher.next_deadline_ms() == 116
    assert len(decode_batch_body(batcher.take(116)).envelopes) == 2


def test_one_senders_envelopes_keep_their_order():
    batcher = Batcher(BatcherConfig(batch_size_bytes=10_000))
    sent = [number.to_bytes(2, "big") * 500 for number in range(100)]
    for data in sent:
        batcher.add_envelope(0, SENDERS[0], data)
        batcher.add_envelope(0, SENDERS[1], bytes(3000))
    received = [data for body in take_all(batcher) for data in body.envelopes if len(data) == 1000]
    assert received == sent


def test_a_flood_delays_another_sender_by_one_turn_at_most():
    batcher = Batcher(BatcherConfig())
    for _ in range(3000):
        batcher.add_envelope(0, SENDERS[0], bytes(1000))
    batcher.add_envelope(0, SENDERS[1], b"small")
    batcher.add_opaque(0, "source", 1, 4, b"tiny")
    body = take(batcher)
    assert b"small" in body.envelopes
    assert [each.data for each in body.opaque] == [b"tiny"]


def test_an_opaque_flood_leaves_room_for_envelopes():
    batcher = Batcher(BatcherConfig())
    for _ in range(8):
        batcher.add_opaque(0, "flood", 1, 512, bytes(1 << 20))
    batcher.add_envelope(0, SENDERS[0], b"order")
    assert take(batcher).envelopes == (b"order",)


def test_flows_that_always_wait_share_the_lane_evenly():
    batcher = Batcher(BatcherConfig())
    sizes = {SENDERS[0]: 60_000, SENDERS[1]: 1000, SENDERS[2]: 300}
    for sender, size_bytes in sizes.items():
        for _ in range(3_000_000 // size_bytes):
            batcher.add_envelope(0, sender, bytes(size_bytes))
    moved = dict.fromkeys(sizes.values(), 0)
    for _ in range(8):
        for data in take(batcher).envelopes:
            moved[len(data)] += len(data)
    # Overhead counts against small items, and each flow may be one turn ahead.
    assert max(moved.values()) - min(moved.values()) < 5 * TURN_QUANTUM_BYTES


def test_a_withdrawn_envelope_never_enters_a_batch():
    batcher = Batcher(BatcherConfig())
    items = [batcher.add_envelope(0, SENDERS[0], data) for data in (b"a", b"b", b"c")]
    batcher.withdraw(items[1])
    batcher.withdraw(items[1])
    assert take(batcher).envelopes == (b"a", b"c")
    batcher.withdraw(items[0])
    assert batcher.waiting_bytes == 0


def test_husks_alone_make_no_batch_and_go_away():
    batcher = Batcher(BatcherConfig())
    batcher.withdraw(batcher.add_envelope(0, SENDERS[0], b"gone"))
    assert batcher.take(1000) is None
    assert batcher.next_deadline_ms() is None


def test_opaque_transactions_are_merged_by_kind_and_split_between_transactions():
    batcher = Batcher(BatcherConfig())
    stream = bytes(range(256)) * 6000  # 1.5 MB
    size_bytes = 300
    stream = stream[: len(stream) // size_bytes * size_bytes]
    half = len(stream) // 2 // size_bytes * size_bytes
    batcher.add_opaque(0, "one", 5, size_bytes, stream[:half])
    batcher.add_opaque(0, "one", 5, size_bytes, stream[half:])
    bodies = take_all(batcher)
    assert len(bodies) > 2
    assert all(len(body.opaque) == 1 for body in bodies)
    assert all(len(body.opaque[0].data) % size_bytes == 0 for body in bodies)
    assert b"".join(body.opaque[0].data for body in bodies) == stream
    assert batcher.waiting_bytes == batcher.waiting_opaque_bytes == 0


def test_the_largest_items_fit_a_turn_and_a_batch():
    batcher = Batcher(BatcherConfig())
    for _ in range(20):
        batcher.add_envelope(0, SENDERS[0], bytes(ENVELOPE_SIZE_MAX_BYTES))
        size_bytes = OPAQUE_TRANSACTION_MAX_BYTES
        batcher.add_opaque(0, "x", 1, size_bytes, bytes(size_bytes))
    bodies = take_all(batcher)
    assert sum(len(body.envelopes) for body in bodies) == 20
    assert sum(chunk.count for body in bodies for chunk in body.opaque) == 20


def test_a_batch_holds_a_bounded_number_of_envelopes():
    batcher = Batcher(BatcherConfig())
    for number in range(BATCH_ENVELOPES_MAX + 10):
        batcher.add_envelope(0, SENDERS[number % 8], b"x")
    assert [len(body.envelopes) for body in take_all(batcher)] == [BATCH_ENVELOPES_MAX, 10]


def test_more_kinds_of_opaque_transactions_than_a_batch_holds_wait_for_the_next():
    batcher = Batcher(BatcherConfig())
    for namespace in range(1, 2 * BATCH_CHUNKS_MAX + 2):
        batcher.add_opaque(0, "x", namespace, 1, b"x")
    bodies = take_all(batcher)
    assert [len(body.opaque) for body in bodies] == [BATCH_CHUNKS_MAX, BATCH_CHUNKS_MAX, 1]
    namespaces = [chunk.namespace for body in bodies for chunk in body.opaque]
    assert len(set(namespaces)) == 2 * BATCH_CHUNKS_MAX + 1


def count_calls(run) -> int:
    calls = 0

    def profile(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    previous = sys.getprofile()
    sys.setprofile(profile)
    try:
        run()
    finally:
        sys.setprofile(previous)
    return calls


def test_work_does_not_grow_with_the_number_of_opaque_transactions():
    """The same bytes as a million transactions cost what they cost as a thousand."""
    calls = []
    for size_bytes in (1, 1024):
        batcher = Batcher(BatcherConfig())
        batcher.add_opaque(0, "x", 1, size_bytes, bytes(1 << 20))
        calls.append(count_calls(lambda batcher=batcher: batcher.take(0)))
    assert calls[0] <= calls[1] + 20 < 1000


items = st.lists(
    st.one_of(
        st.tuples(st.just("envelope"), st.integers(0, 7), st.integers(1, ENVELOPE_SIZE_MAX_BYTES)),
        st.tuples(st.just("opaque"), st.integers(1, 3), st.integers(1, 5000)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@given(items, st.sampled_from([1, 1000, 70_000, BATCH_FILL_MAX_BYTES]))
@settings(max_examples=60, deadline=None)
def test_all_that_goes_in_comes_out_once_in_batches_of_legal_size(plan, batch_size_bytes):
    batcher = Batcher(BatcherConfig(batch_size_bytes=batch_size_bytes))
    put_in, opaque_in, bodies = [], 0, []
    for number, (kind, which, size) in enumerate(plan):
        if kind == "envelope":
            put_in.append(number.to_bytes(4, "big") + bytes(max(0, size - 4)))
            batcher.add_envelope(0, SENDERS[which], put_in[-1])
        elif kind == "opaque":
            batcher.add_opaque(0, which, which, 7 * which, bytes(7 * which * size))
            opaque_in += size
        elif (body := take_when_due(batcher)) is not None:
            bodies.append(body)
    while (body := take_when_due(batcher)) is not None:
        bodies.append(body)
    assert all(len(body) <= BATCH_BODY_MAX_BYTES for body in bodies)
    decoded = [decode_batch_body(body) for body in bodies]
    assert sorted(data for body in decoded for data in body.envelopes) == sorted(put_in)
    assert sum(chunk.count for body in decoded for chunk in body.opaque) == opaque_in
    assert batcher.waiting_bytes == batcher.waiting_opaque_bytes == 0
    assert batcher.next_deadline_ms() is None


@pytest.mark.parametrize("batch_size_bytes", [1, BATCH_FILL_MAX_BYTES])
def test_every_take_moves_something_while_anything_waits(batch_size_bytes):
    batcher = Batcher(BatcherConfig(batch_size_bytes=batch_size_bytes))
    for sender in SENDERS:
        batcher.add_envelope(0, sender, bytes(ENVELOPE_SIZE_MAX_BYTES))
    for _ in SENDERS:
        if batcher.waiting_bytes:
            assert take(batcher) is not None
    assert batcher.waiting_bytes == 0
