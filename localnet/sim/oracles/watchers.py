"""Who watches a world, and which of them is told of what."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from consensus.effects import Persist, Received, Store
from consensus.messages import Message
from engine.block import BlockInput, BlockOutput
from localnet.verdicts import Verdict
from node.events import Execute


class Execution(NamedTuple):
    """One height that one node's engine executed."""

    request: Execute
    ordered: tuple[bytes, ...]
    """Ids of all its envelopes, in order."""
    passed: tuple[bytes, ...]
    """Ids of those that the header ledger let through, in order."""
    block: BlockInput
    """What the engine was given."""
    output: BlockOutput


class Watcher:
    """An observer that ignores everything; oracles override what they look at."""

    effects: ClassVar[tuple[type, ...]] = ()
    """The kinds of effects that it wants to hear of; none named means all."""
    messages: ClassVar[tuple[type, ...]] = ()
    """The kinds of messages, likewise."""
    arrivals: ClassVar[tuple[type, ...]] = ()
    """The kinds of messages of whose arrival it wants to hear, likewise."""
    stores: ClassVar[tuple[Store, ...]] = ()
    """The stores of whose records it wants to hear once they are durable, likewise."""
    verdict: ClassVar[Verdict] = Verdict.SAFETY
    """On a run in which it raises."""
    exempt: frozenset[int] = frozenset()
    """Machines of which it wants to hear nothing but that they start and die. May not change once
    the world has looked at it."""

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

    def on_received(self, index: int, event: Received) -> None:
        """A running machine is about to hear a message."""

    def on_told(self, index: int, event: Any) -> None:
        """A client hands something to a running node."""

    def on_executed(self, index: int, execution: Execution) -> None:
        """A node's engine finished a height."""

    def at_rest(self) -> None:
        """Everything has come to rest."""


Hook = Callable[[int, Any], None]


class Dispatch:
    """Which observers of a world are told of what. Most look at a few kinds of things only, and
    hear nothing of machines that promise nothing."""

    def __init__(self, observers: Sequence[Watcher]) -> None:
        self.observers = list(observers)
        self.on_effect = self._list("on_effect", "effects")
        self.on_sent = self._list("on_sent", "messages")
        self.on_durable = self._list("on_durable", "stores")
        self.on_received = self._list("on_received", "arrivals")
        self.on_told = self._list("on_told")
        self.on_executed = self._list("on_executed")

    def _list(self, hook: str, kinds: str | None = None) -> "_Hosts":
        """Those who override a hook, each with the kinds that it wants to hear of."""
        return _Hosts(
            (getattr(each, hook), () if kinds is None else getattr(each, kinds), each.exempt)
            for each in self.observers
            if getattr(type(each), hook) is not getattr(Watcher, hook)
        )


class _Kinds(dict[Hashable, tuple[Hook, ...]]):
    """Whom to tell of something that one machine did, by its kind; each kind is looked up once."""

    def __init__(self, hooks: Iterable[tuple[Hook, tuple[Hashable, ...]]]) -> None:
        """The hooks, each with the kinds that it wants to hear of; none named means all."""
        super().__init__()
        self._hooks = tuple(hooks)

    def __missing__(self, kind: Hashable) -> tuple[Hook, ...]:
        found = self[kind] = tuple(
            hook for hook, kinds in self._hooks if not kinds or kind in kinds
        )
        return found


class _Hosts(dict[int, _Kinds]):
    """The same by machine."""

    def __init__(self, hooks: Iterable[tuple[Hook, tuple[Hashable, ...], frozenset[int]]]) -> None:
        """The hooks, besides with the machines that do not concern them."""
        super().__init__()
        self._hooks = tuple(hooks)

    def __missing__(self, index: int) -> _Kinds:
        found = self[index] = _Kinds(
            (hook, kinds) for hook, kinds, exempt in self._hooks if index not in exempt
        )
        return found
