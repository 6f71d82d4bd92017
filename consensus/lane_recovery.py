"""What a restarted node knows of the lanes: cursors, stored batches, archived certificates."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from consensus.lane_chain import LANE_START, LanePoint, Link
from consensus.types import AvailabilityCertificate, SignedBatchHeader


class RecoveredLanes(NamedTuple):
    """What a node knew of the lanes before it was restarted."""

    cursors: Mapping[int, LanePoint]
    """By author, at the last block that was *delivered*; later committed blocks are then replayed
    through `on_committed`. A lane that is not named is at its start."""
    links: tuple[Link, ...]
    """Stored batches above the cursors, by author and rising sequence."""
    certificates: tuple[AvailabilityCertificate, ...]
    """Newest archived certificates above the cursors; verified before they were archived."""


NOTHING_RECOVERED: Final = RecoveredLanes({}, (), ())


def recover_lanes(
    epoch: int,
    cursors: Mapping[int, LanePoint],
    batches: Iterable[tuple[bytes, SignedBatchHeader]],
    certificates: Iterable[AvailabilityCertificate] = (),
) -> RecoveredLanes:
    """Build the recovered state from the host's batch index and archive.

    Order does not matter, and what is of another epoch or at or below a cursor is left out.
    """

    def is_current(author: int, of_epoch: int, sequence: int) -> bool:
        return of_epoch == epoch and sequence > cursors.get(author, LANE_START).sequence

    links = [
        Link(batch_id, signed_header, is_stored=True)
        for batch_id, signed_header in batches
        if is_current(
            signed_header.header.author, signed_header.header.epoch, signed_header.header.sequence
        )
    ]
    links.sort(key=lambda link: (link.signed_header.header.author, link.sequence, link.batch_id))
    newest: dict[int, AvailabilityCertificate] = {}
    for certificate in certificates:
        author, sequence = certificate.data.author, certificate.data.sequence
        known = newest.get(author)
        if is_current(author, certificate.data.epoch, sequence) and (
            known is None or known.data.sequence < sequence
        ):
            newest[author] = certificate
    return RecoveredLanes(
        dict(cursors), tuple(links), tuple(newest[author] for author in sorted(newest))
    )
