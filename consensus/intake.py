"""Messages between their arrival and the verdict on their signatures.

A message waits here until every certificate in it and its own signature are verified; only then
does it touch any state, whole or not at all. A certificate under verification for one message is
not verified again for another: the second waits for the same verdict. What one peer can have
waiting is bounded; for what must not be crowded out by that, the caller keeps other bounds.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from consensus.certificates import Certificate, CertificateCache
from consensus.effects import Token, Verify
from consensus.validation import Check

PENDING_MAX_PER_PEER: Final = 8
"""Messages of one peer that wait for signatures; further ones are dropped."""

S = TypeVar("S")


class Verdict(NamedTuple, Generic[S]):
    """A message whose signatures are known to hold, or not to."""

    sender: int
    subject: S
    is_valid: bool


Need = Certificate | Token
"""A certificate under verification, or the message's own signatures under their token."""


class _Waiting(Generic[S]):
    __slots__ = ("is_counted", "needs", "sender", "subject")

    def __init__(self, sender: int, subject: S, is_counted: bool, needs: set[Need]) -> None:
        self.sender = sender
        self.subject = subject
        self.is_counted = is_counted
        self.needs = needs


class Intake(Generic[S]):
    """What waits for verification, by token and by peer."""

    def __init__(self, certificates: CertificateCache) -> None:
        self._certificates = certificates
        self._checks: dict[Token, tuple[Check, ...]] = {}
        self._in_flight: set[Certificate] = set()
        self._waiting: list[_Waiting[S]] = []
        self._count_by_peer: dict[int, int] = {}

    @property
    def pending_count(self) -> int:
        """Messages that wait."""
        return len(self._waiting)

    def has_room(self, sender: int) -> bool:
        """May another message of this peer wait?"""
        return self._count_by_peer.get(sender, 0) < PENDING_MAX_PER_PEER

    def submit(
        self,
        sender: int,
        subject: S,
        checks: Sequence[Check],
        token: Token,
        *,
        is_counted: bool = True,
    ) -> Verify | None:
        """Let a message wait for its checks (at least one), as one of those that its peer has
        room for or apart from them.

        Returns what to verify under `token`; None when all of it is under way already.
        """
        assert checks, "what needs no check does not wait"
        assert not is_counted or self.has_room(sender), "the caller asks for room first"
        distinct = tuple(dict.fromkeys(checks))
        needs = {check.certificate or token for check in distinct}
        self._waiting.append(_Waiting(sender, subject, is_counted, needs))
        self._count_by_peer[sender] = self._count_by_peer.get(sender, 0) + is_counted
        new = tuple(check for check in distinct if check.certificate not in self._in_flight)
        if not new:
            return None
        self._checks[token] = new
        self._in_flight.update(check.certificate for check in new if check.certificate is not None)
        return Verify(token, tuple(claim for check in new for claim in check.claims))

    def resolve(self, token: Token, results: Sequence[bool]) -> list[Verdict[S]]:
        """Take the verdict on one `Verify`; returns the messages that it decides, in the order
        of their arrival."""
        checks = self._checks.pop(token, ())
        assert sum(len(check.claims) for check in checks) == len(results), "one result a claim"
        resolved: dict[Need, bool] = {}
        position = 0
        for check in checks:
            is_valid = all(results[position : position + len(check.claims)])
            position += len(check.claims)
            need = check.certificate or token
            resolved[need] = is_valid and resolved.get(need, True)
            if check.certificate is not None:
                self._in_flight.discard(check.certificate)
                if is_valid:
                    self._certificates.add(check.certificate)
        return self._decide(resolved)

    def _decide(self, resolved: Mapping[Need, bool]) -> list[Verdict[S]]:
        decided: list[Verdict[S]] = []
        still: list[_Waiting[S]] = []
        for waiting in self._waiting:
            is_refuted = any(not resolved.get(need, True) for need in waiting.needs)
            waiting.needs.difference_update(resolved)
            if waiting.needs and not is_refuted:
                still.append(waiting)
                continue
            self._count_by_peer[waiting.sender] -= waiting.is_counted
            decided.append(Verdict(waiting.sender, waiting.subject, not is_refuted))
        self._waiting = still
        return decided
