"""The committee of one epoch: its members, their power and what counts as enough of it.

Of total power T, a *quorum* is `floor(2T/3)+1` (any two quorums share an honest member) and
*honest power* is `floor(T/3)+1` (at least one honest member is among it). Power is an integer.
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Final

from msgspec import Meta, Struct

from crypto.types import BlsPublicKey, BlsSignature, Ed25519PublicKey, Uint

COMMITTEE_SIZE_MAX: Final = 128
"""Members of one committee; keeps bitmaps, certificates and timeouts small."""

POWER_MAX: Final = 2**40
"""Power of one member, so that sums and products stay far inside 64 bits."""

MemberIndex = Annotated[int, Meta(ge=0, lt=COMMITTEE_SIZE_MAX)]
"""A member's position in the committee."""


class Member(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One sequencer's public identity for an epoch."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    power: Annotated[int, Meta(ge=1, le=POWER_MAX)]
    consensus_key: BlsPublicKey
    """Signs votes, timeouts, proposals, acknowledgements and checkpoints."""
    consensus_key_proof: BlsSignature
    """Proof of possession of `consensus_key`; without it rogue-key aggregates would verify."""
    identity_key: Ed25519PublicKey
    """Authenticates connections and signs the headers of the member's batches."""
    oracle_key: Ed25519PublicKey
    """Signs oracle reports, as an ordinary envelope's sender."""


class CommitteeError(Exception):
    """The member list cannot form a committee."""

    code = "committee.invalid"


class Committee(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, dict=True):
    """The members of one epoch, in the order in which bitmaps and indices count them."""

    epoch: Uint
    members: Annotated[tuple[Member, ...], Meta(min_length=1, max_length=COMMITTEE_SIZE_MAX)]

    def __post_init__(self) -> None:
        """Refuse duplicates: one key counted twice would forge a quorum."""
        for attribute in ("name", "consensus_key", "identity_key", "oracle_key"):
            values = [getattr(member, attribute) for member in self.members]
            if len(set(values)) != len(values):
                raise ValueError(f"two members share one {attribute}")

    def __len__(self) -> int:
        return len(self.members)

    @cached_property
    def powers(self) -> tuple[int, ...]:
        """Every member's power, by index."""
        return tuple(member.power for member in self.members)

    @cached_property
    def total_power(self) -> int:
        """T, the sum of all power."""
        return sum(self.powers)

    @cached_property
    def quorum_power(self) -> int:
        """Q: any two sets of this power share an honest member."""
        return 2 * self.total_power // 3 + 1

    @cached_property
    def honest_power(self) -> int:
        """H: any set of this power contains an honest member."""
        return self.total_power // 3 + 1

    def power_of(self, indices: Iterable[int]) -> int:
        """The power of distinct members given by index."""
        powers = self.powers
        return sum([powers[index] for index in indices])
