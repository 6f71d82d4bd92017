"""The audit finds a double signature in the durable records, and only there."""

from pathlib import Path

import pytest

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import Put
from consensus.safety import VOTE_TABLE, compute_key
from consensus.types import QC, Block, VoteData, genesis_qc
from crypto.bitmap import encode_bitmap
from crypto.codec import encode
from localnet.audit import audit
from localnet.network import create_network
from node.network import Network
from node.storage.archive import ArchiveStore
from node.storage.safety import RecordWrite, SafetyStore

VIEW = 1


def make_block(network: Network) -> Block:
    return Block(
        epoch=0,
        height=1,
        view=VIEW,
        author=0,
        parent_id=genesis_qc(network.chain_id).block_id,
        time_ms=2**40,
        lanes=(),
        inbox=(),
        openings=b"",
        evidence=(),
        state_certificate=None,
        qc=genesis_qc(network.chain_id),
        tc=None,
    )


def store_chain(network: Network, voted_for: dict[str, bytes]) -> None:
    """One certified block on every node, and a vote record for whatever each node is to say."""
    block = make_block(network)
    certified = VoteData(0, VIEW, 1, block.block_id(network.chain_id))
    qc = QC(certified, encode_bitmap((0, 1, 2), 4), bytes(96))
    key = compute_key(1)
    for member in network.genesis().members:
        home = network.home(member.name)
        archive = ArchiveStore(home.chain_path, owner=network.chain_id)
        archive.commit(
            [
                RecordWrite(
                    (
                        Put(ARCHIVE_BLOCK_TABLE, key, encode(block)),
                        Put(ARCHIVE_COMMIT_TABLE, key, encode(qc)),
                    )
                )
            ]
        )
        archive.close()
        vote = VoteData(0, VIEW, 1, voted_for.get(member.name, certified.block_id))
        owner = network.chain_id + member.identity_key
        safety = SafetyStore(home.safety_path, owner=owner, create=True)
        safety.commit([RecordWrite((Put(VOTE_TABLE, compute_key(VIEW), encode(vote)),))])
        safety.close()


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return create_network(tmp_path / "net", port_first=14_000)


def test_an_honest_committee_has_no_contradictions(network: Network) -> None:
    store_chain(network, {})
    report = audit(network)
    assert report.contradictions == ()
    checked = {node.name: node.certificate_votes_checked for node in report.nodes}
    assert checked == {"node0": 1, "node1": 1, "node2": 1, "node3": 0}


def test_a_vote_that_a_certificate_contradicts_is_found(network: Network) -> None:
    store_chain(network, {"node1": bytes(32)})
    report = audit(network)
    assert len(report.contradictions) == 1
    assert report.contradictions[0].startswith("node1 recorded one vote in view 1")
