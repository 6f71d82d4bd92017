"""Nobody is blamed without a cause."""

from collections.abc import Iterable
from typing import Any

from consensus.effects import Alarm, Halt, Misbehaviour
from localnet.sim.oracles.watchers import Watcher


class Innocence(Watcher):
    """Nobody blames the honest, and no node halts."""

    effects = (Misbehaviour, Halt, Alarm)

    def __init__(self, guilty: Iterable[int] = (), exempt: Iterable[int] | None = None) -> None:
        """Members that may be blamed, and the hosts (theirs, if not named) whose blame is void."""
        self._guilty = frozenset(guilty)
        self.exempt = self._guilty if exempt is None else frozenset(exempt)

    def on_effect(self, index: int, effect: Any) -> None:
        match effect:
            case Misbehaviour(member, code, detail):
                assert member in self._guilty, f"{index} blames {member}: {code} {detail}"
            case Halt(code, detail):
                raise AssertionError(f"{index} halts: {code} {detail}")
            case Alarm("lane.stored_batch_invalid", _) if self._guilty:
                # An author's batch is stored while it is being checked. If the node dies in
                # between, its next life finds a bad one, and cannot know whose fault it is.
                pass
            case Alarm(code, detail):
                raise AssertionError(f"{index} raises an alarm: {code} {detail}")
            case _:
                pass
