"""Evidence: who contradicts itself is convicted by everybody; who is only accused, by nobody."""

import pytest
from msgspec.structs import replace

from committee.state import EvidenceRecord
from consensus.effects import Misbehaviour, Store
from consensus.evidence import DoubleVote, make_double_batch
from consensus.messages import BatchMessage, StateVote
from consensus.types import BatchHeader, SignedBatchHeader, VoteData
from crypto.codec import encode
from crypto.digest import Domain, bulk_digest
from localnet.sim.links import Filter, Passage
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from mempool.batch import BatchBody, OpaqueChunk, encode_batch_body
from node.offences import EVIDENCE_TABLE, PendingEvidence


def make_rival(cluster: NodeCluster, header: BatchHeader) -> BatchMessage:
    """Another batch of the same author at the same place."""
    body = encode_batch_body(BatchBody((), (OpaqueChunk(7, 4, b"fork"),)))
    rival = BatchHeader(
        header.epoch,
        header.author,
        header.sequence,
        header.parent,
        bulk_digest(Domain.BATCH_BODY, body),
        len(body),
    )
    unsigned = SignedBatchHeader(rival, bytes(64))
    signature = cluster.identity.sign(
        cluster.keys.identity_secrets[header.author],
        unsigned.author_signing_bytes(cluster.chain_id),
    )
    return BatchMessage(SignedBatchHeader(rival, signature), body)


def let_member_3_fork_its_lane(cluster: NodeCluster) -> None:
    """The first batch that member 3 sends to node 0 is followed by a rival."""
    world = cluster.world
    is_done = False

    def watch(passage: Passage) -> bool:
        nonlocal is_done
        message = passage.message
        link = (passage.sender, passage.receiver)
        if isinstance(message, BatchMessage) and link == (3, 0) and not is_done:
            is_done = True
            world.inject(3, 0, make_rival(cluster, message.signed_header.header), delay_ms=7)
        return True

    world.rules = [Filter(watch)]


def convictions(cluster: NodeCluster) -> set[tuple[tuple[int, str], ...]]:
    return {cluster.core(index).statistics().convictions for index in cluster.members}


def test_an_author_of_two_batches_at_one_place_is_convicted_by_all():
    cluster = NodeCluster(1, guilty=(3,))
    let_member_3_fork_its_lane(cluster)
    cluster.start()
    cluster.trade(20, 800)
    cluster.run(800)
    cluster.settle()
    assert convictions(cluster) == {((3, "DoubleBatch"),)}
    assert all(not cluster.core(index).pending_evidence() for index in cluster.members)
    carried = [block for _, block in cluster.order.blocks.values() if block.evidence]
    # Once committed it is not offered again; leaders that had not heard of the commit may.
    assert 1 <= len(carried) <= 2


def test_who_signs_two_results_for_one_height_is_convicted_by_all():
    cluster = NodeCluster(8, guilty=(3,))
    world = cluster.world
    early_until_ms = world.now_ms + 400

    def let_member_3_sign_twice(passage: Passage) -> bool:
        message = passage.message
        is_early = passage.now_ms < early_until_ms
        is_for_0 = (passage.sender, passage.receiver) == (3, 0)
        if isinstance(message, StateVote) and is_for_0 and is_early:
            rival = replace(message.header, market_root=bytes(32))
            signing_bytes = rival.signing_bytes(cluster.chain_id)
            signature = cluster.keys.scheme.sign(cluster.keys.secrets[3], signing_bytes)
            world.inject(3, 0, StateVote(rival, 3, signature), delay_ms=1)
        return True

    world.rules = [Filter(let_member_3_sign_twice)]
    cluster.start()
    cluster.trade(20, 800)
    cluster.run(800)
    cluster.settle()
    assert convictions(cluster) == {((3, "DoubleStateVote"),)}


