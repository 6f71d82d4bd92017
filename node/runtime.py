"""One node as a process: opens what it needs, runs it as one trio nursery, closes it in order.

    run_node
    ├── crypto pool, engine worker          subprocesses (node.workers)
    └── nursery
        ├── safety, archive, batches        one committing task a store (node.storage.group_commit)
        ├── host                            the core, its effects and timers (node.host)
        ├── peers                           connections to the other members (node.transport)
        ├── control, bulk                   one task each hands received frames to the host
        └── door                            clients (node.door)

A stop on request cancels clients and peers first, then the core; what it asked to be stored is
written, the engine saves its state, and everything is closed. A crash at any point is safe instead:
that is what `node.recovery` is for.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

import msgspec
import structlog
import trio

from consensus.config import ConsensusConfig
from consensus.lane_limits import LanesConfig
from crypto.digest import Domain, digest
from mempool.admission import AdmissionConfig
from mempool.batcher import BatcherConfig
from node.clock import Clock
from node.config import ConfigError, NodeConfig
from node.core import CoreFactory, NodeCore
from node.core_config import NodeCoreConfig
from node.door import Door
from node.events import EnvelopesSubmitted, OpaqueSubmitted
from node.exit_codes import OperatorError, PortInUseError
from node.failures import explaining_end
from node.genesis import Genesis
from node.home import NodeHome, RunState
from node.host import NodeHost
from node.join import has_beginning, join
from node.keystores import NodeKeys
from node.protocol import DOOR_VERSION, Welcome
from node.queries import Queries
from node.recovery import recover_node
from node.signing_marker import mark_signing, may_create_safety_records
from node.snapshot_library import SnapshotLibrary
from node.storage.archive import ArchiveStore
from node.storage.batches import BATCHES_PER_COMMIT_MAX, BatchStore
from node.storage.disk import Disk
from node.storage.errors import SafetyError
from node.storage.group_commit import GroupCommitter
from node.storage.records import RecordWrite
from node.storage.safety import SafetyStore
from node.streams import Streams
from node.transport.certificate import CertificateError
from node.transport.network import PeerAddress, PeerNetwork
from node.transport.queues import Inbox, Traffic
from node.workers.crypto import CryptoPool, open_crypto_pool
from node.workers.engine import EngineWorker, open_engine_worker
from node.workers.manifests import ManifestFiles
from node.workers.statements import StatementStore
from node.workers.threads import ConsensusCrypto

THREAD_SWITCH_INTERVAL_S: Final = 0.001
"""A thread that comes back from a long native call waits at most this long for the interpreter."""

STATE_FILE_INTERVAL_S: Final = 1.0

ARCHIVE_COMMIT_PAUSE_S: Final = 0.025
"""Between two commits of the archive: what a crash may lose of it, and must fetch again."""

_log = structlog.get_logger()


def refuse_record(_: Sequence[RecordWrite]) -> None:
    """Where a node that follows would keep what it signed. Raises `SafetyError`."""
    raise SafetyError(
        "a node that follows was to record what it signs: a bug",
        advice="report it; nothing was signed",
        code="safety.following",
    )


class HostParts(NamedTuple):
    """What a node touches the world with. A test bench may put its own in the place of some."""

    make_network: Callable[..., PeerNetwork] = PeerNetwork
    """Called with what `PeerNetwork` takes."""
    make_clock: Callable[[], Clock] = Clock
    disk: Disk | None = None
    """Of the batch store; None is the operating system's."""
    vfs: str | None = None
    """Name of the SQLite file system of the other stores; None is the operating system's."""


