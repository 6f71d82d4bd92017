"""What a member checks of a batch, and what makes an envelope valid by itself."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.codec import decode, encode
from crypto.digest import Domain, bulk_digest
from crypto.ed25519 import ED25519, public_key, sign
from crypto.types import BATCH_BODY_MAX_BYTES
from mempool.batch import (
    BATCH_CHUNKS_MAX,
    BATCH_DETAIL_MAX_CHARACTERS,
    BATCH_ENVELOPES_MAX,
    BatchBody,
    BatchError,
    BatchVerdict,
    CheckableBatch,
    OpaqueChunk,
    OpaqueSummary,
    check_batch,
    encode_batch_body,
    is_cheap_to_check,
    reopen_batch,
)
from mempool.envelope import BODY_SIZE_MAX_BYTES, ENVELOPE_SIZE_MAX_BYTES, BodyKind
from mempool.keys import (
    KEY_CHANGES_MAX,
    AuthorizeKey,
    KeyChanges,
    KeyScope,
    RevokeKey,
)
from mempool.refusal import RefusalCode
from mempool.validity import EnvelopeInvalidError, validate_envelope

AUTHOR_SECRET = b"a" * 32
SIGNED = b"the header's signing bytes"


def check(chain_id: bytes, body: bytes | BatchBody, **changes) -> BatchVerdict:
    data = body if isinstance(body, bytes) else encode(body)
    arguments = {
        "author_key": public_key(AUTHOR_SECRET),
        "author_signing_bytes": SIGNED,
        "signature": sign(AUTHOR_SECRET, SIGNED),
        "body_digest": bulk_digest(Domain.BATCH_BODY, data),
        "size_bytes": len(data),
        "body": data,
    }
    return check_batch(CheckableBatch(**(arguments | changes)), ED25519, chain_id)


def test_a_good_batch_is_summarised_without_its_bodies(chain_id, alice, bob):
    change = RevokeKey(bob.key)
    envelopes = (alice.envelope(1, b"x" * 5000), alice.key_envelope(2, change), bob.envelope(1))
    chunks = (OpaqueChunk(7, 4, b"abcdefgh"), OpaqueChunk(2, 3, b"abc"), OpaqueChunk(7, 2, b"ab"))
    verdict = check(chain_id, BatchBody(envelopes, chunks))
    assert verdict.error is None
    headers = [each.header for each in verdict.summary.envelopes]
    assert [header.sender for header in headers] == [alice.key, alice.key, bob.key]
    assert [each.key_changes for each in verdict.summary.envelopes] == [(), (change,), ()]
    assert verdict.summary.envelopes[0].envelope_id == headers[0].envelope_id()
    assert verdict.summary.opaque == (OpaqueSummary(2, 1, 3), OpaqueSummary(7, 3, 10))
    assert len(encode(verdict)) < 1500


def test_reopening_says_what_the_check_said_and_binds_the_body_but_not_its_signatures(
    chain_id, alice, bob
):
    chunks = (OpaqueChunk(7, 4, b"abcdefgh"),)
    body = encode(BatchBody((alice.envelope(1), bob.envelope(1)), chunks))
    body_digest = bulk_digest(Domain.BATCH_BODY, body)
    assert reopen_batch(body, body_digest, chain_id) == check(chain_id, body)
    assert check(chain_id, body, signature=bytes(64)).error is not None
    changed = body[:-1] + bytes([body[-1] ^ 1])
    for wrong in (reopen_batch(changed, body_digest, chain_id), reopen_batch(body, bytes(32), b"")):
        assert wrong == BatchVerdict(BatchError.BODY_MISMATCH)
    assert reopen_batch(body, body_digest, bytes(32)).error is BatchError.ENVELOPE_INVALID


def test_a_verdict_survives_the_way_back_from_a_worker(chain_id, alice, bob):
    change = AuthorizeKey(bob.key, 5, KeyScope.TRADE)
    verdict = check(chain_id, BatchBody((alice.key_envelope(1, change),), ()))
    assert decode(BatchVerdict, encode(verdict)) == verdict
    assert pickle.loads(pickle.dumps(verdict)) == verdict


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"size_bytes": 1}, BatchError.SIZE_MISMATCH),
        ({"body_digest": bytes(32)}, BatchError.BODY_MISMATCH),
        ({"author_key": bytes(32)}, BatchError.AUTHOR_SIGNATURE_INVALID),
        ({"author_signing_bytes": b"other"}, BatchError.AUTHOR_SIGNATURE_INVALID),
        ({"signature": bytes(64)}, BatchError.AUTHOR_SIGNATURE_INVALID),
        ({"signature": b""}, BatchError.AUTHOR_SIGNATURE_INVALID),
    ],
)
def test_a_body_that_is_not_its_headers_is_refused(chain_id, alice, changes, error):
    assert check(chain_id, BatchBody((alice.envelope(1),), ()), **changes).error is error


def test_malformed_empty_and_oversized_bodies_are_refused(chain_id, alice):
    assert check(chain_id, b"\xc1").error is BatchError.MALFORMED
    assert check(chain_id, encode(BatchBody((), ())) + b"\x00").error is BatchError.MALFORMED
    assert check(chain_id, BatchBody((), ())).error is BatchError.EMPTY
    assert check(chain_id, bytes(BATCH_BODY_MAX_BYTES + 1)).error is BatchError.TOO_LARGE
    many = BatchBody((b"x",) * (BATCH_ENVELOPES_MAX + 1), ())
    assert check(chain_id, many).error is BatchError.MALFORMED
    chunks = BatchBody((), (OpaqueChunk(1, 1, b"x"),) * (BATCH_CHUNKS_MAX + 1))
    assert check(chain_id, chunks).error is BatchError.MALFORMED


def test_opaque_bytes_are_whole_transactions_of_another_namespace(chain_id):
    ragged = BatchBody((), (OpaqueChunk(1, 2, b"ab"), OpaqueChunk(1, 2, b"abc")))
    assert check(chain_id, ragged) == BatchVerdict(
        BatchError.OPAQUE_INVALID, detail="chunk 1: not whole transactions"
    )
    for chunk in (OpaqueChunk(0, 1, b"x"), OpaqueChunk(1, 0, b"x"), OpaqueChunk(1, 1, b"")):
        assert check(chain_id, BatchBody((), (chunk,))).error is BatchError.MALFORMED


def invalid_envelopes(alice, bob):
    """One envelope for every reason why an envelope is invalid by itself."""
    change = RevokeKey(bob.key)
    twice = encode(KeyChanges((change, change)))
    many = encode(KeyChanges(tuple(RevokeKey(bytes([n]) * 32) for n in range(KEY_CHANGES_MAX + 1))))
    keys = {"kind": BodyKind.KEYS}
    return {
        RefusalCode.ENVELOPE_MALFORMED: [
            b"\x90",
            alice.envelope(1) + b"\x00",
            alice.envelope(1)[:-1],
        ],
        RefusalCode.WRONG_CHAIN: [alice.envelope(1, chain_id=bytes(32))],
        RefusalCode.NAMESPACE_UNSUPPORTED: [alice.envelope(1, namespace=1)],
        RefusalCode.KIND_UNSUPPORTED: [alice.envelope(1, kind=BodyKind.SEALED)],
        RefusalCode.BODY_MISMATCH: [
            alice.envelope(1, body_digest=bytes(32)),
            alice.envelope(1, body_size_bytes=3),
        ],
        RefusalCode.ROOT_KEY_REQUIRED: [
            alice.key_envelope(1, change, signer=bob.key, secret=bob.secret)
        ],
        RefusalCode.KEYS_MALFORMED: [
            alice.envelope(1, b"junk", **keys),
            alice.envelope(1, twice, **keys),
            alice.envelope(1, many, **keys),
            alice.envelope(1, encode(KeyChanges(())), **keys),
        ],
        RefusalCode.SIGNATURE_INVALID: [
            alice.envelope(1, secret=bob.secret),
            alice.envelope(1, signer=bob.key),
        ],
    }


def test_one_invalid_envelope_convicts_the_whole_batch_and_is_named(chain_id, alice, bob):
    good = alice.envelope(1)
    for code, envelopes in invalid_envelopes(alice, bob).items():
        for envelope in envelopes:
            verdict = check(chain_id, BatchBody((good, envelope, good), ()))
            expected = BatchVerdict(BatchError.ENVELOPE_INVALID, detail=f"envelope 1: {code.value}")
            assert verdict == expected


def test_the_words_of_a_verdict_are_bounded():
    longest = max(len(code.value) for code in RefusalCode)
    assert len(f"envelope {BATCH_ENVELOPES_MAX}: ") + longest <= BATCH_DETAIL_MAX_CHARACTERS


def test_an_envelope_too_large_is_refused_before_it_is_decoded(chain_id):
    with pytest.raises(EnvelopeInvalidError) as raised:
        validate_envelope(chain_id, bytes(ENVELOPE_SIZE_MAX_BYTES + 1))
    assert raised.value.code is RefusalCode.ENVELOPE_TOO_LARGE


def test_the_largest_body_fits_its_envelope(chain_id, alice):
    data = alice.envelope(2**63 - 1, bytes(BODY_SIZE_MAX_BYTES), expiry_height=2**63 - 1)
    assert len(data) <= ENVELOPE_SIZE_MAX_BYTES
    validate_envelope(chain_id, data)


@given(data=st.binary(max_size=300))
def test_any_bytes_whatsoever_get_a_verdict(chain_id, data):
    assert check(chain_id, data).error in (BatchError.MALFORMED, BatchError.EMPTY)


@given(position=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
def test_no_changed_byte_of_an_envelope_goes_unnoticed(chain_id, alice, position, flip):
    data = bytearray(alice.envelope(12345, b"some instructions"))
    data[position % len(data)] ^= flip
    verdict = check(chain_id, BatchBody((bytes(data),), ()))
    assert verdict.error is BatchError.ENVELOPE_INVALID


def test_only_bodies_without_envelopes_look_cheap_to_check() -> None:
    chunk = OpaqueChunk(1, 4, bytes(8))
    assert is_cheap_to_check(encode_batch_body(BatchBody((), (chunk,))))
    assert not is_cheap_to_check(encode_batch_body(BatchBody((b"envelope",), (chunk,))))
    assert not is_cheap_to_check(encode_batch_body(BatchBody((b"envelope",) * 20, ())))
    assert not is_cheap_to_check(b"")
