"""Answers to the door's queries (`node.protocol.QUERIES` lists them).

Everything comes from what this node itself has checked: the core, its archive, or its engine. An
answer is one MessagePack value of plain maps, lists, strings, integers and bytes.
"""

import os
from collections.abc import Awaitable, Callable
from functools import partial
from operator import eq
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import trio

from committee.committee import Committee
from consensus.chain import ARCHIVE_BLOCK_TABLE, ARCHIVE_COMMIT_TABLE
from consensus.effects import compute_key
from consensus.types import QC, Block, CheckpointHeader, StateCertificate
from crypto.bitmap import decode_bitmap
from crypto.codec import decode, decode_lenient, encode
from crypto.digest import DIGEST_SIZE_BYTES
from engine.block import BlockOutput
from node.account_events import describe_entries
from node.delivery import DeliveryRecord
from node.door import QueryError
from node.host import NodeHost
from node.protocol import QUERIES, ReceiptLevel
from node.recovery import (
    BLOCK_ID_TABLE,
    CERTIFICATE_BY_HEIGHT_TABLE,
    CHECKPOINT_TABLE,
    DELIVERY_TABLE,
    ENVELOPE_TABLE,
    LAST_KEY,
    OUTPUT_TABLE,
    REFUSED_TABLE,
)
from node.statements import CertifiedStatements
from node.storage.archive import ArchiveStore
from node.storage.errors import StorageError
from node.streams import Streams, describe_receipts, describe_trade
from node.workers.engine import EngineWorker, WorkerQueryError
from node.workers.statements import StatementStore

_T = TypeVar("_T")

TRADES_PER_ANSWER: Final = 50
"""When the query names no limit."""
TRADES_PER_ANSWER_MAX: Final = 1_000

READING_THREADS_MAX: Final = 4
"""Threads that read the archive for clients. Not those of the node's own work, which would wait
behind every question that a flood of clients asks."""

EVENTS_READ_MAX_BYTES: Final = 1 << 20
"""Outputs that one `events` answer is looked for in, unless one height alone has more: tens of
milliseconds of a thread."""

EVENTS_PER_ANSWER_MAX: Final = 1_000

EVENTS_OUTPUTS_MAX: Final = 1_000
"""Outputs likewise, however small."""

HEIGHT_MAX: Final = 2**63 - 1


def _find_results(output: bytes, envelope_id: bytes) -> msgspec.Raw:
    """An envelope's receipts out of a block's output of our own making; a thread runs this."""
    receipts = decode_lenient(BlockOutput, output).receipts
    own = [receipt for receipt in receipts if receipt.envelope_id == envelope_id]
    return msgspec.Raw(describe_receipts(own))


class _Found(NamedTuple):
    """Entries of an account, and where it goes on."""

    entries: list[dict[str, Any]]
    next_height: int
    next_leaf: int


def _find_events(
    archive: ArchiveStore, account: bytes, height: int, leaf: int, certified_height: int
) -> _Found:
    """What befell an account from a leaf of a height on, as far as it is certified and archived; a
    thread runs this.

    A height's checkpoint is archived after the outputs up to it, so nothing is passed over that is
    about to be written.
    """
    own = archive.read_range(CHECKPOINT_TABLE, LAST_KEY, 1, reverse=True)
    archived_height = int.from_bytes(own[0][0], "big") if own else 0
    last = min(certified_height, archived_height)
    entries: list[dict[str, Any]] = []
    is_wanted = partial(eq, account)
    next_height, read_bytes = height, 0
    for _ in range(EVENTS_OUTPUTS_MAX):
        outputs = archive.read_range(OUTPUT_TABLE, compute_key(next_height), 1)
        reached = int.from_bytes(outputs[0][0], "big") if outputs else last + 1
        if reached > last:
            return _Found(entries, *max((height, leaf), (last + 1, 0)))
        output = decode_lenient(BlockOutput, outputs[0][1])
        for _, entry in describe_entries(output, is_wanted):
            if (reached, entry["leaf"]) < (height, leaf):
                continue
            if len(entries) == EVENTS_PER_ANSWER_MAX:
                return _Found(entries, reached, entry["leaf"])
            entries.append({"height": reached, **entry})
        next_height = reached + 1
        read_bytes += len(outputs[0][1])
        if read_bytes >= EVENTS_READ_MAX_BYTES:
            break
    return _Found(entries, next_height, 0)


