"""Bounds that no other test reaches: each is driven to its limit and beyond."""

import pytest
from msgspec.structs import replace

from committee.committee import COMMITTEE_SIZE_MAX
from consensus.backoff import GROWTHS_MAX
from consensus.bans import Bans
from consensus.block_tree import BlockTree, make_root
from consensus.certificates import CERTIFICATES_MAX, CertificateCache
from consensus.evidence import EVIDENCE_SIZE_MAX_BYTES
from consensus.messages import (
    BULK_FRAME_MAX_BYTES,
    CONTROL_FRAME_MAX_BYTES,
    SYNC_RESPONSE_MAX_BYTES,
    Advance,
    BatchMessage,
    Proposal,
    Timeout,
    encode_message,
)
from consensus.proposals import PROPOSAL_VIEWS_BEHIND_MAX
from consensus.recovery import make_genesis_tip
from consensus.sync import ATTEMPTS_MAX, BlockSync
from consensus.types import (
    EVIDENCE_MAX_PER_BLOCK,
    INBOX_MESSAGES_MAX_PER_BLOCK,
    QC,
    TC,
    AckData,
    AvailabilityCertificate,
    BatchHeader,
    Block,
    CheckpointHeader,
    SignedBatchHeader,
    StateCertificate,
    TimeoutData,
    TimeoutGroup,
    VoteData,
)
from consensus.votes import VIEW_BEHIND_MAX
from crypto.codec import DecodeError, decode, encode
from crypto.digest import ZERO_DIGEST
from crypto.types import BATCH_BODY_MAX_BYTES
from localnet.sim.keys import CHAIN_ID, Keys
from localnet.sim.solo import Solo

TOP = 2**63 - 1
"""The largest number, which has the longest encoding."""
LIAR = 2
"""Leads view 1 under the default schedule."""


