"""The effects of one step, in order, and the timers and tokens that outlive it."""

from collections.abc import Iterable

from consensus.effects import (
    Delete,
    Effect,
    Halt,
    Misbehaviour,
    Persist,
    Put,
    Send,
    SetTimer,
    Store,
    Token,
)
from consensus.messages import Message
from consensus.ownership import Component, Tokens


class Outbox:
    """Collects what the host has to do."""

    def __init__(self) -> None:
        self._effects: list[Effect] = []
        self._timers: dict[str, int] = {}
        self._tokens = Tokens(Component.CONSENSUS)
        self.refused_count = 0
        """Messages refused so far."""
        self.is_halted = False
        """A `Halt` was asked for: nothing may follow it."""

    def take(self) -> list[Effect]:
        """The effects since the last call."""
        effects, self._effects = self._effects, []
        return effects

    def add(self, *effects: Effect) -> None:
        """Ask for effects."""
        self._effects.extend(effects)

    def token(self) -> Token:
        """A name for an effect that has an answer; never the same twice."""
        return self._tokens.issue()

    def persist(self, store: Store, puts: Iterable[Put], deletes: Iterable[Delete] = ()) -> Token:
        """Write records, all or nothing."""
        token = self.token()
        self.add(Persist(token, store, tuple(puts), tuple(deletes)))
        return token

    def send(self, to: Iterable[int], message: Message, after: tuple[Token, ...] = ()) -> None:
        """Send a message once the records in `after` are durable."""
        self.add(Send(tuple(to), message, after))

    def refuse(self, member: int, code: str, detail: str = "") -> None:
        """Report what a member did wrong."""
        self.refused_count += 1
        self.add(Misbehaviour(member, code, detail))

    def halt(self, code: str, detail: str) -> None:
        """Stop for good: going on could violate safety."""
        self.is_halted = True
        self.add(Halt(code, detail))

    # ---- timers ------------------------------------------------------------------------------

    def set_timer(self, name: str, deadline_ms: int | None) -> None:
        """Set or cancel a timer, if that changes anything."""
        if self._timers.get(name) == deadline_ms:
            return
        if deadline_ms is None:
            del self._timers[name]
        else:
            self._timers[name] = deadline_ms
        self.add(SetTimer(name, deadline_ms))

    def find_next_deadline_ms(self) -> int:
        """When the next timer is due; 0 if none is set."""
        return min(self._timers.values(), default=0)

    def take_timer(self, now_ms: int, name: str) -> bool:
        """A timer fired: was it due? A stale or early one counts as not set any more."""
        deadline_ms = self._timers.pop(name, None)
        return deadline_ms is not None and deadline_ms <= now_ms
