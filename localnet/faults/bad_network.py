"""A network through the proxy, on which messages are lost, doubled and overtaken."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Final, NamedTuple

import trio

from localnet.faults.model import PERMILLE, Duplicate, Link, Loss, MessageFault, Reorder
from localnet.faults.weather import Weather
from localnet.network import HOST
from node.transport.network import PeerAddress, PeerNetwork
from node.transport.queues import Traffic

HELD_MAX: Final = 1_024
"""Messages held back to be reordered; beyond it they are sent at once."""


class Fate(NamedTuple):
    """What becomes of one message."""

    copies: int
    """0: it is lost."""
    held_ms: int
    struck: tuple[int, ...]
    """The numbers of the faults that hit it."""


def decide(kind: str, rules: Sequence[tuple[int, MessageFault]], random: Random) -> Fate:
    """What the faults on a link, with their numbers, make of a message of a kind. Pure, but for
    the numbers that it draws."""
    copies, held_ms, struck = 1, 0, []
    for number, rule in rules:
        is_meant = not rule.messages or kind in rule.messages
        if not is_meant or random.randrange(PERMILLE) >= rule.permille:
            continue
        struck.append(number)
        match rule:
            case Loss():
                return Fate(0, 0, tuple(struck))
            case Duplicate():
                copies += 1
            case Reorder(hold_max_ms=hold_max_ms):
                held_ms += random.randint(1, hold_max_ms)
    return Fate(copies, held_ms, tuple(struck))


def read_kind(frame: bytes) -> str:
    """The wire tag of an encoded message: the string that its array begins with."""
    start = 1 if frame[0] & 0xF0 == 0x90 else 3
    size_bytes = frame[start] & 0x1F
    return frame[start + 1 : start + 1 + size_bytes].decode("ascii")


class Postman:
    """Sends what a node hands over, as the weather allows. `run` as a task, or nothing is held
    back."""

    def __init__(self, weather: Weather, random: Random) -> None:
        self._weather = weather
        self._random = random
        self._held = 0
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await trio.sleep_forever()

    def send(self, receiver: str, frame: bytes, send_one: Callable[[], bool]) -> bool:
        """Call `send_one` as often as the message is to leave, now or later; False if it is lost
        or could not be queued."""
        rules = self._weather.rules.get(receiver)
        if not rules:
            return send_one()
        fate = decide(read_kind(frame), rules, self._random)
        self._weather.struck.update(fate.struck)
        if fate.held_ms and self._held < HELD_MAX and self._nursery is not None:
            self._held += 1
            self._nursery.start_soon(self._send_later, fate, send_one)
            return True
        return _send_copies(fate, send_one)

    async def _send_later(self, fate: Fate, send_one: Callable[[], bool]) -> None:
        await trio.sleep(fate.held_ms / 1_000)
        self._held -= 1
        _send_copies(fate, send_one)


def _send_copies(fate: Fate, send_one: Callable[[], bool]) -> bool:
    # All of them, also after one that found no room.
    queued = [send_one() for _ in range(fate.copies)]
    return bool(queued) and all(queued)


class BadNetwork(PeerNetwork):
    """Connections through the proxy, and a postman in a bad world."""

    def __init__(
        self,
        weather: Weather,
        ports: Mapping[Link, int],
        routes: Mapping[str, str],
        random: Random,
        *,
        peers: Mapping[int, PeerAddress],
        **options: Any,
    ) -> None:
        members = options["committee"].members
        redirected = {}
        for index, each in peers.items():
            name = members[index].name
            port = ports[Link(weather.name, routes.get(name, name))]
            redirected[index] = PeerAddress(HOST, port, each.certificate)
        super().__init__(peers=redirected, **options)
        self._names = {index: member.name for index, member in enumerate(members)}
        self._weather = weather
        self._postman = Postman(weather, random)

    def send(self, to: int, traffic: Traffic, frame: bytes) -> bool:
        """As the honest network, unless a fault has its way."""
        return self._postman.send(self._names[to], frame, partial(super().send, to, traffic, frame))

    async def serve(
        self, *, task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """As the honest network; also keeps the weather up to date."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._weather.reader.run)
            nursery.start_soon(self._postman.run)
            bound = await nursery.start(super().serve)
            task_status.started(bound)
