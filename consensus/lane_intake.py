"""Batches on their way in: storing, checking, and catching authors who sign two at one place.

What the author itself sent over its authenticated connection is stored and checked at once, side
by side. What another member sent in answer to a request is checked first and stored only if good:
its digest covers the header but not the header's signature, so a responder could otherwise plant
a copy that never passes. Should the author itself have sent such a copy, a later good one with the
same digest is stored again and replaces it.

Bodies stay in memory only while an effect that needs them is outstanding.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from committee.committee import Committee
from consensus.bans import Bans
from consensus.effects import (
    Alarm,
    BatchChecked,
    BatchStored,
    CheckBatch,
    Effect,
    EvidenceFound,
    Misbehaviour,
    StoreBatch,
    Token,
)
from consensus.evidence import make_double_batch
from consensus.lane_chain import LaneChain, Link
from consensus.lane_limits import RECHECKS_PENDING_MAX, LanesConfig
from consensus.messages import BatchMessage
from consensus.ownership import Tokens
from consensus.types import SignedBatchHeader
from crypto.codec import encode


class Origin(Enum):
    """Where a batch came from, which decides who is to blame for a bad one."""

    OWN = auto()
    AUTHOR = auto()
    FETCHED = auto()
    RECOVERED = auto()
    RIVAL = auto()
    """A second batch of its author at one sequence: checked as evidence, never kept."""


@dataclass(frozen=True)
class Check:
    """A batch that is with the workers."""

    origin: Origin
    sender: int
    batch_id: bytes
    signed_header: SignedBatchHeader
    body: bytes | None
    """Kept for a batch that is stored only after its check."""

    @property
    def author(self) -> int:
        return self.signed_header.header.author


class BatchIntake:
    """The outstanding `StoreBatch` and `CheckBatch` effects, and what came of them."""

    def __init__(
        self,
        config: LanesConfig,
        committee: Committee,
        me: int,
        chains: list[LaneChain],
        tokens: Tokens,
    ) -> None:
        self._config = config
        self._committee = committee
        self._me = me
        self._chains = chains
        self._tokens = tokens
        self._checks: dict[Token, Check] = {}
        self._checks_of_author = [0] * len(committee)
        self._stores: dict[Token, tuple[SignedBatchHeader, bytes]] = {}
        self._rechecks: deque[tuple[int, bytes]] = deque()
        self._rechecking = 0
        self._rivals: dict[int, SignedBatchHeader | None] = {}
        """Authors of whom a rival is being checked (None) or was found well signed."""
        self._convicted: set[int] = set()
        """Authors of whom evidence was found: more of it is pointless."""
        self.unsound: set[bytes] = set()
        """Stored batches that failed their check, until a good copy replaces them. At most what
        was stored of each author before the first verdict or found stored at the start."""
        self.bans = Bans()
        """Authors who sent a bad batch: nothing is taken from them any more but what is certified
        and fetched by digest."""

    def is_full(self, author: int) -> bool:
        """Has this author as many batches with the workers as it may have?"""
        return self._checks_of_author[author] >= self._config.checks_pending_max_per_author

    def count_pending(self) -> int:
        """Batches with the workers, of all authors."""
        return len(self._checks)

    def take(
        self, origin: Origin, sender: int, batch_id: bytes, message: BatchMessage
    ) -> list[Effect]:
        """Add a link for a batch that was just received or made."""
        signed_header = message.signed_header
        self._chains[signed_header.header.author].add(Link(batch_id, signed_header))
        if origin is Origin.FETCHED:
            check = Check(origin, sender, batch_id, signed_header, message.body)
            return [self._check(check, message.body)]
        check = Check(origin, sender, batch_id, signed_header, None)
        return [
            self._store(batch_id, signed_header, message.body),
            self._check(check, message.body),
        ]

    def take_rival(self, batch_id: bytes, message: BatchMessage) -> list[Effect]:
        """Check a second batch of its author at one sequence, if no offence is known yet."""
        author = message.signed_header.header.author
        if author in self._rivals or author in self._convicted or self.is_full(author):
            return []
        self._rivals[author] = None
        check = Check(Origin.RIVAL, author, batch_id, message.signed_header, None)
        return [self._check(check, message.body)]

    def recover(self, links: list[Link]) -> list[Effect]:
        """Check again what the store holds: verdicts are not durable."""
        self._rechecks.extend((link.signed_header.header.author, link.batch_id) for link in links)
        return self._recheck()

    def _recheck(self) -> list[Effect]:
        effects: list[Effect] = []
        while self._rechecks and self._rechecking < RECHECKS_PENDING_MAX:
            author, batch_id = self._rechecks.popleft()
            link = self._chains[author].find(batch_id)
            if link is not None and not link.is_checked:
                self._rechecking += 1
                check = Check(Origin.RECOVERED, self._me, batch_id, link.signed_header, None)
                effects.append(self._check(check, None))
        return effects

    def _store(self, batch_id: bytes, signed_header: SignedBatchHeader, body: bytes) -> Effect:
        token = self._tokens.issue()
        self._stores[token] = (signed_header, batch_id)
        return StoreBatch(token, batch_id, signed_header, body)

    def _check(self, check: Check, body: bytes | None) -> Effect:
        token = self._tokens.issue()
        self._checks[token] = check
        self._checks_of_author[check.author] += 1
        key = self._committee.members[check.author].identity_key
        return CheckBatch(token, check.batch_id, check.signed_header, key, body)

    def on_stored(self, event: BatchStored) -> Link | None:
        """The link that has become durable; None if it was dropped meanwhile."""
        stored = self._stores.pop(event.token, None)
        if stored is None:
            return None
        signed_header, batch_id = stored
        link = self._chains[signed_header.header.author].find(batch_id)
        # A copy that failed its check may become durable after a sound one has taken its place in
        # the lane. Only the signature tells them apart, and the sound one is not durable yet.
        if link is None or link.signed_header != signed_header:
            return None
        link.is_stored = True
        return link

    def on_checked(self, event: BatchChecked) -> tuple[Check | None, list[Effect]]:
        """Apply a verdict. Returns the check that it ends, and what follows."""
        check = self._checks.pop(event.token, None)
        if check is None:
            return None, []
        self._checks_of_author[check.author] -= 1
        effects: list[Effect] = []
        if check.origin is Origin.RECOVERED:
            self._rechecking -= 1
            effects += self._recheck()
        if check.origin is Origin.RIVAL:
            return check, self._judge_rival(check, event)
        link = self._chains[check.author].find(check.batch_id)
        if link is None or link.is_checked:
            return check, effects
        if event.error is not None:
            return check, effects + self._drop(check, link, event.error, event.detail)
        link.is_checked = True
        self.unsound.discard(check.batch_id)
        if check.body is not None:
            effects.append(self._store(check.batch_id, check.signed_header, check.body))
        return check, effects + self._compare(check.signed_header, check.batch_id)

    def _drop(self, check: Check, link: Link, error: str, detail: str) -> list[Effect]:
        self._chains[check.author].discard(link)
        if check.origin is not Origin.FETCHED:
            self.unsound.add(check.batch_id)
        if check.origin is Origin.RECOVERED:
            # Stored before its check failed, or damaged on the own disk: nobody is to blame.
            return [Alarm("lane.stored_batch_invalid", _describe(check, error, detail))]
        if check.origin in (Origin.OWN, Origin.AUTHOR):
            self.bans.add(check.author)
        return [Misbehaviour(check.sender, error, _describe(check, detail))]

    def _judge_rival(self, check: Check, event: BatchChecked) -> list[Effect]:
        if event.error is not None:
            del self._rivals[check.author]
            self.bans.add(check.author)
            return [Misbehaviour(check.author, event.error, _describe(check, event.detail))]
        self._rivals[check.author] = check.signed_header
        return self._compare(check.signed_header, check.batch_id)

    def _compare(self, signed_header: SignedBatchHeader, batch_id: bytes) -> list[Effect]:
        """Look for another well-signed header at the same sequence."""
        header = signed_header.header
        if header.author in self._convicted:
            return []
        others = [
            link.signed_header
            for link in self._chains[header.author].links_at(header.sequence)
            if link.is_checked and link.batch_id != batch_id
        ]
        rival = self._rivals.get(header.author)
        if rival is not None and rival.header.sequence == header.sequence:
            others.append(rival)
        for other in others:
            if other.header != header:
                self._convicted.add(header.author)
                evidence = make_double_batch(other, signed_header)
                return [EvidenceFound(header.author, encode(evidence))]
        return []


def _describe(check: Check, *words: str) -> str:
    """The batch and what is wrong with it, as far as that is known."""
    return ": ".join(("batch " + check.batch_id.hex(), *filter(None, words)))
