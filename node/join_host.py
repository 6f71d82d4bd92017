"""The trio host of one `Joiner`: carries out its effects until the stores are a node's beginning.

Nothing of the node runs yet, so nothing here can delay a vote. Files are written by threads, one
after the other, and frames are taken no faster than that.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog
import trio

from consensus.effects import Misbehaviour, Received, Send, SetTimer, TimerFired, Verified, Verify
from consensus.messages import encode_message
from crypto.codec import DecodeError
from node.clock import Clock
from node.host import decode_frame
from node.joining import (
    JoinEffect,
    JoinEnded,
    Joiner,
    JoinEvent,
    KeepChunk,
    KeepOffer,
    Restore,
    Restored,
)
from node.offers import Offer
from node.storage.join_files import JoinFiles
from node.timers import Timers
from node.transport.network import PeerNetwork
from node.transport.queues import Inbox, Traffic
from node.workers.threads import ConsensusCrypto

WRITES_WAITING_MAX: Final = 32
"""Pieces that wait to be written: some megabytes. Beyond it nothing more is taken from members."""

_log = structlog.get_logger()

Write = KeepOffer | KeepChunk | Restore


class JoinHost:
    """See the module docstring."""

    def __init__(
        self,
        *,
        joiner: Joiner,
        clock: Clock,
        network: PeerNetwork,
        files: JoinFiles,
        crypto: ConsensusCrypto,
        restore: Callable[[Offer], str | None],
    ) -> None:
        """`restore` makes a node's stores of what `files` hold, or says why that is not what was
        certified; a thread calls it."""
        self._joiner = joiner
        self._clock = clock
        self._network = network
        self._files = files
        self._crypto = crypto
        self._restore = restore
        self._timers = Timers(clock, lambda name: self._dispatch(TimerFired(name)))
        self._events: deque[JoinEvent] = deque()
        self._is_stepping = False
        self._writes: deque[Write] = deque()
        self._has_writes = trio.Event()
        self._has_room = trio.Event()
        self._has_room.set()
        self._ended = trio.Event()
        self._height = 0
        self._chunks = 0

    async def run(self) -> int:
        """Join; returns at which height, or 0 if nobody has a snapshot to give.

        Raises `StorageError`, and `OSError` if it cannot listen.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._network.serve)
            nursery.start_soon(self._crypto.run)
            nursery.start_soon(self._timers.run)
            nursery.start_soon(self._clock.run)
            nursery.start_soon(self._write)
            nursery.start_soon(self._hand_over, self._network.control, Traffic.CONTROL)
            nursery.start_soon(self._hand_over, self._network.bulk, Traffic.BULK)
            self._perform_all(self._joiner.start(self._clock.now_ms()))
            await self._ended.wait()
            nursery.cancel_scope.cancel()
        return self._height

    async def _hand_over(self, inbox: Inbox, traffic: Traffic) -> None:
        while True:
            for inbound in await inbox.receive_many():
                await self._has_room.wait()
                try:
                    message = decode_frame(traffic, inbound.frame)
                except DecodeError as error:
                    self._blame(Misbehaviour(inbound.sender, error.code, str(error)))
                    continue
                self._dispatch(Received(inbound.sender, message))

    def _dispatch(self, event: JoinEvent) -> None:
        self._events.append(event)
        if self._is_stepping:
            return
        self._is_stepping = True
        try:
            while self._events:
                event = self._events.popleft()
                self._perform_all(self._joiner.step(self._clock.now_ms(), event))
        finally:
            self._is_stepping = False

    def _perform_all(self, effects: Sequence[JoinEffect]) -> None:
        for effect in effects:
            match effect:
                case Send(to, message):
                    frame = encode_message(message)
                    for member in to:
                        self._network.send(member, Traffic.CONTROL, frame)
                case SetTimer(name, deadline_ms):
                    self._timers.set(name, deadline_ms)
                case Verify():
                    self._verify(effect)
                case Misbehaviour():
                    self._blame(effect)
                case KeepOffer() | KeepChunk() | Restore():
                    self._writes.append(effect)
                    self._has_writes.set()
                    if len(self._writes) >= WRITES_WAITING_MAX:
                        self._has_room = trio.Event()
                case JoinEnded(height):
                    self._height = height
                    self._ended.set()

    def _verify(self, effect: Verify) -> None:
        self._crypto.verify(
            effect.claims, lambda results: self._dispatch(Verified(effect.token, results))
        )

    def _blame(self, effect: Misbehaviour) -> None:
        _log.warning(
            "peer_misbehaviour",
            member=effect.member,
            rule=effect.code,
            detail=effect.detail[:200],
        )

    async def _write(self) -> None:
        """Write what is to be kept, in order, and then put it together."""
        while True:
            await self._has_writes.wait()
            while self._writes:
                match self._writes[0]:
                    case KeepOffer(offer):
                        await trio.to_thread.run_sync(self._files.keep_offer, offer)
                        _log.info("join_offer_chosen", size_bytes=len(offer))
                    case KeepChunk(name, data):
                        await trio.to_thread.run_sync(self._files.keep_chunk, name, data)
                        self._chunks += 1
                    case Restore(token, offer):
                        _log.info("join_restoring", height=offer.height, fetched=self._chunks)
                        error = await trio.to_thread.run_sync(self._restore, offer)
                        self._dispatch(Restored(token, error))
                self._writes.popleft()
                if len(self._writes) < WRITES_WAITING_MAX:
                    self._has_room.set()
            self._has_writes = trio.Event()
