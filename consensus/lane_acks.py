"""Acknowledgements: when a member signs one, and how an author turns them into a certificate.

An acknowledgement covers a lane's whole prefix, so a member signs at most one per lane and
interval however many batches came in. That raises the question of *which* sequence to sign:
acknowledgements of different sequences are different messages and do not aggregate, and members
that each sign the newest one they hold would under load rarely sign the same.

**The ruler rule.** A member that last acknowledged `a` and holds the prefix up to `n` signs the
sequence in (a, n] that is divisible by the highest power of two. There is exactly one. Take a
power of two `p` larger than what arrives in one interval: the window (a, n] then holds at most
one multiple of `p`, so a member that passes a multiple of `p` signs it, or one of a higher power.
All members therefore meet at the multiples of `p`, and a certificate forms at least every `p`
batches, that is every one or two intervals. When the load ends, everybody walks down to the same
newest sequence within log2 steps; a lone batch is acknowledged at once.

Rejected: a signature per batch (0.35 ms of every member's time each, and a certificate each);
every k-th sequence (a lone batch would wait for k - 1 others); sequences marked by the author
(a field and a round trip more, for something that a rule on numbers gives for nothing).

A certificate that is lost leaves no gap, since the next one covers it. The last one of a burst is
what retries are for: a member repeats its newest acknowledgement until something covers it, and an
author answers a stale one with its certificate.
"""

from dataclasses import dataclass, field
from typing import Final

from committee.committee import Committee
from consensus.backoff import compute_doubling_wait_ms
from consensus.bans import Bans
from consensus.effects import Aggregate, Aggregated, Effect, Send, SetTimer, Sign, Token
from consensus.lane_chain import LaneChain, LanePoint
from consensus.lane_limits import (
    ACKS_PENDING_MAX_PER_MEMBER,
    LanesConfig,
)
from consensus.messages import Ack
from consensus.ownership import Component, Tokens, make_timer_name
from consensus.types import AckData, AvailabilityCertificate
from crypto.bitmap import encode_bitmap

ACK_TIMER: Final = make_timer_name(Component.LANES, "ack")


def compute_ack_sequence(above: int, newest: int) -> int:
    """Return the one sequence in (above, newest] that the highest power of two divides."""
    assert 0 <= above < newest
    sequence = newest
    while (rounder := sequence & (sequence - 1)) > above:
        sequence = rounder
    return sequence


@dataclass
class _LaneAcks:
    """What this member has acknowledged of one lane."""

    acked_sequence: int = 0
    signing: AckData | None = None
    signed_ms: int | None = None
    newest: Ack | None = None
    attempt: int = 0
    resend_ms: int = 0


@dataclass
class AckSigner:
    """This member's acknowledgements of all lanes, its own included."""

    config: LanesConfig
    chain_id: bytes
    epoch: int
    me: int
    tokens: Tokens
    _lanes: dict[int, _LaneAcks] = field(default_factory=dict)
    _signing: dict[Token, int] = field(default_factory=dict)
    _waiting: set[int] = field(default_factory=set)
    """Lanes with something to sign that is not due yet."""
    _deadline_ms: int | None = None

    def _lane(self, author: int) -> _LaneAcks:
        lane = self._lanes.get(author)
        if lane is None:
            lane = self._lanes[author] = _LaneAcks()
        return lane

    def poll(
        self, now_ms: int, author: int, chain: LaneChain, covered_sequence: int
    ) -> list[Effect]:
        """Sign the sequence of the ruler rule if one is due, or wait for when it is.

        Up to `covered_sequence` an acknowledgement would tell nothing new.
        """
        lane = self._lane(author)
        above = max(lane.acked_sequence, covered_sequence)
        ackable = chain.find_ackable()
        self._waiting.discard(author)
        if lane.signing is not None or ackable.sequence <= above:
            return []
        if lane.signed_ms is not None:
            due_ms = lane.signed_ms + self.config.ack_interval_ms
            if now_ms < due_ms:
                return self._wait(author, due_ms)
        sequence = compute_ack_sequence(above, ackable.sequence)
        batch_id = chain.point_at(sequence).batch_id
        lane.signing = AckData(self.epoch, author, sequence, batch_id)
        lane.signed_ms = now_ms
        token = self.tokens.issue()
        self._signing[token] = author
        return [Sign(token, lane.signing.signing_bytes(self.chain_id))]

    def _wait(self, author: int, due_ms: int) -> list[Effect]:
        self._waiting.add(author)
        if self._deadline_ms is not None and self._deadline_ms <= due_ms:
            return []
        self._deadline_ms = due_ms
        return [SetTimer(ACK_TIMER, due_ms)]

    def on_timer(self) -> list[int]:
        """The lanes to poll now that `ACK_TIMER` has fired."""
        self._deadline_ms = None
        return sorted(self._waiting)

    def on_signed(self, now_ms: int, token: Token, signature: bytes) -> Ack | None:
        """The finished acknowledgement, or None for a foreign token. It is for the lane's author
        if it still is the lane's `newest` after `on_committed`."""
        author = self._signing.pop(token, None)
        if author is None:
            return None
        lane = self._lane(author)
        assert lane.signing is not None
        lane.newest = Ack(lane.signing, self.me, signature)
        lane.acked_sequence = lane.signing.sequence
        lane.signing = None
        lane.attempt = 0
        lane.resend_ms = now_ms + self.config.ack_retry_ms
        return lane.newest

    def newest(self, author: int) -> Ack | None:
        """The newest acknowledgement of a lane that nothing covers yet."""
        return self._lane(author).newest

    def on_covered(self, author: int, sequence: int) -> None:
        """A certificate or a commit covers the lane up to `sequence`: stop repeating."""
        lane = self._lane(author)
        if lane.newest is not None and lane.newest.data.sequence <= sequence:
            lane.newest = None

    def on_committed(self, author: int, chain: LaneChain) -> None:
        """Withdraw what no longer rests on the cursor. Where the author forked its lane, the rival
        of an acknowledged batch may be committed, while the signature is made or thereafter; to
        sign for another batch at that place instead would contradict the first, so the place
        stays taken."""
        lane = self._lane(author)
        if lane.newest is not None:
            data = lane.newest.data
            if not chain.is_above_cursor(LanePoint(data.sequence, data.batch_id)):
                lane.newest = None

    def resend(self, now_ms: int) -> list[Effect]:
        """Repeat what has waited too long for a certificate."""
        effects: list[Effect] = []
        for author in sorted(self._lanes):
            lane = self._lanes[author]
            if lane.newest is None or author == self.me or now_ms < lane.resend_ms:
                continue
            lane.attempt += 1
            lane.resend_ms = now_ms + compute_doubling_wait_ms(
                self.config.ack_retry_ms, lane.attempt
            )
            effects.append(Send((author,), lane.newest))
        return effects


