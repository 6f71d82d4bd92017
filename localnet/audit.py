"""Did any node sign two things where it may sign one? Asked of the durable records, after a run.

What a node signed stands twice: in its own safety store, which it writes before it signs, and in
the archives of all nodes, which hold every certificate of the chain (naming who signed) and every
block (naming who proposed). The two must tell one story:

| signed | own record | held against |
|---|---|---|
| vote of a view | block id | the QCs of that view |
| state vote of a height | checkpoint header | the state certificates of that height |
| proposal of a view | block id | the archived block of that view and author |
| timeout of a view | the newest vote it names | own and certified votes of that view |

A safety store forgets what lies far behind, so a signature older than its oldest record of the kind
says nothing; a newer one without a record is a contradiction as well.

The nodes must be down: a running node holds its safety store locked.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

from msgspec import Struct

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import compute_key
from consensus.safety import PROPOSAL_TABLE, TIMEOUT_TABLE, VOTE_TABLE
from consensus.state_signer import STATE_VOTE_TABLE
from consensus.types import (
    QC,
    Block,
    CheckpointHeader,
    StateCertificate,
    TimeoutData,
    VoteData,
)
from crypto.bitmap import decode_bitmap
from crypto.codec import decode
from localnet.control import is_supervised, running_error
from node.exit_codes import ExitCode, OperatorError
from node.genesis import Genesis
from node.network import Network
from node.recovery import CERTIFICATE_BY_HEIGHT_TABLE
from node.storage.archive import ArchiveStore
from node.storage.records import Record
from node.storage.safety import SafetyStore

PAGE_RECORDS: Final = 512

_T = TypeVar("_T")


class ContradictionError(OperatorError):
    """A node signed two things where one is allowed."""

    code = "audit.contradiction"
    exit_code = ExitCode.SAFETY


class NoRecordsError(OperatorError):
    """A node that never ran has signed nothing."""

    code = "audit.no_records"
    exit_code = ExitCode.CONFIG


class NodeAudit(Struct, frozen=True):
    """One node's records, and how many signatures in the archives were held against them."""

    name: str
    votes_recorded: int
    timeouts_recorded: int
    state_votes_recorded: int
    proposals_recorded: int
    certificate_votes_checked: int
    certificate_state_votes_checked: int
    proposals_checked: int


class AuditReport(Struct, frozen=True):
    """The whole committee's."""

    nodes: tuple[NodeAudit, ...]
    certificates: int
    """QCs in all archives together; so below."""
    state_certificates: int
    blocks: int
    contradictions: tuple[str, ...]
    """What must never be; empty for an honest committee."""


def audit(network: Network) -> AuditReport:
    """Read all stores of a localnet that is down. Raises `OperatorError` if it runs, never ran, or
    has a store that cannot be read."""
    if is_supervised(network.run_dir):
        raise running_error(network.run_dir)
    for node in network.nodes:
        # Asked first, because opening an archive makes one.
        if not network.home(node.name).chain_path.exists():
            raise NoRecordsError(
                f"{node.name} never ran", advice="run the localnet first: rota localnet up"
            )
    genesis = network.genesis()
    signed = _Signed(genesis)
    for node in network.nodes:
        archive = ArchiveStore(network.home(node.name).chain_path, owner=network.chain_id)
        try:
            signed.read(archive)
        finally:
            archive.close()
    contradictions = signed.contradictions
    nodes = []
    for index, member in enumerate(genesis.members):
        store = SafetyStore(
            network.home(member.name).safety_path, owner=network.chain_id + member.identity_key
        )
        try:
            records = _OwnRecords(store.load())
        finally:
            store.close()
        nodes.append(_audit_node(member.name, records, signed.by_member[index], contradictions))
    return AuditReport(
        tuple(nodes),
        signed.certificates,
        signed.state_certificates,
        signed.blocks,
        tuple(contradictions),
    )


class _OwnRecords:
    """What one safety store remembers, by view or height."""

    def __init__(self, tables: Mapping[str, Mapping[bytes, bytes]]) -> None:
        def read(table: str) -> dict[int, bytes]:
            return {int.from_bytes(key, "big"): each for key, each in tables.get(table, {}).items()}

        self.votes = {
            view: decode(VoteData, each).block_id for view, each in read(VOTE_TABLE).items()
        }
        self.state_votes = {
            height: decode(CheckpointHeader, each)
            for height, each in read(STATE_VOTE_TABLE).items()
        }
        self.proposals = read(PROPOSAL_TABLE)
        self.timeouts = [decode(TimeoutData, each) for each in read(TIMEOUT_TABLE).values()]


