"""Did any node sign two things where it may sign one? Asked of the durable records, after a run.

Each node's safety store names what it voted for in each recent view, what it timed out, proposed
and state-voted; the archives of all nodes hold every certificate of the chain, and a certificate
names who signed it. So each vote of a certificate must be the one vote that its signer recorded
for that view, and no signer's recorded timeout may deny a vote that it had given before.

The nodes must be down: a running node holds its safety store locked.
"""

from collections.abc import Iterator
from typing import Final

from msgspec import Struct

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.checkpoints import STATE_VOTE_TABLE
from consensus.safety import TIMEOUT_TABLE, VOTE_TABLE
from consensus.types import QC, Block, TimeoutData, VoteData
from crypto.bitmap import decode_bitmap
from crypto.codec import decode
from node.exit_codes import ExitCode, OperatorError
from node.network import Network
from node.recovery import height_key
from node.storage.archive import ArchiveStore
from node.storage.safety import SafetyStore

PAGE_RECORDS: Final = 512


class ContradictionError(OperatorError):
    """A node signed two things where one is allowed."""

    code = "audit.contradiction"
    exit_code = ExitCode.SAFETY


class NodeAudit(Struct, frozen=True):
    """One node's records."""

    name: str
    votes_recorded: int
    timeouts_recorded: int
    state_votes_recorded: int
    certificate_votes_checked: int
    """Signatures of this node in certificates that were held against its own record."""


class AuditReport(Struct, frozen=True):
    """The whole committee's."""

    nodes: tuple[NodeAudit, ...]
    certificates: int
    contradictions: tuple[str, ...]
    """What must never be; empty for an honest committee."""


def audit(network: Network) -> AuditReport:
    """Read all stores of a localnet that is down. Raises `OperatorError` if one cannot be read."""
    genesis = network.genesis()
    size = len(genesis.members)
    certified: dict[tuple[int, int], bytes] = {}
    contradictions: list[str] = []
    certificates = 0
    for node in network.nodes:
        archive = ArchiveStore(network.home(node.name).chain_path, owner=network.chain_id)
        try:
            for qc in _certificates(archive):
                certificates += 1
                for signer in decode_bitmap(qc.signers, size):
                    held = certified.setdefault((signer, qc.view), qc.block_id)
                    if held != qc.block_id:
                        name = genesis.members[signer].name
                        contradictions.append(f"{name} is in two certificates of view {qc.view}")
        finally:
            archive.close()
    nodes = []
    for index, member in enumerate(genesis.members):
        home = network.home(member.name)
        store = SafetyStore(home.safety_path, owner=network.chain_id + member.identity_key)
        try:
            records = store.load()
        finally:
            store.close()
        votes = {
            vote.view: vote
            for vote in (decode(VoteData, each) for each in records.get(VOTE_TABLE, {}).values())
        }
        timeouts = [decode(TimeoutData, each) for each in records.get(TIMEOUT_TABLE, {}).values()]
        checked = 0
        for view, vote in sorted(votes.items()):
            block_id = certified.get((index, view))
            if block_id is None:
                continue
            checked += 1
            if block_id != vote.block_id:
                contradictions.append(
                    f"{member.name} recorded one vote in view {view} and is certified with another"
                )
        for timeout in timeouts:
            has_voted = (index, timeout.view) in certified
            if has_voted and timeout.tip_view != timeout.view and timeout.view in votes:
                contradictions.append(
                    f"{member.name} voted in view {timeout.view} after leaving it"
                )
        nodes.append(
            NodeAudit(
                member.name,
                len(votes),
                len(timeouts),
                len(records.get(STATE_VOTE_TABLE, {})),
                checked,
            )
        )
    return AuditReport(tuple(nodes), certificates, tuple(contradictions))


def _certificates(archive: ArchiveStore) -> Iterator[QC]:
    """Every QC of the archived chain: each block's parent's, and those that stand beside."""
    height = 1
    while records := archive.read_range(ARCHIVE_BLOCK_TABLE, height_key(height), PAGE_RECORDS):
        for record in records:
            block = decode(Block, record.value)
            if block.height > 1:
                yield block.qc
            height = block.height + 1
            commit = archive.read(ARCHIVE_COMMIT_TABLE, record.key)
            if commit is not None:
                yield decode(QC, commit)
