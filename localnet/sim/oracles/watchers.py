"""Who watches a world, and which of them is told of what."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from consensus.effects import Persist, Store
from consensus.messages import Message
from engine.block import BlockOutput
from localnet.verdicts import Verdict
from node.events import Execute


class Execution(NamedTuple):
    """One height that one node's engine executed."""

    request: Execute
    ordered: tuple[bytes, ...]
    """Ids of all its envelopes, in order."""
    passed: tuple[bytes, ...]
    """Ids of those that the header ledger let through, in order."""
    output: BlockOutput


ExecutionWatcher = Callable[[int, Execution], None]
"""Called with the node and what it executed."""


class Watcher:
    """An observer that ignores everything; oracles override what they look at."""

    effects: ClassVar[tuple[type, ...]] = ()
    """The kinds of effects that it wants to hear of; none named means all."""
    messages: ClassVar[tuple[type, ...]] = ()
    """The kinds of messages, likewise."""
    stores: ClassVar[tuple[Store, ...]] = ()
    """The stores of whose records it wants to hear once they are durable, likewise."""
    verdict: ClassVar[Verdict] = Verdict.SAFETY
    """On a run in which it raises."""

    def on_start(self, index: int) -> None:
        """A machine starts, for the first time or again."""

    def on_crash(self, index: int) -> None:
        """A machine is dead."""

    def on_effect(self, index: int, effect: Any) -> None:
        """A machine asked for an effect."""

    def on_durable(self, index: int, persist: Persist) -> None:
        """Records became durable."""

    def on_sent(self, index: int, message: Message) -> None:
        """A message left a machine."""

    def at_rest(self) -> None:
        """Everything has come to rest."""


class Seats:
    """Which observers watch what. Most look at a few kinds of effects only."""

    def __init__(self, observers: Sequence[Watcher]) -> None:
        self.observers = list(observers)
        self.on_effect = _Listeners(
            (each.on_effect, each.effects)
            for each in observers
            if _is_overridden(each, "on_effect")
        )
        """Whom to tell of an effect."""
        self.on_sent = _Listeners(
            (each.on_sent, each.messages) for each in observers if _is_overridden(each, "on_sent")
        )
        """Whom to tell of a message."""
        self.on_durable = _Listeners(
            (each.on_durable, each.stores)
            for each in observers
            if _is_overridden(each, "on_durable")
        )
        """Whom to tell of what became durable, by its store."""


class _Listeners(dict[Hashable, tuple[Callable[[int, Any], None], ...]]):
    """Whom to tell of something, by its kind; each kind is looked up once."""

    def __init__(
        self, hooks: Iterable[tuple[Callable[[int, Any], None], tuple[Hashable, ...]]]
    ) -> None:
        """The hooks, each with the kinds that it wants to hear of; none named means all."""
        super().__init__()
        self._hooks = tuple(hooks)

    def __missing__(self, kind: Hashable) -> tuple[Callable[[int, Any], None], ...]:
        found = self[kind] = tuple(
            hook for hook, kinds in self._hooks if not kinds or kind in kinds
        )
        return found


def _is_overridden(observer: Watcher, hook: str) -> bool:
    return getattr(type(observer), hook) is not getattr(Watcher, hook)
