"""Which observers of a world are told of what."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from localnet.sim.oracles import Watcher


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
