"""Who receives how many shares, of what, with which threshold."""

from functools import cached_property
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.codec import encode
from crypto.digest import Domain, digest
from crypto.threshold.key import ThresholdKey
from crypto.threshold.lagrange import TICKETS_MAX
from crypto.types import BlsPublicKey, Digest

RECIPIENTS_MAX: Final = 256
"""Members that receive shares."""

PURPOSES: Final = ("sealing", "beacon")
"""What the two secrets of a sharing are for, in the order in which they stand everywhere."""

TicketNumber = Annotated[int, Meta(ge=0, le=TICKETS_MAX)]
MemberNumber = Annotated[int, Meta(ge=0, lt=RECIPIENTS_MAX)]


class Keys(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The public side of a committee's two secrets."""

    sealing: ThresholdKey
    beacon: ThresholdKey

    def compute_digest(self) -> bytes:
        """Names the keys, verification keys included."""
        return digest(Domain.DKG_KEYS, encode(self))

    @property
    def both(self) -> tuple[ThresholdKey, ThresholdKey]:
        """In the order of `PURPOSES`."""
        return self.sealing, self.beacon


class Recipient(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One member of the committee that will hold the shares."""

    encryption_key: BlsPublicKey
    """ek: possession was proven (`encryption_key`) before the list was fixed."""
    tickets: TicketNumber
    """How many it will hold; none makes it no recipient of anything."""


class Sharing(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, dict=True):
    """What all messages of one sharing are bound to."""

    terms: Digest
    """Names chain, epoch, attempt, members and whatever else decides who takes part."""
    threshold: Annotated[int, Meta(ge=1, le=TICKETS_MAX)]
    recipients: Annotated[tuple[Recipient, ...], Meta(min_length=1, max_length=RECIPIENTS_MAX)]
    """In committee order; tickets are numbered 1, 2, ... through them."""
    previous: Keys | None
    """What is reshared; None where the secrets are fresh."""

    @cached_property
    def context(self) -> bytes:
        """The digest of all of it."""
        return digest(Domain.DKG_SHARING, encode(self))

    @cached_property
    def tickets(self) -> int:
        """W."""
        return sum(recipient.tickets for recipient in self.recipients)

    def tickets_of(self, recipient: int) -> range:
        """The numbers of a recipient's tickets."""
        first = 1 + sum(each.tickets for each in self.recipients[:recipient])
        return range(first, first + self.recipients[recipient].tickets)