class AckCollector:
    """An author's side: acknowledgements of its own lane, by sequence and member."""

    def __init__(self, chain_id: bytes, committee: Committee, tokens: Tokens) -> None:
        self._chain_id = chain_id
        self._committee = committee
        self._tokens = tokens
        self._pending: dict[int, dict[int, Ack]] = {}
        self._in_flight: tuple[Token, AckData] | None = None
        self._newest_by_member: dict[int, int] = {}
        self.bans = Bans()
        """Members who sent an acknowledgement whose signature is wrong."""

    def __len__(self) -> int:
        return sum(len(acks) for acks in self._pending.values())

    def newest_of(self, member: int) -> int:
        """The highest sequence that a member has acknowledged, truly or not."""
        return self._newest_by_member.get(member, 0)

    def offer(self, ack: Ack) -> None:
        """Keep an acknowledgement whose data was compared with the own lane."""
        if ack.signer in self.bans:
            return
        sequence = ack.data.sequence
        self._pending.setdefault(sequence, {}).setdefault(ack.signer, ack)
        self._newest_by_member[ack.signer] = max(self.newest_of(ack.signer), sequence)
        of_member = sorted(each for each in self._pending if ack.signer in self._pending[each])
        if len(of_member) > ACKS_PENDING_MAX_PER_MEMBER:
            self._drop(of_member[0], ack.signer)

    def _drop(self, sequence: int, member: int) -> None:
        del self._pending[sequence][member]
        if not self._pending[sequence]:
            del self._pending[sequence]

    def aggregate(self) -> list[Effect]:
        """Start on the highest sequence that honest power covers, one at a time."""
        if self._in_flight is not None:
            return []
        for sequence in sorted(self._pending, reverse=True):
            acks = self._pending[sequence]
            if self._committee.power_of(acks) < self._committee.honest_power:
                continue
            data = next(iter(acks.values())).data
            token = self._tokens.issue()
            self._in_flight = (token, data)
            partials = tuple(
                (signer, self._committee.members[signer].consensus_key, acks[signer].signature)
                for signer in sorted(acks)
            )
            return [Aggregate(token, data.signing_bytes(self._chain_id), partials)]
        return []

    def on_aggregated(self, event: Aggregated) -> AvailabilityCertificate | None:
        """Ban the culprits; return a certificate if honest power is left."""
        if self._in_flight is None or self._in_flight[0] != event.token:
            return None
        _, data = self._in_flight
        self._in_flight = None
        for culprit in event.culprits:
            self._ban(culprit)
        if self._committee.power_of(event.signers) < self._committee.honest_power:
            return None
        signers = encode_bitmap(event.signers, len(self._committee))
        return AvailabilityCertificate(data, signers, event.signature)

    def _ban(self, member: int) -> None:
        self.bans.add(member)
        for sequence in [each for each in self._pending if member in self._pending[each]]:
            self._drop(sequence, member)

    def on_covered(self, sequence: int) -> None:
        """Forget acknowledgements that a certificate or a commit has overtaken."""
        for covered in [each for each in self._pending if each <= sequence]:
            del self._pending[covered]
