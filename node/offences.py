"""Evidence on its way into the chain, and evidence on its way out of it.

*In.* What any part of this node proves against a member is offered to every block until the member
stands convicted, one piece for each member and kind of offence, and it is archived, so that a
crash forgets no offence.

*Out.* A block binds its voters only to the form of the evidence in it. Whether the signatures hold
is judged here, on every node, before the block is delivered: the verdict depends on the bytes
alone, so all nodes convict alike, and a leader who makes evidence up convicts nobody.
"""

from collections.abc import Iterable, Sequence

from committee.committee import Committee
from committee.state import EvidenceRecord
from consensus.effects import Put, Token, Verify, VerifyIdentities, compute_key
from consensus.evidence import (
    EvidenceError,
    compute_evidence_claims,
    decode_evidence,
    is_signed_by_identity,
    validate_evidence,
)
from crypto.scheme import Claim

EVIDENCE_TABLE = "evidence"
"""Archive: offender (8 bytes big-endian) and kind -> encoded evidence found by this node."""


class PendingEvidence:
    """What this node found, by (offender, kind): at most one piece each."""

    def __init__(
        self, convictions: Iterable[EvidenceRecord] = (), recovered: Iterable[bytes] = ()
    ) -> None:
        self._convicted = {(record.offender, record.kind) for record in convictions}
        self._pieces: dict[tuple[int, str], bytes] = {}
        for encoded in recovered:
            self.add(encoded)

    def add(self, encoded: bytes) -> Put | None:
        """Keep proven evidence and return what to archive; None if it adds nothing."""
        evidence = decode_evidence(encoded)
        key = (evidence.offender, type(evidence).__name__)
        if key in self._convicted or key in self._pieces:
            return None
        self._pieces[key] = encoded
        return Put(EVIDENCE_TABLE, compute_key(key[0]) + key[1].encode(), encoded)

    def offered(self) -> tuple[bytes, ...]:
        """What the next block may carry, by rising (offender, kind)."""
        return tuple(self._pieces[key] for key in sorted(self._pieces))

    def on_committed(self, evidence: Iterable[bytes]) -> None:
        """Committed blocks carry these: what this node itself proved will convict when they are
        delivered, and need not be offered again."""
        carried = frozenset(evidence)
        for key in [key for key, piece in self._pieces.items() if piece in carried]:
            del self._pieces[key]

    def on_convicted(self, records: Iterable[EvidenceRecord]) -> None:
        """Members were convicted by a delivered block: more of the same is pointless."""
        for record in records:
            key = (record.offender, record.kind)
            self._convicted.add(key)
            self._pieces.pop(key, None)


class _Case:
    """The evidence of one committed block; None where a verdict is outstanding."""

    __slots__ = ("height", "verdicts")

    def __init__(self, height: int, verdicts: list[bool | None]) -> None:
        self.height = height
        self.verdicts = verdicts


class Judge:
    """Verifies the evidence in committed blocks."""

    def __init__(self, chain_id: bytes, committee: Committee) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._cases: dict[Token, tuple[_Case, tuple[int, ...]]] = {}

    def open(
        self, height: int, evidence: Sequence[bytes], tokens: tuple[Token, Token]
    ) -> list[Verify | VerifyIdentities]:
        """What to verify for a block that carries evidence: each piece has two signatures, of
        the members' consensus keys or, for batches, of their identity keys."""
        case = _Case(height, [None] * len(evidence))
        consensus: list[Claim] = []
        identity: list[Claim] = []
        positions: tuple[list[int], list[int]] = ([], [])
        for position, encoded in enumerate(evidence):
            try:
                found = decode_evidence(encoded)
                validate_evidence(found, self._committee)
            except EvidenceError:
                case.verdicts[position] = False
                continue
            claims = compute_evidence_claims(found, self._committee, self._chain_id)
            if is_signed_by_identity(found):
                identity += claims
                positions[1].append(position)
            else:
                consensus += claims
                positions[0].append(position)
        effects: list[Verify | VerifyIdentities] = []
        if consensus:
            self._cases[tokens[0]] = (case, tuple(positions[0]))
            effects.append(Verify(tokens[0], tuple(consensus)))
        if identity:
            self._cases[tokens[1]] = (case, tuple(positions[1]))
            effects.append(VerifyIdentities(tokens[1], tuple(identity)))
        return effects

    def on_verified(
        self, token: Token, results: Sequence[bool]
    ) -> tuple[int, tuple[bool, ...]] | None:
        """The height and the verdicts on its evidence, once all are there."""
        case, positions = self._cases.pop(token)
        for number, position in enumerate(positions):
            case.verdicts[position] = all(results[2 * number : 2 * number + 2])
        verdicts = tuple(verdict for verdict in case.verdicts if verdict is not None)
        return (case.height, verdicts) if len(verdicts) == len(case.verdicts) else None
