"""Both ends of the order door with all that lies behind the decoder: a node's answers to queries,
and a client that is told whatever a node may send.

Each stands on a run of its own (`localnet.fuzz.ground`): what is asked for is there, and what is
answered was asked for.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final, cast, get_args

import trio
import trio.testing
from msgspec.structs import replace

from consensus.chain import ARCHIVE_BLOCK_TABLE
from consensus.effects import Store
from consensus.types import Block, CheckpointHeader, StateCertificate
from crypto.codec import DecodeError, decode, decode_lenient, encode
from localnet.fuzz.contract import RefusedError, Target
from localnet.fuzz.corpus import Corpus, kind_of
from localnet.fuzz.ground import prepare_ground
from localnet.fuzz.wire_targets import require_stable
from localnet.fuzz.worker_harvest import list_questions
from localnet.sim.traders import MARKET
from node.client import DoorClient, DoorEvent
from node.client_events import read_entries
from node.client_stream import DoorError, deadline
from node.door import Door, QueryError, decode_request
from node.events import CertifiedNotice
from node.framing import encode_length
from node.host import NodeHost
from node.protocol import (
    DOOR_VERSION,
    AccountEvents,
    Answer,
    Channel,
    OpaqueSubmitted,
    Query,
    Refused,
    ServerFrame,
    Submitted,
    Subscribed,
    Welcome,
)
from node.queries import Queries
from node.recovery import (
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    ENVELOPE_TABLE,
    OUTPUT_TABLE,
)
from node.storage.archive import ArchiveStore
from node.streams import Streams
from node.workers.engine import EngineWorker
from node.workers.statements import StatementStore
from node.workers.views import Views

# ---- what a node answers ---------------------------------------------------------------------


class _NoDoor(Door):
    """A door without clients."""

    def __init__(self) -> None:
        pass

    def publish(self, *_: object) -> None:
        pass

    def has_subscribers(self, channel: Channel) -> bool:
        return False


class _Host:
    """What queries ask of a node's host."""

    def __init__(self) -> None:
        self.core = prepare_ground().cluster.core(0)
        self.clock = self
        self.alarms: dict[str, str] = {}
        self.misbehaviours: dict[str, int] = {}
        self.answers_dropped = 0

    def uptime_ms(self) -> int:
        return 1_000


