"""A member that hands different nodes different bytes under one batch id.

The id covers the header; the header covers the body by digest, and the author's signature not at
all. So the body must match before anything stores it, and a checked copy replaces one that came
with a bad signature. Otherwise nodes that stored the planted copy would execute other orders than
those that were certified, or halt at their next restart.
"""

from pathlib import Path

import pytest
from msgspec.structs import replace

from consensus.effects import BatchChecked, CheckBatch, Misbehaviour, Received, StoreBatch
from consensus.lane_limits import LanesConfig
from consensus.lanes import Lanes
from consensus.messages import BatchMessage
from consensus.types import BatchHeader, SignedBatchHeader
from crypto.digest import ZERO_DIGEST, Domain, bulk_digest
from localnet.sim.keys import CHAIN_ID, Keys
from node.storage.batches import BatchStore, StoredBatch

AUTHOR = 3
BODY = b"the body that was signed"
OTHER_BODY = b"the body that was planted"[: len(BODY)]


def make_batch(keys: Keys) -> BatchMessage:
    digest = bulk_digest(Domain.BATCH_BODY, BODY)
    header = BatchHeader(0, AUTHOR, 1, ZERO_DIGEST, digest, len(BODY))
    unsigned = SignedBatchHeader(header, bytes(64))
    secret = keys.identity_secrets[AUTHOR]
    signature = keys.identity_scheme.sign(secret, unsigned.author_signing_bytes(CHAIN_ID))
    return BatchMessage(SignedBatchHeader(header, signature), BODY)


def test_another_body_of_the_same_size_is_neither_stored_nor_checked() -> None:
    keys = Keys()
    lanes = Lanes(LanesConfig(), CHAIN_ID, keys.committee, me=0)
    lanes.start(0)
    planted = replace(make_batch(keys), body=OTHER_BODY)
    effects = lanes.step(0, Received(AUTHOR, planted))
    assert [type(each) for each in effects if not isinstance(each, Misbehaviour)] == []
    assert [each.code for each in effects if isinstance(each, Misbehaviour)] == [
        "lane.batch_malformed"
    ]


def test_the_right_body_is_still_taken_after_a_planted_one() -> None:
    keys = Keys()
    lanes = Lanes(LanesConfig(), CHAIN_ID, keys.committee, me=0)
    lanes.start(0)
    genuine = make_batch(keys)
    lanes.step(0, Received(AUTHOR, replace(genuine, body=OTHER_BODY)))
    effects = lanes.step(0, Received(AUTHOR, genuine))
    assert [each.body for each in effects if isinstance(each, StoreBatch)] == [BODY]
    assert [each.body for each in effects if isinstance(each, CheckBatch)] == [BODY]


@pytest.mark.parametrize("is_one_commit", [False, True])
def test_a_checked_copy_replaces_a_stored_one_with_another_signature(
    tmp_path: Path, is_one_commit: bool
) -> None:
    keys = Keys()
    genuine = make_batch(keys)
    batch_id = genuine.signed_header.header.batch_id(CHAIN_ID)
    forged = replace(genuine.signed_header, signature=bytes(64))
    store = BatchStore(tmp_path)
    try:
        copies = [StoredBatch(batch_id, each, BODY) for each in (forged, genuine.signed_header)]
        for group in [copies] if is_one_commit else [[each] for each in copies]:
            store.commit(group)
        assert store.get(batch_id) == (genuine.signed_header, BODY)
        assert [header for _, header in store.headers_above({})] == [genuine.signed_header]
    finally:
        store.close()
    reopened = BatchStore(tmp_path)
    try:
        assert reopened.get(batch_id) == (genuine.signed_header, BODY)
    finally:
        reopened.close()


def test_a_batch_with_a_bad_signature_loses_its_place_in_the_lane() -> None:
    keys = Keys()
    lanes = Lanes(LanesConfig(), CHAIN_ID, keys.committee, me=0)
    lanes.start(0)
    genuine = make_batch(keys)
    forged = replace(genuine, signed_header=replace(genuine.signed_header, signature=bytes(64)))
    effects = lanes.step(0, Received(AUTHOR, forged))
    (check,) = [each for each in effects if isinstance(each, CheckBatch)]
    lanes.step(1, BatchChecked(check.token, "batch.author_signature_invalid"))
    assert lanes.statistics().links == 0


def test_whoever_sent_a_bad_batch_is_named_with_the_part_that_is_bad() -> None:
    keys = Keys()
    lanes = Lanes(LanesConfig(), CHAIN_ID, keys.committee, me=0)
    lanes.start(0)
    batch = make_batch(keys)
    effects = lanes.step(0, Received(AUTHOR, batch))
    (check,) = [each for each in effects if isinstance(each, CheckBatch)]
    words = "envelope 3: envelope.signature_invalid"
    verdict = BatchChecked(check.token, "batch.envelope_invalid", detail=words)
    (told,) = [each for each in lanes.step(1, verdict) if isinstance(each, Misbehaviour)]
    batch_id = batch.signed_header.header.batch_id(CHAIN_ID)
    assert told == Misbehaviour(
        AUTHOR, "batch.envelope_invalid", f"batch {batch_id.hex()}: {words}"
    )
