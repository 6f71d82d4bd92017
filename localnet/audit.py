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

A safety store forgets what lies far behind (`consensus.safety.make_prune_deletes`), so a signature
older than its oldest record of the kind can be held only against the other archives, in which no
member may stand in two certificates or behind two blocks of one view; the report says how far back
the records reach. A newer signature without a record is a contradiction as well.

Whoever wants more covered reads the records while the run goes on (`load_records`, of copies) and
hands them to `audit`, too.

The nodes must be down: a running node holds its safety store locked.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from msgspec import Struct

from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import compute_key
from consensus.evidence import decode_evidence
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
from node.cli.hints import rota_command
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


class Span(Struct, frozen=True):
    """From the first to the last, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first} to {self.last}"


class DoubleSign(Struct, frozen=True):
    """What one node did that an honest one never does."""

    node: str
    what: str

    def __str__(self) -> str:
        return f"{self.node} {self.what}"


class NodeAudit(Struct, frozen=True):
    """One node's records, and how many signatures in the archives were held against them."""

    name: str
    vote_views: Span | None
    """Views from which votes are on record; None without a record. So below."""
    timeout_views: Span | None
    state_vote_heights: Span | None
    proposal_views: Span | None
    votes_recorded: int
    timeouts_recorded: int
    state_votes_recorded: int
    proposals_recorded: int
    certificate_votes_checked: int
    certificate_state_votes_checked: int
    proposals_checked: int
    certificate_votes_found: int
    """Signatures of this node in the archives, with a record of its own or not; so below."""
    certificate_state_votes_found: int
    proposals_found: int

    @property
    def signatures_found(self) -> int:
        """Of all kinds."""
        return (
            self.certificate_votes_found + self.certificate_state_votes_found + self.proposals_found
        )

    @property
    def signatures_checked(self) -> int:
        """Of all kinds: held against a record of its own."""
        return (
            self.certificate_votes_checked
            + self.certificate_state_votes_checked
            + self.proposals_checked
        )


class ArchivedEvidence(Struct, frozen=True):
    """A proof that a member signed two things, which the chain holds."""

    height: int
    """Of the block that carries it."""
    member: str
    offence: str


class AuditReport(Struct, frozen=True):
    """The whole committee's."""

    nodes: tuple[NodeAudit, ...]
    certificates: int
    """QCs in all archives together; so below."""
    state_certificates: int
    blocks: int
    contradictions: tuple[DoubleSign, ...]
    """What must never be; empty for an honest committee."""
    evidence: tuple[ArchivedEvidence, ...] = ()
    """By height. A liar need not keep a record of what it signs, so this may be all there is of it.
    """


def audit(
    network: Network, earlier: Mapping[str, Sequence["OwnRecords"]] | None = None
) -> AuditReport:
    """Read all stores of a localnet that is down, and hold `earlier` states of the nodes' records
    to the same. Raises `OperatorError` if it runs, never ran, or has a store that cannot be read.
    """
    if is_supervised(network.run_dir):
        raise running_error(network.run_dir)
    return audit_stores(network, earlier)


