"""Batch bodies are opened in one way: all that passed, in order, and never a part of a body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.codec import encode
from engine.block import (
    EngineEnvelope,
    Reporter,
    SessionGrant,
    SessionRevocation,
    SessionScope,
)
from engine.limits import SESSION_MARKETS_MAX, SUB_ACCOUNTS_MAX
from mempool.batch import BatchBody, encode_batch_body
from mempool.envelope import (
    NAMESPACE_ENGINE,
    BodyKind,
    Envelope,
    EnvelopeHeader,
    compute_body_digest,
)
from mempool.keys import (
    KEY_MARKETS_MAX,
    KEY_SUB_ACCOUNTS_MAX,
    AuthorizeKey,
    KeyChanges,
    KeyScope,
    RevokeKey,
)
from node.engine_input import OrderedBatch, make_block_input, open_batch

SENDER = bytes(31) + b"\x01"


def make_envelope(nonce, kind=BodyKind.PLAIN, body=None, signer=SENDER):
    body = b"body %d" % nonce if body is None else body
    header = EnvelopeHeader(
        chain_id=bytes(32),
        namespace=NAMESPACE_ENGINE,
        kind=kind,
        sender=SENDER,
        signer=signer,
        nonce=nonce,
        expiry_height=100,
        body_digest=compute_body_digest(body),
        body_size_bytes=len(body),
    )
    return Envelope(header, bytes(64), body)


def make_body(*envelopes):
    return encode_batch_body(BatchBody(tuple(encode(each) for each in envelopes), ()))


def opened(envelope):
    header = envelope.header
    return EngineEnvelope(header.envelope_id(), SENDER, header.nonce, envelope.body)


ENVELOPES = [make_envelope(nonce) for nonce in range(1, 6)]


@given(st.sets(st.integers(0, 4)))
def test_every_envelope_that_was_not_refused_reaches_the_engine_in_its_place(refused):
    batch = OrderedBatch(make_body(*ENVELOPES), tuple(sorted(refused)))
    expected = [opened(each) for index, each in enumerate(ENVELOPES) if index not in refused]
    assert list(open_batch(batch)) == expected


def test_of_key_changes_the_engine_gets_what_the_keys_may_do():
    key, other = b"k" * 32, b"o" * 32
    granted = AuthorizeKey(key, 500, KeyScope.CANCEL, (1, 2), (0, 3), 10**6)
    changes = encode(KeyChanges((granted, RevokeKey(other))))
    keys = make_envelope(9, BodyKind.KEYS, changes)
    body = make_body(ENVELOPES[0], keys, ENVELOPES[1])
    grant = SessionGrant(SENDER, key, SessionScope.CANCEL, 500, (1, 2), (0, 3), 10**6)
    revocation = SessionRevocation(SENDER, other)
    one, two = (opened(each) for each in ENVELOPES[:2])
    assert list(open_batch(OrderedBatch(body, ()))) == [one, grant, revocation, two]
    assert list(open_batch(OrderedBatch(body, (2,)))) == [one, grant, revocation]
    assert list(open_batch(OrderedBatch(body, (1,)))) == [one, two]
    batches = [OrderedBatch(body, ())]
    block = make_block_input(height=3, time_ms=4, seed=bytes(32), batches=batches, reporters=())
    assert (block.session_grants, block.session_revocations) == ((grant,), (revocation,))
    assert block.envelopes == (one, two)


def test_the_two_lists_of_scopes_mean_the_same():
    assert {each.name: each.value for each in KeyScope} == {
        each.name: each.value for each in SessionScope
    }
    assert KEY_MARKETS_MAX == SESSION_MARKETS_MAX
    assert KEY_SUB_ACCOUNTS_MAX == SUB_ACCOUNTS_MAX + 1


def test_key_changes_that_no_check_let_through_are_not_executed():
    body = make_body(make_envelope(9, BodyKind.KEYS))
    with pytest.raises(AssertionError):
        list(open_batch(OrderedBatch(body, ())))


def test_the_engine_is_told_of_a_session_key_and_of_no_other():
    signed = make_envelope(7, signer=b"k" * 32)
    (found,) = open_batch(OrderedBatch(make_body(signed), ()))
    assert found.signer == b"k" * 32
    (found,) = open_batch(OrderedBatch(make_body(ENVELOPES[0]), ()))
    assert found.signer == b""


def test_a_block_holds_its_batches_one_after_the_other():
    batches = [OrderedBatch(make_body(*ENVELOPES[:2]), (0,)), OrderedBatch(make_body(), ())]
    batches.append(OrderedBatch(make_body(*ENVELOPES[2:]), ()))
    block = make_block_input(
        height=3, time_ms=4, seed=bytes(32), batches=batches, reporters=(Reporter(SENDER, 7),)
    )
    assert block.envelopes == tuple(opened(each) for each in ENVELOPES[1:])
    assert (block.height, block.time_ms, block.seed) == (3, 4, bytes(32))
    assert block.reporters == (Reporter(SENDER, 7),)


GOOD = make_body(*ENVELOPES)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        GOOD[:-1],
        GOOD + b"\x00",
        b"\xdd\xff\xff\xff\xff",
        encode(BatchBody((encode(ENVELOPES[0]), b"\xc1"), ())),
    ],
)
def test_no_part_of_a_body_that_was_never_checked_is_executed(body):
    with pytest.raises(AssertionError):
        next(open_batch(OrderedBatch(body, ())))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading_in_another_way(body):
    with pytest.raises(AssertionError):
        list(open_batch(OrderedBatch(encode(BatchBody((b"x", body or b"x"), ())), ())))
