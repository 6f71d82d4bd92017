"""Harvests what clients and doors say to each other: the node's own streams tell a door that keeps
what it is told."""

from collections.abc import Callable
from typing import Any

from msgspec import Raw

from crypto.codec import encode
from engine.block import BlockOutput
from localnet.fuzz.corpus import Corpus
from localnet.fuzz.worker_harvest import add_to_union, list_questions
from localnet.sim.nodes import NodeCluster
from node.door import Door
from node.events import (
    BlockNotice,
    CertifiedNotice,
    DeliveredNotice,
    OpaqueReply,
    ReceiptUpdate,
    SubmitReply,
)
from node.protocol import (
    ACCOUNT_CHANNELS,
    DOOR_VERSION,
    QUERIES,
    Answer,
    Channel,
    Hello,
    OpaqueSubmitted,
    Query,
    Refused,
    SubmitEnvelopes,
    SubmitOpaque,
    Submitted,
    Subscribe,
    Subscribed,
    Welcome,
)
from node.streams import Streams


class _KeepingDoor(Door):
    """A door without clients to which everybody subscribes."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._sequence = 0

    def reply(self, source: int, frame: Submitted | OpaqueSubmitted) -> None:
        add_to_union(self._corpus, "door_answer", frame)

    def publish(self, channel: Channel, make: Callable[[int, int], Any]) -> None:
        self._sequence += 1
        add_to_union(self._corpus, "door_answer", make(1, self._sequence))

    def publish_to(self, channel: Channel, account: bytes, make: Callable[[int, int], Any]) -> None:
        self.publish(channel, make)

    def has_subscribers(self, channel: Channel) -> bool:
        return True

    def is_watched(self, channel: Channel, account: bytes) -> bool:
        return True


class DoorHarvest:
    """One node's door during one run."""

    def __init__(self, corpus: Corpus, cluster: NodeCluster) -> None:
        self._corpus = corpus
        self._cluster = cluster
        # As if the node had executed its first height before it stopped.
        self._streams = Streams(_KeepingDoor(corpus), (1, 1))

    def on_effect(self, effect: Any) -> None:
        """What the node's host would tell its streams."""
        match effect:
            case BlockNotice():
                self._streams.on_block(effect)
            case DeliveredNotice():
                self._streams.on_delivered(effect)
            case CertifiedNotice():
                self._streams.on_certified(effect)
            case ReceiptUpdate():
                self._streams.on_receipt(effect)
            case SubmitReply():
                self._streams.on_submit_reply(effect)
            case OpaqueReply():
                self._streams.on_opaque_reply(effect)
            case _:
                pass

    def on_output(self, height: int, output: BlockOutput) -> None:
        """The engine finished a height."""
        if output.receipts:
            self._streams.on_output(height, encode(output))

    def finish(self, envelopes: list[bytes], bodies: list[bytes]) -> None:
        """What clients say, with what they have said in this run, and the answers at once."""
        corpus, cluster = self._corpus, self._cluster
        account = cluster.identity.public_key(cluster.accounts[0])
        state = cluster.world.engines[0].state
        questions = [*list_questions(state), *((name, ()) for name in QUERIES)]
        requests = (
            Hello(DOOR_VERSION),
            *(SubmitEnvelopes(7, tuple(envelopes[:count])) for count in (1, 2, 5)),
            SubmitOpaque(8, 1, 64, bytes(640)),
            *(
                Subscribe(9, channel, account if channel in ACCOUNT_CHANNELS else None)
                for channel in Channel
            ),
            *(Query(10, name, arguments) for name, arguments in questions),
        )
        for request in requests:
            add_to_union(corpus, "door_request", request)
        committed_height = cluster.lowest_committed()
        answers = (
            Welcome(DOOR_VERSION, "node0", cluster.chain_id, committed_height, 1_000),
            Refused(None, "door.malformed", "not the canonical encoding"),
            Refused(3, "query.unknown", "no query"),
            Subscribed(4, committed_height),
            *(Answer(5, Raw(body)) for body in bodies),
        )
        for answer in answers:
            add_to_union(corpus, "door_answer", answer)