class _CrashWhenArchived(Watcher):
    """Kills a node when the evidence that it found is durable."""

    def __init__(self, cluster: NodeCluster) -> None:
        self._cluster = cluster
        self.has_crashed = False

    def on_durable(self, index, persist):
        is_evidence = any(put.table == EVIDENCE_TABLE for put in persist.puts)
        if persist.store is Store.ARCHIVE and is_evidence and not self.has_crashed:
            self.has_crashed = True
            self._cluster.world.after(0, self._cluster.crash)


def test_a_crash_of_all_nodes_forgets_no_offence():
    cluster = NodeCluster(2, guilty=(3,))
    let_member_3_fork_its_lane(cluster)
    crash = _CrashWhenArchived(cluster)
    cluster.world.observers.append(crash)
    cluster.start()
    cluster.trade(20, 600)
    cluster.run(600)
    assert crash.has_crashed
    assert not any(cluster.world.is_running(index) for index in cluster.members)
    cluster.settle()
    assert convictions(cluster) == {((3, "DoubleBatch"),)}


def make_false_accusations(cluster: NodeCluster) -> tuple[bytes, ...]:
    """Well-formed evidence against member 2, which never signed it."""
    first, second = (VoteData(0, 5, 5, bytes([each]) * 32) for each in (1, 2))
    votes = DoubleVote(2, first, b"\x01" * 96, second, b"\x01" * 96)
    headers = [
        SignedBatchHeader(BatchHeader(0, 2, 9, bytes([each]) * 32, bytes(32), 8), bytes(64))
        for each in (1, 2)
    ]
    return encode(votes), encode(make_double_batch(*headers))


@pytest.mark.parametrize("seed", [3, 4])
def test_a_leader_who_makes_evidence_up_convicts_nobody(seed: int):
    cluster = NodeCluster(seed)
    cluster.start()
    accusations = make_false_accusations(cluster)
    cluster.core(1).pending_evidence = lambda: accusations  # the lie
    cluster.trade(20, 800)
    cluster.run(800)
    cluster.crash(0)
    cluster.run(300)
    cluster.settle()
    carried = [block for _, block in cluster.order.blocks.values() if block.evidence]
    assert carried
    assert all(block.author == 1 for block in carried)
    assert convictions(cluster) == {()}


def test_false_evidence_does_not_shield_from_true_evidence():
    cluster = NodeCluster(5, guilty=(3,))
    let_member_3_fork_its_lane(cluster)
    headers = [
        SignedBatchHeader(BatchHeader(0, 3, 9, bytes([each]) * 32, bytes(32), 8), bytes(64))
        for each in (1, 2)
    ]
    shield = encode(make_double_batch(*headers))
    cluster.start()
    cluster.core(1).pending_evidence = lambda: (shield,)
    cluster.trade(20, 800)
    cluster.run(800)
    cluster.settle()
    assert convictions(cluster) == {((3, "DoubleBatch"),)}


def test_one_piece_is_kept_for_each_member_and_kind():
    cluster = NodeCluster(6)
    votes, batches = make_false_accusations(cluster)
    pending = PendingEvidence()
    assert pending.add(votes) is not None
    assert pending.add(votes) is None
    assert pending.add(batches) is not None
    assert pending.offered() == (batches, votes)
    pending.on_committed((votes,))
    assert pending.offered() == (batches,)
    pending.on_convicted([EvidenceRecord(bytes(32), 2, "DoubleBatch", 9)])
    assert pending.offered() == ()
    assert pending.add(batches) is None
    assert PendingEvidence((), (votes,)).offered() == (votes,)
    convicted = EvidenceRecord(bytes(32), 2, "DoubleVote", 9)
    assert PendingEvidence((convicted,), (votes,)).offered() == ()


def test_nobody_is_blamed_for_what_the_honest_do():
    cluster = NodeCluster(7)
    blamed = []

    class Blamed(Watcher):
        def on_effect(self, index, effect):
            if isinstance(effect, Misbehaviour):
                blamed.append(effect)

    cluster.world.observers.insert(0, Blamed())
    cluster.start()
    cluster.trade(20, 500)
    cluster.run(500)
    cluster.settle()
    assert not blamed