class _Engine:
    """What queries ask of the engine's process, without the process."""

    async def query(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        state = prepare_ground().cluster.world.engines[0].state
        return Views(state).answer(name, encode(arguments))


@lru_cache(maxsize=1)
def _make_streams() -> Streams:
    """With all trades of the ground's run."""
    streams = Streams(_NoDoor())
    table = prepare_ground().cluster.world.disk(0).stores[Store.ARCHIVE]
    for key, output in sorted(table[OUTPUT_TABLE].items()):
        streams.on_output(int.from_bytes(key, "big"), output)
    certificate = decode(StateCertificate, max(table[CERTIFICATE_BY_HEIGHT_TABLE].items())[1])
    own = decode(CheckpointHeader, max(table[CHECKPOINT_TABLE].items())[1])
    streams.on_certified(CertifiedNotice(certificate, (own,)))
    return streams


@lru_cache(maxsize=1)
def _make_statements() -> StatementStore:
    """With one about the state at the end of the ground's run."""
    cluster = prepare_ground().cluster
    statements = StatementStore(Path(mkdtemp(prefix="rota-fuzz-statements-")), cluster.chain_id)
    statements.write(cluster.world.engines[0].state)
    return statements


def ask_node(data: bytes) -> None:
    """A query of a client, answered from a node's core, archive and engine."""
    request = decode_request(data)
    if not isinstance(request, Query):
        raise RefusedError("no query")
    cluster = prepare_ground().cluster
    queries = Queries(
        name="node0",
        committee=cluster.keys.committee,
        host=cast(NodeHost, _Host()),
        streams=_make_streams(),
        archive=cast(ArchiveStore, cluster.world.disk(0)),
        engine=cast(EngineWorker, _Engine()),
        statements=_make_statements(),
        statistics=dict,
    )
    answer = trio.run(queries.answer, request.name, request.arguments)
    require_stable(Any, decode_lenient(Any, answer))


def list_node_questions() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Questions of every name about the ground's run, in all their forms."""
    cluster = prepare_ground().cluster
    yield from list_questions(cluster.world.engines[0].state)
    tables = cluster.world.disk(0).stores[Store.ARCHIVE]
    key, encoded = min(tables[ARCHIVE_BLOCK_TABLE].items())
    block_id = decode(Block, encoded).block_id(cluster.chain_id)
    for name in ("block", "commit"):
        yield from ((name, ()), (name, (int.from_bytes(key, "big"),)), (name, (block_id,)))
    checkpoint = int.from_bytes(min(tables[CHECKPOINT_TABLE]), "big")
    yield from (("certificate", ()), ("certificate", (checkpoint,)))
    yield from (("envelope", (envelope_id,)) for envelope_id in sorted(tables[ENVELOPE_TABLE])[:2])
    (height,) = _make_statements().heights()
    account = min(cluster.world.engines[0].state.accounts)
    yield from (("solvency", ()), ("solvency", (account,)), ("solvency", (None, height)))
    yield from (("trades", ()), ("trades", (None, 5)), ("trades", (MARKET, 5)), ("status", ()))
    account = min(cluster.world.engines[0].state.accounts)
    yield from (("events", (account, 1)), ("events", (account, 2, 3)))


# ---- what a client is told -------------------------------------------------------------------

_ACCOUNT: Final = bytes(32)


class _ScriptedNode(trio.abc.Stream):
    """Says the next part of a script whenever it is asked, then hangs up."""

    def __init__(self, parts: Sequence[Sequence[bytes]]) -> None:
        self._parts = iter(parts)
        self._said = b""
        self._has_ended = False
        self._news = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        part = next(self._parts, None)
        self._has_ended = part is None
        self._said += b"".join(encode_length(len(frame)) + frame for frame in part or ())
        self._news.set()
        self._news = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._said and not self._has_ended:
            await self._news.wait()
        size_bytes = len(self._said) if max_bytes is None else max_bytes
        said, self._said = self._said[:size_bytes], self._said[size_bytes:]
        return said

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _converse(parts: Sequence[Sequence[bytes]]) -> None:
    """Everything that a client does, whatever it is told. Raises `DoorError`."""
    async with DoorClient.over(_ScriptedNode(parts)) as client:
        subscription = await client.subscribe(Channel.RECEIPTS, _ACCOUNT)
        await client.submit([b"envelope"])
        await client.submit_opaque(1, 4, bytes(4))
        await client.query("status")
        with deadline(1.0, "waiting for events"):
            for _ in get_args(DoorEvent):
                event = await subscription.receive()
                if isinstance(event, AccountEvents):
                    read_entries(event)


def tell_client(data: bytes) -> None:
    """What a node says after the greeting and after each request, told to a client."""
    parts = decode_lenient(tuple[tuple[bytes, ...], ...], data)
    trio.run(_converse, parts, clock=trio.testing.MockClock(autojump_threshold=0))


def _write_conversations(corpus: Corpus) -> Iterator[bytes]:
    """What nodes have said in the harvested runs, as answers to what the client asks here."""

    def select(kind: type[Any]) -> list[Any]:
        entries = corpus.select((kind_of("door_answer", kind),))
        return [decode_lenient(cast(Any, ServerFrame), each) for each in entries]

    welcome = encode(Welcome(DOOR_VERSION, "node0", bytes(32), 1, 1))
    (subscribed, *_) = select(Subscribed)
    (submitted, *_) = (each for each in select(Submitted) if len(each.results) == 1)
    (opaque, *_) = select(OpaqueSubmitted)
    events = [select(kind) for kind in get_args(DoorEvent)]
    refused = next(each for each in select(Refused) if each.request is not None)
    for number, answer in enumerate((refused, *select(Answer))):
        # One of each kind: a client takes what the node says under its number.
        told = [
            replace(held[number % len(held)], subscription=1, sequence=sequence)
            for sequence, held in enumerate(events)
        ]
        yield encode(
            (
                (welcome,),
                (encode(replace(subscribed, request=1)), *map(encode, told)),
                (encode(replace(submitted, request=2)),),
                (encode(replace(opaque, request=3)),),
                (encode(replace(answer, request=4)),),
            )
        )


# ---- both ------------------------------------------------------------------------------------


def harvest_door(corpus: Corpus) -> None:
    """Add the queries that the ground's run can answer, and conversations of clients."""
    for name, arguments in list_node_questions():
        corpus.add(f"query.{name}", encode(Query(1, name, arguments)))
    for conversation in _write_conversations(corpus):
        corpus.add("conversation", conversation)


DOOR_TARGETS: Final = (
    Target(
        "queries",
        ("query.*",),
        ask_node,
        (DecodeError, QueryError, RefusedError),
        weight=60,
    ),
    Target(
        "door_client",
        ("conversation",),
        tell_client,
        (DecodeError, DoorError),
        types=("list[dict[str, Any]]",),
        weight=150,
    ),
)