def make_core_config(config: NodeConfig, genesis: Genesis) -> NodeCoreConfig:
    """The settings of the pure parts, from `node.toml` and genesis."""
    pace = config.consensus
    return NodeCoreConfig(
        consensus=ConsensusConfig(
            leader_seed=digest(Domain.LEADER, genesis.chain_id(), genesis.seed.to_bytes(8, "big")),
            min_block_interval_ms=pace.min_block_interval_ms,
            idle_interval_ms=pace.idle_interval_ms,
            base_view_timeout_ms=pace.base_view_timeout_ms,
            straggler_wait_ms=pace.straggler_wait_ms,
            clock_drift_ms=pace.clock_drift_ms,
            block_age_max_ms=pace.block_age_max_ms,
            sync_retry_ms=pace.sync_retry_ms,
        ),
        lanes=LanesConfig(ack_interval_ms=pace.ack_interval_ms),
        admission=AdmissionConfig(
            pool_size_bytes=config.mempool.pool_size_bytes, pool_count=config.mempool.pool_count
        ),
        batcher=BatcherConfig(
            batch_interval_ms=config.mempool.batch_interval_ms,
            batch_size_bytes=config.mempool.batch_size_bytes,
        ),
        snapshot_interval_blocks=config.storage.snapshot_interval_blocks,
        snapshot_interval_ms=config.storage.snapshot_interval_ms,
        is_following=config.node.follow,
    )


async def run_node(
    home: NodeHome,
    config: NodeConfig,
    genesis: Genesis,
    me: int,
    keys: NodeKeys,
    stop: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    make_core: CoreFactory = NodeCore,
    parts: HostParts | None = None,
) -> None:
    """Run one node until `stop` is set; `task_status` reports that it serves clients.

    `make_core` and `parts` let a test bench host another core than the honest one, in another
    world than the real one. The caller holds the home's lock and has checked it. Raises
    `OperatorError` with an exit code for whatever the operator can mend or must look at.
    """
    sys.setswitchinterval(THREAD_SWITCH_INTERVAL_S)
    with explaining_end(home):
        node = _Node(home, config, genesis, me, keys, make_core, parts or HostParts())
        await node.run(stop, task_status)


