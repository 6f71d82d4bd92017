"""What happens to messages on their way.

A message begins as one arrival after the world's base delay. Every rule in force may bend the list
of its arrivals: to none (lost), to later ones, or to more. Rules are applied in the order in which
they were added, so that a run depends on nothing but its seed and its schedule.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol

from consensus.messages import Message, encode_message

PERMILLE = 1_000

ARRIVALS_MAX = 16
"""Of one message on one link: each rule that duplicates may double them, and a file may hold
thousands of such rules."""


class Passage(NamedTuple):
    """One message on one link."""

    now_ms: int
    sender: int
    receiver: int
    """Hosts, not members: twins share a member and have links of their own."""
    message: Message

    @property
    def kind(self) -> str:
        """The wire tag of the message, e.g. `vote`."""
        return str(self.message.__struct_config__.tag)


class LinkRule(Protocol):
    """Changes when, and how often, messages arrive."""

    def bend(self, passage: Passage, arrivals_ms: list[int], random: Random) -> list[int]:
        """Delays after which the message arrives, made from those that it had so far."""
        ...


@dataclass(frozen=True, slots=True)
class Scope:
    """On which messages a rule has power."""

    senders: frozenset[int] | None = None
    """None: all."""
    receivers: frozenset[int] | None = None
    kinds: frozenset[str] = frozenset()
    """Wire tags; empty: all."""

    def covers(self, passage: Passage) -> bool:
        """Is this message in scope?"""
        return (
            (self.senders is None or passage.sender in self.senders)
            and (self.receivers is None or passage.receiver in self.receivers)
            and (not self.kinds or passage.kind in self.kinds)
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """Lets only those messages travel that a predicate accepts."""

    accepts: Callable[[Passage], bool]

    def bend(self, passage: Passage, arrivals_ms: list[int], random: Random) -> list[int]:
        return arrivals_ms if self.accepts(passage) else []


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing in scope arrives."""

    scope: Scope

    def bend(self, passage: Passage, arrivals_ms: list[int], random: Random) -> list[int]:
        return [] if self.scope.covers(passage) else arrivals_ms


@dataclass(frozen=True, slots=True)
class Partition:
    """Nothing travels between the two sides; within each, all does."""

    side: frozenset[int]
    kinds: frozenset[str] = frozenset()

    def bend(self, passage: Passage, arrivals_ms: list[int], random: Random) -> list[int]:
        crosses = (passage.sender in self.side) != (passage.receiver in self.side)
        if crosses and (not self.kinds or passage.kind in self.kinds):
            return []
        return arrivals_ms


@dataclass(frozen=True, slots=True)
class Loss:
    """Each arrival in scope is lost with a probability."""

    scope: Scope
    permille: int

    def bend(self, passage: Passage, arrivals_ms: list[int], random: Random) -> list[int]:
        if not self.scope.covers(passage):
            return arrivals_ms
        return [each for each in arrivals_ms if random.randrange(PERMILLE) >= self.permille]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Each message in scope arrives once more, with a probability, up to `lag_max_ms` later; and
    never more than `ARRIVALS_MAX` times."""

    scope: Scope
    permille: int
    lag_max_ms: int

    def bend(self, passage: Passage, arrivals_ms: list[int], random: Random) -> list[int]:
        if not self.scope.covers(passage):
            return arrivals_ms
        again = [
            each + random.randint(0, self.lag_max_ms)
            for each in arrivals_ms
            if random.randrange(PERMILLE) < self.permille
        ]
        return (arrivals_ms + again)[:ARRIVALS_MAX]


@dataclass(frozen=True, slots=True)
class Delay:
    """Messages in scope take longer; a wide range reorders them."""

    scope: Scope
    least_ms: int
    most_ms: int

    def bend(self, passage: Passage, arrivals_ms: list[int], random: Random) -> list[int]:
        if not self.scope.covers(passage):
            return arrivals_ms
        return [each + random.randint(self.least_ms, self.most_ms) for each in arrivals_ms]


@dataclass(slots=True)
class Bandwidth:
    """Each link in scope carries so many bytes a second, one message after another."""

    scope: Scope
    bytes_per_s: int
    _free_at_ms: dict[tuple[int, int], int] = field(default_factory=dict)

    def bend(self, passage: Passage, arrivals_ms: list[int], random: Random) -> list[int]:
        if not arrivals_ms or not self.scope.covers(passage):
            return arrivals_ms
        link = (passage.sender, passage.receiver)
        duration_ms = len(encode_message(passage.message)) * 1_000 // self.bytes_per_s
        end_ms = max(self._free_at_ms.get(link, 0), passage.now_ms) + duration_ms
        self._free_at_ms[link] = end_ms
        return [each + end_ms - passage.now_ms for each in arrivals_ms]