def _is_account(account_id: bytes | None) -> bool:
    return account_id is None or len(account_id) == DIGEST_SIZE_BYTES


class Queries:
    """See the module docstring."""

    def __init__(
        self,
        *,
        name: str,
        committee: Committee,
        host: NodeHost,
        streams: Streams,
        archive: ArchiveStore,
        engine: EngineWorker,
        statements: StatementStore,
        statistics: Callable[[], dict[str, Any]],
    ) -> None:
        self._name = name
        self._committee = committee
        self._host = host
        self._streams = streams
        self._archive = archive
        self._engine = engine
        self._statements = CertifiedStatements(statements, archive)
        self._statistics = statistics
        self._threads = trio.CapacityLimiter(READING_THREADS_MAX)
        self._views: dict[str, Callable[..., Awaitable[bytes]]] = {
            "status": self._status,
            "block": self._block,
            "commit": self._commit,
            "certificate": self._certificate,
            "envelope": self._envelope,
            "trades": self._trades,
            "events": self._events,
            "solvency": self._solvency,
        }
        """All but the views of the engine, which its worker answers from the newest state."""

    async def answer(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """Return the encoded answer. Raises `QueryError`."""
        if name not in QUERIES:
            known = ", ".join(sorted(QUERIES))
            raise QueryError("query.unknown", f"no query {name!r}; there are: {known}")
        view = self._views.get(name)
        if view is not None:
            return await view(arguments)
        try:
            return await self._engine.query(name, arguments)
        except WorkerQueryError as error:
            raise QueryError(error.code, error.detail) from error

    async def _read(self, table: str, key: bytes) -> bytes | None:
        return await self._run(self._archive.read, table, key)

    async def _run(self, work: Callable[..., _T], *arguments: Any) -> _T:
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._threads)

    # ---- the node ---------------------------------------------------------------------------

    async def _status(self, _: tuple[Any, ...]) -> bytes:
        core = self._host.core.statistics()
        members = self._committee.members
        status = {
            "name": self._name,
            "pid": os.getpid(),
            "chain_id": self._host.core.chain_id,
            "uptime_ms": self._host.clock.uptime_ms(),
            "view": core.consensus.view,
            "leader": members[core.consensus.leader].name,
            "committed_height": core.committed_height,
            "delivered_height": core.delivered_height,
            "executed_height": core.executed_height,
            "certified_height": core.certified_height,
            "state_root": core.state_root,
            "state_root_height": core.state_root_height,
            "pool_envelopes": core.pool_envelopes,
            "pool_bytes": core.pool_bytes,
            "verifying_bytes": core.verifying_bytes,
            "queued_blocks": core.queued_blocks,
            "summaries_held": core.summaries_held,
            "is_catching_up": core.is_catching_up,
            "is_following": core.is_following,
            "convictions": [
                {"member": members[index].name, "offence": offence}
                for index, offence in core.convictions
            ],
            "alarms": dict(sorted(self._host.alarms.items())),
            "consensus": msgspec.structs.asdict(core.consensus),
            "lanes": core.lanes._asdict(),
            "misbehaviours": dict(sorted(self._host.misbehaviours.items())),
            "answers_dropped": self._host.answers_dropped,
            **self._statistics(),
        }
        return encode(status)

    # ---- the chain --------------------------------------------------------------------------

    async def _height_of(self, arguments: tuple[Any, ...]) -> int:
        """The height that a query names, itself or by block id; default: the newest."""
        match arguments:
            case ():
                return self._host.core.statistics().committed_height
            case (int(height),) if 0 < height <= HEIGHT_MAX:
                return height
            case (bytes(block_id),) if len(block_id) == 32:
                stored = await self._read(BLOCK_ID_TABLE, block_id)
                if stored is None:
                    raise QueryError("block.unknown", "no committed block has this id")
                return int.from_bytes(stored, "big")
        raise QueryError("query.malformed", "give a height above 0 or a block id of 32 bytes")

    async def _block(self, arguments: tuple[Any, ...]) -> bytes:
        height = await self._height_of(arguments)
        encoded = await self._read(ARCHIVE_BLOCK_TABLE, compute_key(height))
        if encoded is None:
            raise QueryError("block.unknown", f"height {height} is not committed here")
        block = decode(Block, encoded)
        record = await self._read(DELIVERY_TABLE, compute_key(height))
        delivery = decode(DeliveryRecord, record) if record is not None else None
        return encode(
            {
                "height": block.height,
                "block_id": block.block_id(self._host.core.chain_id),
                "parent_id": block.parent_id,
                "epoch": block.epoch,
                "view": block.view,
                "author": self._committee.members[block.author].name,
                "time_ms": block.time_ms,
                "lanes": [
                    {
                        "author": self._committee.members[tip.data.author].name,
                        "sequence": tip.data.sequence,
                        "batch_id": tip.data.batch_id,
                        "signers": self._names(tip.signers),
                    }
                    for tip in block.lanes
                ],
                "evidence": list(block.evidence),
                "state_certificate_height": (
                    block.state_certificate.header.height if block.state_certificate else None
                ),
                "qc_view": block.qc.view,
                "tc_view": block.tc.view if block.tc else None,
                "size_bytes": len(encoded),
                "delivered": delivery is not None,
                "envelopes": sum(each.envelope_count for each in delivery.batches)
                if delivery
                else None,
                "order_root": delivery.order_root if delivery else None,
            }
        )

    async def _commit(self, arguments: tuple[Any, ...]) -> bytes:
        height = await self._height_of(arguments)
        encoded = await self._read(ARCHIVE_COMMIT_TABLE, compute_key(height))
        if encoded is None:
            raise QueryError("block.unknown", f"height {height} is not committed here")
        qc = decode(QC, encoded)
        signers = self._signers(qc.signers)
        return encode(
            {
                "height": qc.height,
                "view": qc.view,
                "epoch": qc.data.epoch,
                "block_id": qc.block_id,
                "signers": [self._committee.members[each].name for each in signers],
                "power": self._committee.power_of(signers),
                "quorum_power": self._committee.quorum_power,
                "signature": qc.signature,
            }
        )

    async def _certificate(self, arguments: tuple[Any, ...]) -> bytes:
        """The own checkpoint of a height (default: the newest), and its certificate if known."""
        if arguments:
            height = await self._height_of(arguments)
        else:
            height = self._host.core.statistics().state_root_height
        own = await self._read(CHECKPOINT_TABLE, compute_key(height))
        certificate = await self._read(CERTIFICATE_BY_HEIGHT_TABLE, compute_key(height))
        if own is None and certificate is None:
            raise QueryError("checkpoint.unknown", f"height {height} is no checkpoint here")
        answer: dict[str, Any] = {"height": height, "certified": certificate is not None}
        answer["encoded"] = certificate
        header: CheckpointHeader
        if certificate is not None:
            decoded = decode(StateCertificate, certificate)
            signers = self._signers(decoded.signers)
            answer["signers"] = [self._committee.members[each].name for each in signers]
            answer["power"] = self._committee.power_of(signers)
            header = decoded.header
        if own is not None:
            header = decode(CheckpointHeader, own)
        answer |= {
            "own": own is not None,
            "epoch": header.epoch,
            "block_id": header.block_id,
            "time_ms": header.time_ms,
            "state_root": header.state_root,
            "order_root": header.order_root,
            "market_root": header.market_root,
            "receipts_root": header.receipts_root,
        }
        return encode(answer)

    def _signers(self, bitmap: bytes) -> tuple[int, ...]:
        return tuple(decode_bitmap(bitmap, len(self._committee)))

    def _names(self, bitmap: bytes) -> list[str]:
        return [self._committee.members[each].name for each in self._signers(bitmap)]

    # ---- solvency ---------------------------------------------------------------------------

    async def _solvency(self, arguments: tuple[Any, ...]) -> bytes:
        account_id: bytes | None
        height: int | None
        match (*arguments, None, None)[: max(2, len(arguments))]:
            case (None | bytes() as account_id, None) if _is_account(account_id):
                height = None
            case (None | bytes() as account_id, int(height)) if (
                _is_account(account_id) and 0 < height <= HEIGHT_MAX
            ):
                pass
            case _:
                raise QueryError(
                    "query.malformed", "give an account id of 32 bytes or nil, and a height above 0"
                )
        try:
            return encode(await self._run(self._statements.describe, account_id, height))
        except StorageError as error:
            # Nothing else depends on these files, and the next save makes a new one.
            raise QueryError("solvency.damaged", error.message) from error

    # ---- envelopes and trades ---------------------------------------------------------------

    async def _envelope(self, arguments: tuple[Any, ...]) -> bytes:
        match arguments:
            case (bytes(envelope_id),) if len(envelope_id) == 32:
                pass
            case _:
                raise QueryError("query.malformed", "give an envelope id of 32 bytes")
        level: ReceiptLevel
        status = self._host.core.tracker.status(envelope_id)
        stored = await self._read(ENVELOPE_TABLE, envelope_id)
        height, code = 0, None
        if stored is not None:
            height = int.from_bytes(stored, "big")
            is_certified = height <= self._host.core.statistics().certified_height
            level = ReceiptLevel.EXECUTED if is_certified else ReceiptLevel.ORDERED
        elif status is not None:
            level, height, code = status.level, status.height, status.code
        else:
            refusal = await self._read(REFUSED_TABLE, envelope_id)
            if refusal is None:
                raise QueryError("envelope.unknown", "this node has not seen this envelope")
            level, code = ReceiptLevel.REFUSED, refusal.decode()
        results: Any = None
        if level is ReceiptLevel.EXECUTED:
            output = await self._read(OUTPUT_TABLE, compute_key(height))
            if output is not None:
                # A block of many instructions takes milliseconds to decode: not on the event loop.
                results = await self._run(_find_results, output, envelope_id)
        return encode(
            {
                "envelope_id": envelope_id,
                "level": level.value,
                "height": height,
                "code": code,
                "results": results,
            }
        )

    async def _events(self, arguments: tuple[Any, ...]) -> bytes:
        """Of an account; whoever goes on where an answer ends misses nothing."""
        leaf = 0
        match arguments:
            case (bytes(account), int(height)) if 0 < height <= HEIGHT_MAX:
                pass
            case (bytes(account), int(height), int(leaf)) if (
                0 < height <= HEIGHT_MAX and 0 <= leaf <= HEIGHT_MAX
            ):
                pass
            case _:
                account = b""
        if len(account) != DIGEST_SIZE_BYTES:
            raise QueryError(
                "query.malformed", "give an account id of 32 bytes, a height above 0, and a leaf"
            )
        certified_height = self._host.core.statistics().certified_height
        found = await self._run(
            _find_events, self._archive, account, height, leaf, certified_height
        )
        return encode(
            {
                "events": found.entries,
                "next_height": found.next_height,
                "next_leaf": found.next_leaf,
                "certified_height": certified_height,
            }
        )

    async def _trades(self, arguments: tuple[Any, ...]) -> bytes:
        match arguments:
            case ():
                market, limit = None, TRADES_PER_ANSWER
            case (None | int(), int(limit)) if 0 < limit <= TRADES_PER_ANSWER_MAX:
                market = arguments[0]
            case _:
                raise QueryError(
                    "query.malformed",
                    f"give a market id or nil, and a limit up to {TRADES_PER_ANSWER_MAX}",
                )
        found = [
            (height, fill)
            for height, fill in self._streams.recent_fills
            if market is None or fill.market == market
        ]
        return encode([describe_trade(height, fill) for height, fill in found[-limit:]])
