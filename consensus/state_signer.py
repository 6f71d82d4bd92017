"""A node's own state votes: recorded, then signed, then said until a certificate covers them.

The record comes first and is write-once by height, so that no crash makes a node sign two results
for one height. A vote is repeated until a certificate at or above its height is known, with waits
that grow.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from consensus.backoff import compute_doubling_wait_ms
from consensus.effects import (
    Delete,
    Effect,
    Persist,
    Put,
    Send,
    SetTimer,
    Sign,
    Store,
    Token,
    compute_key,
)
from consensus.messages import StateVote
from consensus.ownership import Component, Tokens, make_timer_name
from consensus.types import CheckpointHeader
from crypto.codec import encode

STATE_VOTE_TABLE: Final = "state_vote"
"""Safety table, write-once: height (8 bytes big-endian) to the encoded header voted for."""

RESEND_TIMER: Final = make_timer_name(Component.CHECKPOINTS, "resend")

VOTES_RESENT_MAX: Final = 8
"""Newest own votes that are repeated at once."""

VOTE_RETENTION_HEIGHTS: Final = 4096
"""Vote records this far below the newest certificate are deleted from the safety store. Votes are
given only above the newest certificate, and the archive never forgets that many blocks."""

RESEND_MS: Final = 500
"""First wait for a certificate; doubles (`backoff`), and starts anew with a new vote."""


class _OwnVote(NamedTuple):
    """An own vote whose signature is awaited, and the record that must be durable first."""

    header: CheckpointHeader
    after: tuple[Token, ...]


class StateVoteSigner:
    """What this member signs. `certified_height` is that of the newest certificate it knows."""

    def __init__(
        self, chain_id: bytes, me: int, everybody: tuple[int, ...], tokens: Tokens
    ) -> None:
        self._chain_id = chain_id
        self._me = me
        self._everybody = everybody
        self._tokens = tokens
        self._signing: dict[Token, _OwnVote] = {}
        self._said: dict[int, Send] = {}
        self._resend_ms: int | None = None
        self._attempts = 0

    def __len__(self) -> int:
        """Votes that are being repeated."""
        return len(self._said)

    def resume(self, recorded: Iterable[CheckpointHeader]) -> list[Effect]:
        """Sign the newest recorded votes again: execution need not come by their heights again."""
        newest = sorted(recorded, key=lambda header: header.height)[-VOTES_RESENT_MAX:]
        return [self._sign(header, ()) for header in newest]

    def vote(self, header: CheckpointHeader, certified_height: int) -> list[Effect]:
        """Record a result that was never voted for, and sign it."""
        token = self._tokens.issue()
        forgotten = max(0, certified_height - VOTE_RETENTION_HEIGHTS)
        persist = Persist(
            token,
            Store.SAFETY,
            (Put(STATE_VOTE_TABLE, compute_key(header.height), encode(header)),),
            (Delete(STATE_VOTE_TABLE, compute_key(forgotten)),) if forgotten else (),
        )
        return [persist, self._sign(header, (token,))]

    def _sign(self, header: CheckpointHeader, after: tuple[Token, ...]) -> Effect:
        token = self._tokens.issue()
        self._signing[token] = _OwnVote(header, after)
        return Sign(token, header.signing_bytes(self._chain_id))

    def on_signed(
        self, now_ms: int, token: Token, signature: bytes, certified_height: int
    ) -> list[Effect]:
        """Say a vote that is signed, unless a certificate has come first."""
        own = self._signing.pop(token, None)
        if own is None or own.header.height <= certified_height:
            return []
        vote = StateVote(own.header, self._me, signature)
        # The own vote counts when it loops back, so that no certificate holds it before it is
        # durable; for the same reason a repetition names the record again.
        send = Send(self._everybody, vote, own.after)
        self._said[own.header.height] = send
        if len(self._said) > VOTES_RESENT_MAX:
            del self._said[min(self._said)]
        self._attempts = 0
        return [send, *self._arm(now_ms)]

    def _arm(self, now_ms: int) -> list[Effect]:
        if self._resend_ms is not None or not self._said:
            return []
        self._resend_ms = now_ms + compute_doubling_wait_ms(RESEND_MS, self._attempts)
        return [SetTimer(RESEND_TIMER, self._resend_ms)]

    def on_timer(self, now_ms: int) -> list[Effect]:
        """`RESEND_TIMER` fired: say again what no certificate covers."""
        if self._resend_ms is None or now_ms < self._resend_ms:
            return []
        self._resend_ms = None
        self._attempts += 1
        repeated = [self._said[height] for height in sorted(self._said)]
        return [*repeated, *self._arm(now_ms)]

    def on_certified(self, height: int) -> list[Effect]:
        """A certificate covers everything up to a height."""
        for covered in [each for each in self._said if each <= height]:
            del self._said[covered]
        if self._said or self._resend_ms is None:
            return []
        self._resend_ms = None
        return [SetTimer(RESEND_TIMER, None)]
