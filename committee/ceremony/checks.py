"""What cryptography must decide about a ceremony's transactions: the one door to it.

A check carries everything that its answer depends on, apart from the old key, which its digest in
the plan names. Its answer is therefore the same on every node, whenever it is found: it may be
computed in a worker while blocks go on, and is given back with the block that carries the
transaction.

| check | `FORGED` | `REFUTED` | `UPHELD` |
|---|---|---|---|
| dealing | not signed by the dealer | its public part is wrong: the dealer's fault | valid in all that is public |
| complaint | not signed by the complainer | the opened share fits, or its proof fails: the complainer's fault | the share contradicts the dealing: the dealer's fault |
| acknowledgement | not signed by the member | a proof of share fails | every ticket's proof holds |

A body that does not decode is refuted: its author signed it.
"""  # noqa: E501  (table rows do not wrap)

from enum import IntEnum
from typing import NamedTuple, Protocol

from committee.ceremony.plan import CeremonyTerms
from committee.ceremony.transactions import CeremonyTransaction


class Verdict(IntEnum):
    """The answer to a check."""

    FORGED = 0
    """The author did not sign it, so it says nothing about the author."""
    REFUTED = 1
    UPHELD = 2


class DealingCheck(NamedTuple):
    """Is a dealing valid in all that is public?"""

    terms: CeremonyTerms
    author_key: bytes
    transaction: CeremonyTransaction


class ComplaintCheck(NamedTuple):
    """Does what the complainer opened contradict the dealing?"""

    terms: CeremonyTerms
    author_key: bytes
    transaction: CeremonyTransaction
    dealing: CeremonyTransaction
    """A dealing that was upheld."""


class AcknowledgementCheck(NamedTuple):
    """Does the member hold the shares that the dealings give it?"""

    terms: CeremonyTerms
    author_key: bytes
    transaction: CeremonyTransaction
    dealings: tuple[CeremonyTransaction, ...]
    """Those that count, in chain order; the new key is a function of them and the terms."""


Check = DealingCheck | ComplaintCheck | AcknowledgementCheck


class CeremonyJudge(Protocol):
    """Answers checks. Never raises for anything that members sent."""

    def judge(self, check: Check) -> Verdict:
        """Return the answer, a pure function of the check."""
        ...


class JudgedTransaction(NamedTuple):
    """A transaction as a block hands it in."""

    transaction: CeremonyTransaction
    verdict: Verdict | None
    """The answer to its check; None if `Ceremony.find_check` refused it before the block."""