def make_largest_block() -> Block:
    """As large as a block of the largest committee can be that passes validation."""
    bitmap = bytes([255]) * (COMMITTEE_SIZE_MAX // 8)
    qc = QC(VoteData(TOP, TOP, TOP, ZERO_DIGEST), bitmap, bytes(96))
    group = TimeoutGroup(TOP, TOP, bitmap, bytes(96))
    roots = (ZERO_DIGEST, ZERO_DIGEST, ZERO_DIGEST)
    header = CheckpointHeader(TOP, TOP, ZERO_DIGEST, TOP, *roots)
    lanes = tuple(
        AvailabilityCertificate(AckData(TOP, author, TOP, ZERO_DIGEST), bitmap, bytes(96))
        for author in range(COMMITTEE_SIZE_MAX)
    )
    return Block(
        epoch=TOP,
        height=TOP,
        view=TOP,
        author=COMMITTEE_SIZE_MAX - 1,
        parent_id=ZERO_DIGEST,
        time_ms=TOP,
        lanes=lanes,
        inbox=(),
        openings=b"",
        evidence=(bytes(EVIDENCE_SIZE_MAX_BYTES),) * EVIDENCE_MAX_PER_BLOCK,
        state_certificate=StateCertificate(header, bitmap, bytes(96)),
        qc=qc,
        tc=TC(TOP, TOP, (group,) * COMMITTEE_SIZE_MAX, qc),
    )


def test_the_largest_control_messages_fit_their_frame():
    block = make_largest_block()
    assert block.tc is not None
    largest = [
        Proposal(block, TOP, COMMITTEE_SIZE_MAX - 1, bytes(96)),
        Timeout(TimeoutData(TOP, TOP, TOP, TOP), block.qc, block.tc, 1, bytes(96)),
        Advance(block.qc, block.tc),
    ]
    for message in largest:
        assert len(encode_message(message)) <= CONTROL_FRAME_MAX_BYTES


def test_the_largest_bulk_messages_fit_their_frame():
    # A response stops once it holds its limit, so the last block may reach beyond it.
    block_size_bytes = len(encode(make_largest_block()))
    assert SYNC_RESPONSE_MAX_BYTES + block_size_bytes + 1_000 <= BULK_FRAME_MAX_BYTES
    header = BatchHeader(TOP, 127, TOP, ZERO_DIGEST, ZERO_DIGEST, BATCH_BODY_MAX_BYTES)
    batch = BatchMessage(SignedBatchHeader(header, bytes(64)), bytes(BATCH_BODY_MAX_BYTES))
    assert len(encode_message(batch)) <= BULK_FRAME_MAX_BYTES


@pytest.mark.parametrize(
    ("field", "most"),
    [("evidence", EVIDENCE_MAX_PER_BLOCK), ("inbox", INBOX_MESSAGES_MAX_PER_BLOCK)],
)
def test_a_block_with_one_piece_too_many_does_not_decode(field, most):
    keys = Keys()
    block = keys.make_block(1, keys.genesis)
    full = replace(block, **{field: (b"x",) * most})
    assert decode(Block, encode(full)) == full
    with pytest.raises(DecodeError):
        decode(Block, encode(replace(block, **{field: (b"x",) * (most + 1)})))


def test_a_leader_with_much_evidence_leaves_the_rest_to_later_blocks():
    solo = Solo(me=LIAR, start=False)
    pending = tuple(bytes([number]) for number in range(EVIDENCE_MAX_PER_BLOCK + 3))
    solo.payload.evidence = pending
    solo.restart()
    solo.wait(solo.config.idle_interval_ms)
    (proposal,) = solo.proposals()
    assert proposal.block.evidence == pending[:EVIDENCE_MAX_PER_BLOCK]


def test_only_so_many_verified_certificates_are_remembered():
    cache = CertificateCache()
    for height in range(CERTIFICATES_MAX + 10):
        cache.add(QC(VoteData(0, height, height, ZERO_DIGEST), b"\x0f", bytes(96)))
    assert len(cache) == CERTIFICATES_MAX


def test_proposals_long_past_cost_no_verification_and_no_memory():
    solo = Solo()
    keys = solo.keys
    view = 3 * PROPOSAL_VIEWS_BEHIND_MAX
    solo.receive(0, Advance(keys.make_qc(keys.make_block(view - 1, keys.genesis)), None))
    assert solo.core.statistics().view == view
    before = solo.verified_claims
    for old in range(1, view - PROPOSAL_VIEWS_BEHIND_MAX):
        solo.propose(keys.make_block(old, keys.genesis, tc=keys.make_tc(old - 1, keys.genesis)))
    assert solo.verified_claims == before
    old = view - PROPOSAL_VIEWS_BEHIND_MAX
    solo.propose(keys.make_block(old, keys.genesis, tc=keys.make_tc(old - 1, keys.genesis)))
    assert solo.verified_claims > before


def test_votes_further_behind_than_the_limit_are_not_kept():
    solo = Solo(me=LIAR)
    keys = solo.keys
    collected = [view for view in range(10, 100) if LIAR in keys.schedule.collectors(view)]
    old = next(view for view in collected if view + 1 in collected)
    view = old + 1 + VIEW_BEHIND_MAX
    solo.receive(0, Advance(keys.make_qc(keys.make_block(view - 1, keys.genesis)), None))
    solo.receive(0, keys.make_vote(0, keys.make_block(old, keys.genesis)))
    assert solo.core.statistics().pending_votes == 0
    solo.receive(0, keys.make_vote(0, keys.make_block(old + 1, keys.genesis)))
    assert solo.core.statistics().pending_votes == 1
    assert solo.refusals == []


def test_waits_for_a_missing_block_grow_up_to_a_limit():
    keys = Keys()
    tree = BlockTree(make_root(make_genesis_tip(CHAIN_ID, keys.committee, 0)))
    sync = BlockSync(CHAIN_ID, 4, 0, tree, retry_ms=64, bans=Bans())
    now_ms, waits = 0, []
    sync.want(keys.make_qc(keys.make_block(1, keys.genesis)))
    while sync.next_requests(now_ms):
        deadline_ms = sync.compute_deadline_ms(now_ms)
        waits.append(deadline_ms - now_ms)
        now_ms = deadline_ms
        sync.expire(now_ms)
    assert len(waits) == ATTEMPTS_MAX
    assert waits == sorted(waits)
    assert waits[GROWTHS_MAX:] == [729] * (ATTEMPTS_MAX - GROWTHS_MAX)