def audit_stores(
    network: Network, earlier: Mapping[str, Sequence["OwnRecords"]] | None = None
) -> AuditReport:
    """`audit` for a supervisor that has stopped all of its own nodes. Raises `OperatorError`."""
    for node in network.nodes:
        # Asked first, because opening an archive makes one.
        if not network.home(node.name).chain_path.exists():
            raise NoRecordsError(
                f"{node.name} never ran",
                advice=f"run the localnet first: {rota_command(network.path)}localnet up",
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
        name = member.name
        home = network.home(name)
        if home.load_config().config.node.follow and not home.safety_path.exists():
            # It forgot what it signed, and signs nothing since: there is nothing to compare with.
            newest = OwnRecords({})
        else:
            newest = load_records(home.safety_path, owner=network.chain_id + member.identity_key)
        states = [*(earlier or {}).get(name, ()), newest]
        nodes.append(_audit_node(name, states, signed.by_member[index], contradictions))
    return AuditReport(
        tuple(nodes),
        signed.certificates,
        signed.state_certificates,
        signed.blocks,
        tuple(contradictions),
        tuple(sorted(signed.evidence, key=lambda each: (each.height, each.member, each.offence))),
    )


class OwnRecords:
    """What one safety store remembers at one moment, by view or height."""

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
        self.timeouts = {
            view: decode(TimeoutData, each) for view, each in read(TIMEOUT_TABLE).items()
        }


def load_records(path: Path, *, owner: bytes) -> OwnRecords:
    """Read a safety store that no node has open, or a copy of one with its log beside it.

    `owner` is the chain's id and the member's identity key. Raises `OperatorError`.
    """
    store = SafetyStore(path, owner=owner)
    try:
        return OwnRecords(store.load())
    finally:
        store.close()


class _Recorded(Generic[_T]):
    """One kind of record in all known states of one store, the newest last."""

    def __init__(self, states: Sequence[Mapping[int, _T]]) -> None:
        self.values: dict[int, _T] = {}
        self.rewritten: list[int] = []
        """Where a later state has another value."""
        self._complete: list[tuple[int, int | None]] = []
        """Above the one and up to the other nothing was signed without a record; None has no end.
        """
        for number, state in enumerate(states, start=1):
            for key, value in state.items():
                if self.values.setdefault(key, value) != value:
                    self.rewritten.append(key)
            if state:
                last = None if number == len(states) else max(state)
                self._complete.append((min(state), last))

    def is_missing(self, number: int) -> bool:
        """Must there have been a record that is not there?"""
        return number not in self.values and any(
            first < number and (last is None or number <= last) for first, last in self._complete
        )

    def span(self) -> Span | None:
        """How far the records reach."""
        return Span(min(self.values), max(self.values)) if self.values else None


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
        self.contradictions: list[DoubleSign] = []
        self.evidence: set[ArchivedEvidence] = set()

    def read(self, archive: ArchiveStore) -> None:
        """Take in one node's archive."""
        for record in _records(archive, ARCHIVE_BLOCK_TABLE):
            block = decode(Block, record.value)
            self.blocks += 1
            self._note(
                self.by_member[block.author].proposals,
                block.view,
                block.block_id(self._chain_id),
                DoubleSign(self._names[block.author], f"proposed two blocks in view {block.view}"),
            )
            for data in block.evidence:
                evidence = decode_evidence(data)
                name = self._names[evidence.offender]
                offence = type(evidence).__name__
                self.evidence.add(ArchivedEvidence(block.height, name, offence))
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
                DoubleSign(self._names[signer], f"is in two certificates of view {qc.view}"),
            )

    def _read_state_certificate(self, certificate: StateCertificate) -> None:
        self.state_certificates += 1
        height = certificate.header.height
        for signer in decode_bitmap(certificate.signers, len(self._names)):
            self._note(
                self.by_member[signer].state_votes,
                height,
                certificate.header,
                DoubleSign(self._names[signer], f"is in two state certificates of height {height}"),
            )

    def _note(
        self, known: dict[int, _T], number: int, value: _T, contradiction: DoubleSign
    ) -> None:
        if known.setdefault(number, value) != value:
            self.contradictions.append(contradiction)


def _audit_node(
    name: str,
    states: Sequence[OwnRecords],
    signed: _SignedByMember,
    contradictions: list[DoubleSign],
) -> NodeAudit:
    def note(what: str) -> None:
        contradictions.append(DoubleSign(name, what))

    def compare(what: str, recorded: _Recorded[_T], found: Mapping[int, _T]) -> int:
        """Count what could be compared, and note what differs."""
        for number in recorded.rewritten:
            note(f"recorded one {what} {number}, later another")
        checked = 0
        for number, value in sorted(found.items()):
            if number in recorded.values:
                checked += 1
                if recorded.values[number] != value:
                    note(f"recorded one {what} {number}, signed another")
            elif recorded.is_missing(number):
                note(f"has no record of its {what} {number}")
        return checked

    votes = _Recorded([each.votes for each in states])
    state_votes = _Recorded([each.state_votes for each in states])
    proposals = _Recorded([each.proposals for each in states])
    timeouts = _Recorded([each.timeouts for each in states])
    votes_checked = compare("vote in view", votes, signed.votes)
    state_votes_checked = compare("state vote at height", state_votes, signed.state_votes)
    proposals_checked = compare("proposal in view", proposals, signed.proposals)
    compare("timeout in view", timeouts, {})
    for view, timeout in sorted(timeouts.values.items()):
        has_voted = view in votes.values or view in signed.votes
        if has_voted and timeout.tip_view != view:
            note(f"voted in view {view} after leaving it")
    return NodeAudit(
        name=name,
        vote_views=votes.span(),
        timeout_views=timeouts.span(),
        state_vote_heights=state_votes.span(),
        proposal_views=proposals.span(),
        votes_recorded=len(votes.values),
        timeouts_recorded=len(timeouts.values),
        state_votes_recorded=len(state_votes.values),
        proposals_recorded=len(proposals.values),
        certificate_votes_checked=votes_checked,
        certificate_state_votes_checked=state_votes_checked,
        proposals_checked=proposals_checked,
        certificate_votes_found=len(signed.votes),
        certificate_state_votes_found=len(signed.state_votes),
        proposals_found=len(signed.proposals),
    )


def _records(archive: ArchiveStore, table: str) -> Iterator[Record]:
    """All records of a table that is keyed by height."""
    height = 0
    while records := archive.read_range(table, compute_key(height), PAGE_RECORDS):
        yield from records
        height = int.from_bytes(records[-1].key, "big") + 1
