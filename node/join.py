"""Making the beginning of a node that follows: from a snapshot of others, if its disk is empty."""

from pathlib import Path
from typing import Final

import structlog

from consensus.chain import ARCHIVE_TIP_KEY, ARCHIVE_TIP_TABLE
from crypto.codec import encode
from crypto.digest import Domain, digest
from engine.snapshots.chunks import decode_manifest
from node.clock import Clock
from node.genesis import Genesis
from node.home import NodeHome
from node.join_host import JoinHost
from node.joining import Joiner, Resumed
from node.offers import Offer, OfferError, restore_offer
from node.storage.archive import ArchiveStore
from node.storage.join_files import JoinFiles
from node.storage.records import RecordWrite
from node.transport.network import PeerNetwork
from node.workers.state_files import StateFiles
from node.workers.threads import ConsensusCrypto

_log: Final = structlog.get_logger()


def has_beginning(home: NodeHome, chain_id: bytes, vfs: str | None = None) -> bool:
    """Is there a chain in this home that a node can go on from?"""
    if not home.chain_path.exists():
        return False
    archive = ArchiveStore(home.chain_path, owner=chain_id, vfs=vfs)
    try:
        return archive.read(ARCHIVE_TIP_TABLE, ARCHIVE_TIP_KEY) is not None
    finally:
        archive.close()


async def join(
    home: NodeHome,
    genesis: Genesis,
    me: int,
    network: PeerNetwork,
    clock: Clock,
    vfs: str | None = None,
) -> int:
    """Join by a snapshot of other members; returns its height, or 0 if honest power has none: the
    chain is young then, and its blocks are few.

    Asks for as long as nobody answers. Raises `StorageError`, and `OSError` if it cannot listen.
    """
    files = JoinFiles(home.join_dir)
    chain_id = genesis.chain_id()
    resumed = Resumed(files.read_offer(), files.find_held())
    _log.info("node_joining", pieces_kept=len(resumed.held))

    def restore(offer: Offer) -> str | None:
        return restore_home(home, genesis, files, offer, vfs)

    host = JoinHost(
        joiner=Joiner(chain_id, genesis.committee(), me, resumed),
        clock=clock,
        network=network,
        files=files,
        crypto=ConsensusCrypto(chain_id),
        restore=restore,
    )
    height = await host.run()
    _log.info("node_joined", height=height)
    return height


def restore_home(
    home: NodeHome, genesis: Genesis, files: JoinFiles, offer: Offer, vfs: str | None
) -> str | None:
    """Make engine state and archive of an offer's pieces; returns why they are not what was
    certified. The archive comes last: without it a crash leaves a home that joins again."""
    chain_id = genesis.chain_id()
    chunks = (each.digest for each in decode_manifest(offer.manifest).chunks)
    order = files.read_chunks(each.digest for each in offer.order)
    try:
        joined = restore_offer(
            offer,
            files.read_chunks(chunks),
            order,
            chain_id=chain_id,
            genesis_digest=digest(Domain.GENESIS, encode(genesis.engine)),
        )
    except OfferError as error:
        return f"{error.code}: {error}"
    directory: Path = home.engine_dir
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    states = StateFiles(directory, chain_id, genesis.engine)
    states.write(joined.state)
    states.remove_obsolete(joined.state.height)
    archive = ArchiveStore(home.chain_path, owner=chain_id, vfs=vfs)
    try:
        archive.commit((RecordWrite(joined.puts, is_synced=True),))
    finally:
        archive.close()
    files.remove_others(
        each.digest for each in (*decode_manifest(offer.manifest).chunks, *offer.order)
    )
    return None