class _SignedByMember:
    """What the archives say that one member signed, by view or height."""

    def __init__(self) -> None:
        self.votes: dict[int, bytes] = {}
        self.state_votes: dict[int, CheckpointHeader] = {}
        self.proposals: dict[int, bytes] = {}


class _Signed:
    """What the archives say that the members signed."""

    def __init__(self, genesis: Genesis) -> None:
        self._chain_id = genesis.chain_id()
        self._names = [member.name for member in genesis.members]
        self.by_member = [_SignedByMember() for _ in self._names]
        self.certificates = 0
        self.state_certificates = 0
        self.blocks = 0
        self.contradictions: list[str] = []

    def read(self, archive: ArchiveStore) -> None:
        """Take in one node's archive."""
        for record in _records(archive, ARCHIVE_BLOCK_TABLE):
            block = decode(Block, record.value)
            self.blocks += 1
            self._note(
                self.by_member[block.author].proposals,
                block.view,
                block.block_id(self._chain_id),
                f"{self._names[block.author]} proposed two blocks in view {block.view}",
            )
            if block.height > 1:
                self._read_certificate(block.qc)
            if block.state_certificate is not None:
                self._read_state_certificate(block.state_certificate)
        # The certificates that stand beside the blocks: the newest have no child that carries them.
        for record in _records(archive, ARCHIVE_COMMIT_TABLE):
            self._read_certificate(decode(QC, record.value))
        for record in _records(archive, CERTIFICATE_BY_HEIGHT_TABLE):
            self._read_state_certificate(decode(StateCertificate, record.value))

    def _read_certificate(self, qc: QC) -> None:
        self.certificates += 1
        for signer in decode_bitmap(qc.signers, len(self._names)):
            self._note(
                self.by_member[signer].votes,
                qc.view,
                qc.block_id,
                f"{self._names[signer]} is in two certificates of view {qc.view}",
            )

    def _read_state_certificate(self, certificate: StateCertificate) -> None:
        self.state_certificates += 1
        height = certificate.header.height
        for signer in decode_bitmap(certificate.signers, len(self._names)):
            self._note(
                self.by_member[signer].state_votes,
                height,
                certificate.header,
                f"{self._names[signer]} is in two state certificates of height {height}",
            )

    def _note(self, known: dict[int, _T], number: int, value: _T, contradiction: str) -> None:
        if known.setdefault(number, value) != value:
            self.contradictions.append(contradiction)


def _audit_node(
    name: str, own: _OwnRecords, signed: _SignedByMember, contradictions: list[str]
) -> NodeAudit:
    def compare(what: str, recorded: Mapping[int, _T], found: Mapping[int, _T]) -> int:
        """Count what could be compared, and note what differs."""
        checked = 0
        for number, value in sorted(found.items()):
            if number in recorded:
                checked += 1
                if recorded[number] != value:
                    contradictions.append(f"{name} recorded one {what} {number}, signed another")
            elif recorded and number > min(recorded):
                contradictions.append(f"{name} has no record of its {what} {number}")
        return checked

    votes = compare("vote in view", own.votes, signed.votes)
    state_votes = compare("state vote at height", own.state_votes, signed.state_votes)
    proposals = compare("proposal in view", own.proposals, signed.proposals)
    for timeout in own.timeouts:
        has_voted = timeout.view in own.votes or timeout.view in signed.votes
        if has_voted and timeout.tip_view != timeout.view:
            contradictions.append(f"{name} voted in view {timeout.view} after leaving it")
    return NodeAudit(
        name=name,
        votes_recorded=len(own.votes),
        timeouts_recorded=len(own.timeouts),
        state_votes_recorded=len(own.state_votes),
        proposals_recorded=len(own.proposals),
        certificate_votes_checked=votes,
        certificate_state_votes_checked=state_votes,
        proposals_checked=proposals,
    )


def _records(archive: ArchiveStore, table: str) -> Iterator[Record]:
    """All records of a table that is keyed by height."""
    height = 0
    while records := archive.read_range(table, compute_key(height), PAGE_RECORDS):
        yield from records
        height = int.from_bytes(records[-1].key, "big") + 1