class _Node:
    """The node's resources while it runs."""

    def __init__(
        self,
        home: NodeHome,
        config: NodeConfig,
        genesis: Genesis,
        me: int,
        keys: NodeKeys,
        make_core: CoreFactory,
        parts: HostParts,
    ) -> None:
        self._home = home
        self._make_core = make_core
        self._parts = parts
        self._config = config
        self._genesis = genesis
        self._me = me
        self._keys = keys
        self._chain_id = genesis.chain_id()
        self._committee = genesis.committee()
        limits = config.limits
        self._door = Door(
            self,
            connections_max=limits.door_connections_max,
            send_queue_max_bytes=limits.door_send_queue_bytes,
            idle_timeout_s=limits.door_idle_timeout_ms / 1000,
        )
        self._network = self._make_network()
        self._host: NodeHost
        self._queries: Queries
        self._stores: dict[str, GroupCommitter[Any]]

    def _make_network(self) -> PeerNetwork:
        endpoint = self._config.peer.endpoint()
        try:
            return self._parts.make_network(
                me=self._me,
                committee=self._committee,
                chain_id=self._chain_id,
                identity_secret=self._keys.identity,
                listen=(endpoint.host, endpoint.port),
                peers=self._peer_addresses(),
            )
        except CertificateError as error:
            raise ConfigError(
                f"{self._home.config_path}: {error}",
                advice="paste the [peers.NAME] table that `rota node init` printed on that "
                "member's host",
                code="config.certificate",
            ) from error

    def _peer_addresses(self) -> dict[int, PeerAddress]:
        addresses = {}
        for index, member in enumerate(self._committee.members):
            entry = self._config.peers.get(member.name)
            if index != self._me and entry is not None:
                addresses[index] = PeerAddress(*entry.endpoint(), entry.certificate)
        return addresses

    async def run(self, stop: trio.Event, task_status: trio.TaskStatus[None]) -> None:
        """Open the stores and workers, run until stopped, close everything."""
        home = self._home
        is_following = self._config.node.follow
        if is_following and not await self._join(stop):
            return
        with ExitStack() as stores:
            safety = None if is_following else self._open_safety()
            if safety is not None:
                stores.callback(safety.close)
            archive = ArchiveStore(home.chain_path, owner=self._chain_id, vfs=self._parts.vfs)
            stores.callback(archive.close)
            batches = BatchStore(home.segments_dir, disk=self._parts.disk)
            stores.callback(batches.close)
            if safety is not None:
                member = self._committee.members[self._me]
                mark_signing(home, self._chain_id, member.consensus_key)
            async with (
                open_crypto_pool(self._config.limits.crypto_workers, self._chain_id) as pool,
                open_engine_worker(self._genesis.engine, home.engine_dir, self._chain_id) as engine,
            ):
                recovered = recover_node(
                    self._genesis,
                    self._me,
                    None if safety is None else safety.load(),
                    archive,
                    batches,
                    engine.height,
                )
                _log.info(
                    "node_recovered",
                    committed_height=recovered.consensus.tip.height,
                    order_height=recovered.order_state.height,
                    engine_height=engine.height,
                )
                core = self._make_core(
                    make_core_config(self._config, self._genesis),
                    self._genesis,
                    self._me,
                    recovered,
                )
                safety_writes = GroupCommitter(refuse_record if safety is None else safety.commit)
                archive_writes = GroupCommitter(archive.commit, pause_s=ARCHIVE_COMMIT_PAUSE_S)
                batch_writes = GroupCommitter(
                    batches.commit, items_per_commit_max=BATCHES_PER_COMMIT_MAX
                )
                # Their outputs were told to nobody, and the engine will not give them again.
                missed = (core.certified_height + 1, engine.height)
                streams = Streams(self._door, missed if missed[0] <= missed[1] else None)
                self._host = NodeHost(
                    me=self._me,
                    core=core,
                    clock=self._parts.make_clock(),
                    keys=self._keys,
                    network=self._network,
                    audience=streams,
                    safety=safety_writes,
                    archive=archive,
                    archive_writes=archive_writes,
                    batches=batches,
                    batch_writes=batch_writes,
                    pool=pool,
                    crypto=ConsensusCrypto(self._chain_id),
                    engine=engine,
                    library=SnapshotLibrary(ManifestFiles(home.engine_dir), archive),
                    is_signing=not is_following,
                )
                self._queries = Queries(
                    name=self._config.node.name,
                    committee=self._committee,
                    host=self._host,
                    streams=streams,
                    archive=archive,
                    engine=engine,
                    statements=StatementStore(home.engine_dir, self._chain_id),
                    statistics=lambda: self._statistics(pool, engine),
                )
                self._stores = {
                    "safety": safety_writes,
                    "archive": archive_writes,
                    "batches": batch_writes,
                }
                await self._run_tasks(stop, task_status)
                if engine.height:
                    # As before every save: what the engine has behind it is archived for good.
                    archive.commit((RecordWrite((), is_synced=True),))
                    await engine.save_now(engine.height)

    def _open_safety(self) -> SafetyStore:
        """The record of what this node signed, before which it signs nothing."""
        home, member = self._home, self._committee.members[self._me]
        create = may_create_safety_records(home, self._chain_id)
        owner = self._chain_id + member.identity_key
        return SafetyStore(home.safety_path, owner=owner, create=create, vfs=self._parts.vfs)

    async def _join(self, stop: trio.Event) -> bool:
        """Begin with a snapshot of others if the disk is empty; False if stopped before."""
        home, vfs = self._home, self._parts.vfs
        if has_beginning(home, self._chain_id, vfs):
            return True
        is_joined = False
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                nonlocal is_joined
                clock = self._parts.make_clock()
                try:
                    await join(home, self._genesis, self._me, self._make_network(), clock, vfs)
                except* OSError as group:
                    listen, cause = self._config.peer.listen, group.exceptions[0]
                    raise _explain_listen("peer.listen", listen, cause) from cause
                is_joined = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(run)
            await stop.wait()
            nursery.cancel_scope.cancel()
        return is_joined

    async def _run_tasks(self, stop: trio.Event, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as writers:
            for committer in self._stores.values():
                writers.start_soon(committer.run)
            async with trio.open_nursery() as nursery:
                await self._listen(nursery)
                await nursery.start(self._host.run)
                nursery.start_soon(self._hand_over, self._network.control, Traffic.CONTROL)
                nursery.start_soon(self._hand_over, self._network.bulk, Traffic.BULK)
                nursery.start_soon(self._door.serve, self._door_listeners)
                nursery.start_soon(self._write_state)
                _log.info(
                    "node_started", peer=self._config.peer.listen, door=self._config.door.listen
                )
                task_status.started()
                await stop.wait()
                _log.info("node_stopping")
                nursery.cancel_scope.cancel()
            for committer in self._stores.values():
                await committer.drain()
            writers.cancel_scope.cancel()
        _log.info("node_stopped")

    async def _listen(self, nursery: trio.Nursery) -> None:
        """Take both ports before anything else, so that a used one is a clear error."""
        door = self._config.door.endpoint()
        try:
            self._door_listeners = await trio.open_tcp_listeners(door.port, host=door.host)
        except OSError as error:
            raise _explain_listen("door.listen", self._config.door.listen, error) from error
        try:
            await nursery.start(self._network.serve)
        except* OSError as group:
            for listener in self._door_listeners:
                await listener.aclose()
            cause = group.exceptions[0]
            raise _explain_listen("peer.listen", self._config.peer.listen, cause) from cause

    async def _hand_over(self, inbox: Inbox, traffic: Traffic) -> None:
        while True:
            for inbound in await inbox.receive_many():
                self._host.receive(inbound.sender, traffic, inbound.frame)

    async def _write_state(self) -> None:
        """Leave word for `status` commands that find the node down."""
        started_ms = self._host.clock.now_ms()
        is_failing = False
        while True:
            statistics = self._host.core.statistics()
            state = RunState(
                os.getpid(), started_ms, statistics.committed_height, statistics.consensus.view
            )
            try:
                self._home.write_state(state)
                is_failing = False
            except OSError as error:
                # Nothing depends on this file: a disk that fails is the stores' to judge.
                if not is_failing:
                    _log.warning("state_file_failed", reason=str(error))
                is_failing = True
            await trio.sleep(STATE_FILE_INTERVAL_S)

    def _statistics(self, pool: CryptoPool, engine: EngineWorker) -> dict[str, Any]:
        network = self._network.statistics()
        return {
            "peers_connected": sorted(
                self._committee.members[index].name for index in self._network.connected()
            ),
            "network": {
                "handshakes": network.handshakes,
                "errors": network.errors,
                "peers": {
                    peer.name: {"control": peer.control._asdict(), "bulk": peer.bulk._asdict()}
                    for _, peer in sorted(network.peers.items())
                },
            },
            "stores": {
                name: committer.statistics()._asdict() for name, committer in self._stores.items()
            },
            "door": msgspec.structs.asdict(self._door.statistics()),
            "workers": {
                "crypto": pool.statistics()._asdict(),
                "engine": {"pid": engine.pid, **engine.statistics()._asdict()},
            },
        }

    # ---- the door's handler -----------------------------------------------------------------

    def welcome(self) -> Welcome:
        """The greeting of a client."""
        return Welcome(
            DOOR_VERSION,
            self._config.node.name,
            self._chain_id,
            self._host.core.statistics().committed_height,
            self._host.clock.now_ms(),
        )

    def submit(self, source: int, request: int, envelopes: tuple[bytes, ...]) -> None:
        """Take envelopes; the answer comes through the streams."""
        self._host.dispatch(EnvelopesSubmitted(source, request, envelopes))

    def submit_opaque(
        self, source: int, request: int, namespace: int, size_bytes: int, data: bytes
    ) -> None:
        """Take opaque transactions; the answer comes through the streams."""
        self._host.dispatch(OpaqueSubmitted(source, request, namespace, size_bytes, data))

    async def query(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        """Answer a query."""
        return await self._queries.answer(name, arguments)


def _explain_listen(key: str, address: str, error: BaseException) -> OperatorError:
    message = f"cannot listen on {address}: {error}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return PortInUseError(
            message, advice=f"stop what uses the port, or change {key} in node.toml"
        )
    return ConfigError(
        message,
        advice=f"put an address of this machine, and a port that its user may take, into {key} in "
        "node.toml",
        code="config.address",
    )
