"""The order state: what advances with the order from plain data only.

It knows the committee, how far every lane is ordered, who was convicted of what, and the newest
state certificate that the chain carries. It reads nothing that execution computes, so that no stall
of execution can stop elections, evidence or recovery. Together with the header ledger's root, its
root is what a checkpoint calls the order root.

Voters check evidence for its form only. Whoever hands a block's evidence to this state has verified
its signatures first; here only the outcome is recorded.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from committee.committee import COMMITTEE_SIZE_MAX, Committee, MemberIndex
from crypto.codec import DecodeError, decode, encode
from crypto.digest import ZERO_DIGEST, Domain, digest
from crypto.types import Digest, Uint

EVIDENCE_KINDS_MAX: Final = 16
"""Kinds of offence for which one member can stand convicted at once."""


class OrderStateError(Exception):
    """The snapshot is not of an order state with the expected root."""

    code = "order_state.snapshot_invalid"


class LaneCursor(NamedTuple):
    """The newest batch of a lane that is ordered."""

    sequence: Uint
    """0 before the lane's first batch."""
    batch_id: Digest
    """ZERO_DIGEST before the lane's first batch."""


class EvidenceRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member was convicted of an offence by evidence in a block."""

    evidence_id: Digest
    offender: MemberIndex
    kind: Annotated[str, Meta(min_length=1, max_length=32)]
    height: Uint
    """Of the block that carries the evidence."""


class OrderStateRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A whole order state in canonical form."""

    height: Uint
    time_ms: Uint
    certified_height: Uint
    committee: Committee
    cursors: Annotated[tuple[LaneCursor, ...], Meta(min_length=1, max_length=COMMITTEE_SIZE_MAX)]
    """By author."""
    convictions: Annotated[
        tuple[EvidenceRecord, ...], Meta(max_length=COMMITTEE_SIZE_MAX * EVIDENCE_KINDS_MAX)
    ]
    """By rising (offender, kind), each pair once."""


class OrderState:
    """The order state after the block at `height`."""

    def __init__(self, committee: Committee, time_ms: int) -> None:
        """The state before the first block."""
        self.committee = committee
        self.height = 0
        """Height of the last block applied."""
        self.time_ms = time_ms
        """Time of that block."""
        self.certified_height = 0
        """Height of the newest state certificate that the chain carries, 0 for none."""
        self._cursors = [LaneCursor(0, ZERO_DIGEST)] * len(committee)
        self._convictions: dict[tuple[int, str], EvidenceRecord] = {}
        self._committee_digest = digest(Domain.ORDER_STATE, encode(committee))

    def lane_cursor(self, author: int) -> LaneCursor:
        """Return how far the author's lane is ordered."""
        return self._cursors[author]

    def convictions(self) -> tuple[EvidenceRecord, ...]:
        """Return who was convicted of what, by rising (offender, kind)."""
        return tuple(self._convictions[key] for key in sorted(self._convictions))

    def apply_block(
        self,
        *,
        height: int,
        time_ms: int,
        cursors: Mapping[int, tuple[int, bytes]],
        evidence: Sequence[EvidenceRecord],
        certified_height: int | None,
    ) -> tuple[EvidenceRecord, ...]:
        """Apply a committed block; return the convictions that are new.

        `cursors` names the tips (sequence, batch id) of the lanes that the block advances, and
        `certified_height` the height of the state certificate it carries, if any. The first
        conviction of a member for a kind of offence counts: others would only fill the state.
        """
        assert height == self.height + 1, "blocks are applied in order, each once"
        assert time_ms > self.time_ms, "block time rises"
        self.height = height
        self.time_ms = time_ms
        for author, (sequence, batch_id) in cursors.items():
            assert sequence > self._cursors[author].sequence, "a lane only moves on"
            self._cursors[author] = LaneCursor(sequence, batch_id)
        if certified_height is not None:
            assert certified_height < height, "a certificate is of an earlier height"
            self.certified_height = max(self.certified_height, certified_height)
        return tuple(record for record in evidence if self._apply_evidence(record))

    def _apply_evidence(self, record: EvidenceRecord) -> bool:
        assert record.offender < len(self.committee), "evidence was verified by this committee"
        key = (record.offender, record.kind)
        if key in self._convictions:
            return False
        self._convictions[key] = record
        return True

    def root(self) -> bytes:
        """Return the digest of the whole state; 128 members cost about 20 us."""
        record = self._to_record()
        # The committee enters by its digest, which does not change from block to block.
        return digest(
            Domain.ORDER_STATE,
            self._committee_digest,
            record.height.to_bytes(8, "big"),
            record.time_ms.to_bytes(8, "big"),
            record.certified_height.to_bytes(8, "big"),
            encode(record.cursors),
            encode(record.convictions),
        )

    def snapshot(self) -> bytes:
        """Return the canonical bytes of the whole state."""
        return encode(self._to_record())

    @classmethod
    def restore(cls, data: bytes, root: bytes) -> "OrderState":
        """Rebuild a state from somebody's snapshot and the root that a certificate names.

        Raises `OrderStateError` unless the bytes are exactly those of the state with this root.
        """
        try:
            record = decode(OrderStateRecord, data)
        except DecodeError as error:
            raise OrderStateError(str(error)) from error
        if len(record.cursors) != len(record.committee):
            raise OrderStateError("not one cursor for each lane")
        state = cls(record.committee, record.time_ms)
        state.height = record.height
        state.certified_height = record.certified_height
        state._cursors = list(record.cursors)
        state._convictions = {(each.offender, each.kind): each for each in record.convictions}
        # The second condition catches repetitions and orders that the root cannot see.
        if state.root() != root or state.snapshot() != data:
            raise OrderStateError("the snapshot is not of this root")
        return state

    def _to_record(self) -> OrderStateRecord:
        return OrderStateRecord(
            self.height,
            self.time_ms,
            self.certified_height,
            self.committee,
            tuple(self._cursors),
            self.convictions(),
        )
