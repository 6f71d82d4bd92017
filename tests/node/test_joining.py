"""A node with an empty disk joins by a snapshot of others, whatever some of them do: in the
simulator, whose oracle `Joining` compares blocks and results, and on real files."""

from typing import ClassVar

import pytest

from consensus.chain import ARCHIVE_BLOCK_TABLE
from consensus.effects import Misbehaviour, Send, Sign, SignIdentity, Store
from consensus.messages import SnapshotChunk
from crypto.codec import decode
from engine.snapshots.chunks import decode_manifest
from localnet.byzantine.behaviour import Behaviour
from localnet.network import create_network
from localnet.sim.faults import WipeFault
from localnet.sim.joining import read_resumed
from localnet.sim.nodes import NodeCluster
from localnet.sim.oracles.watchers import Watcher
from localnet.sim.scenario import run_schedule
from localnet.sim.schedule import Schedule
from node.core import NodeCore
from node.events import ServeChunk
from node.join import has_beginning, restore_home
from node.joining import JoinEnded
from node.offers import Offer, restore_offer
from node.recovery import CHECKPOINT_TABLE, recover_node
from node.replay import Base, ChainReplay
from node.signing_marker import mark_signing, validate_memory
from node.storage.archive import ArchiveStore
from node.storage.batches import BatchStore
from node.storage.errors import SafetyError
from node.storage.join_files import JoinFiles
from node.wiping import wipe_home
from node.workers.manifests import ManifestFiles
from node.workers.snapshots import SnapshotStore

JOINER = 3
LIAR = 1


class FalseChunks(Behaviour):
    """Gives other bytes than it was asked for."""

    name: ClassVar[str] = "false_chunks"

    def bend(self, now_ms, effect):
        if isinstance(effect, ServeChunk):
            return (Send((effect.to,), SnapshotChunk(effect.name, b"something else")),)
        return (effect,)


class Watch(Watcher):
    """What the joining node does."""

    def __init__(self) -> None:
        self.seen = []

    def on_effect(self, index, effect):
        if index == JOINER:
            self.seen.append(effect)

    def of(self, *kinds):
        return [each for each in self.seen if isinstance(each, kinds)]


def make_cluster(seed, **options):
    """A chain that is some snapshots old, of which one member is down and has forgotten all."""
    cluster = NodeCluster(seed, guilty=(JOINER,), **options)
    cluster.start()
    cluster.trade(30, 1_000)
    cluster.run(1_200)
    cluster.crash(JOINER)
    watch = Watch()
    cluster.world.observers += (watch,)
    cluster.wipe(JOINER, is_joining=True)
    return cluster, watch


def own_checkpoints(cluster, index):
    return cluster.world.disk(index).table(Store.ARCHIVE, CHECKPOINT_TABLE)


def validate_joined(cluster, watch):
    """It joined high up, has the results of the others from there on, and signed nothing."""
    (ended,) = watch.of(JoinEnded)
    assert ended.height > 0
    first = ended.height.to_bytes(8, "big")
    ours, theirs = own_checkpoints(cluster, JOINER), own_checkpoints(cluster, 0)
    assert min(ours) == first
    assert not {key for key in ours.keys() & theirs.keys() if ours[key] != theirs[key]}
    assert len(ours.keys() & theirs.keys()) > 5
    assert min(cluster.world.disk(JOINER).table(Store.ARCHIVE, ARCHIVE_BLOCK_TABLE)) == first
    assert isinstance(cluster.core(JOINER), NodeCore)
    assert cluster.lowest_committed() - cluster.core(JOINER).committed_height < 10
    assert not watch.of(Sign, SignIdentity)
    assert not any(cluster.world.disk(JOINER).stores[Store.SAFETY].values())


def replay_joined(cluster):
    """The tail that the joined node holds, from what it joined by."""
    disk = cluster.world.disk(JOINER)
    offer = decode(Offer, disk.join_offer)
    joined = restore_from(disk, offer, cluster)
    run = ChainReplay(
        cluster.genesis,
        disk,
        disk,
        scheme=cluster.keys.scheme,
        identity_scheme=cluster.identity,
        base=Base(offer, joined),
    )
    height = offer.height + 1
    while run.apply(height):
        height += 1
    return run


def restore_from(disk, offer, cluster):
    pieces = {name: disk.join_chunks[name] for name in read_resumed(disk).held}
    engine = b"".join(pieces[each.digest] for each in decode_manifest(offer.manifest).chunks)
    order = b"".join(pieces[each.digest] for each in offer.order)
    genesis_digest = cluster.world.engines[0].state.genesis_digest
    return restore_offer(
        offer, engine, order, chain_id=cluster.chain_id, genesis_digest=genesis_digest
    )


def test_a_node_joins_by_a_snapshot_names_who_lies_and_replays_from_there():
    cluster, watch = make_cluster(1, liars={LIAR: FalseChunks})
    cluster.start(JOINER)
    cluster.trade(30, 800)
    cluster.run(6_000)
    validate_joined(cluster, watch)
    blamed = {(each.member, each.code) for each in watch.of(Misbehaviour)}
    assert blamed <= {(LIAR, "offer.chunk_false")}
    run = replay_joined(cluster)
    assert run.counts["heights"] > 20
    assert run.counts["checkpoints_compared"] > 5
    assert run.newest.height > watch.of(JoinEnded)[0].height


@pytest.mark.parametrize("host", [0, 2])
def test_wherever_a_member_forgets_all_it_comes_back_by_a_snapshot(host):
    wipe = WipeFault(at_ms=800 + 60 * host, duration_ms=200, host=host, is_joining=True)
    outcome = run_schedule(Schedule(seed=4 + host, views=70, faults=(wipe,)))
    assert outcome.violation is None
    assert outcome.coverage["fault.wipe"] == 1
    assert outcome.coverage["joined.amnesiac"] == 1


# ---- on real files -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def offered():
    """A cluster, and an offer of one of its members with all its pieces."""
    cluster = NodeCluster(5)
    cluster.start()
    cluster.trade(30, 800)
    cluster.run(2_000)
    library = cluster.world.open_library(0)
    offer = decode(Offer, library.read_offer(0))
    names = [each.digest for each in (*decode_manifest(offer.manifest).chunks, *offer.order)]
    return cluster, offer, {name: library.read_chunk(name) for name in names}


@pytest.fixture
def home(tmp_path):
    return create_network(tmp_path / "net", port_first=24_300).home("node0")


def keep(home, pieces):
    files = JoinFiles(home.join_dir)
    for name, data in pieces.items():
        files.keep_chunk(name, data)
    return files


def test_a_home_is_made_of_what_was_fetched_and_can_give_it_on(home, offered):
    cluster, offer, pieces = offered
    files = keep(home, {**pieces, bytes(32): b"of another offer"})
    assert not has_beginning(home, cluster.chain_id)
    assert restore_home(home, cluster.genesis, files, offer, None) is None
    assert has_beginning(home, cluster.chain_id)
    assert not (home.join_dir / bytes(32).hex()).exists()
    store = SnapshotStore(home.engine_dir, cluster.chain_id, cluster.genesis.engine)
    state = store.load_newest()
    assert state.height == offer.height
    manifests = ManifestFiles(home.engine_dir)
    assert manifests.heights() == [offer.height]
    assert manifests.read_manifest(offer.height) == offer.manifest
    archive = ArchiveStore(home.chain_path, owner=cluster.chain_id)
    try:
        recovered = recover_node(
            cluster.genesis, 0, None, archive, cluster.world.disk(0), state.height
        )
    finally:
        archive.close()
    assert recovered.consensus.tip.height == recovered.order_state.height == offer.height
    assert recovered.blocks == ()
    body = b"".join(pieces[each] for each in list(pieces)[: -len(offer.order)])
    assert manifests.read_range(offer.height, 0, 40) == body[:40]
    assert manifests.read_range(offer.height, len(body) - 9, 40) == body[-9:]
    assert manifests.read_range(offer.height + 1, 0, 40) is None


def test_pieces_of_another_state_make_no_home(home, offered):
    cluster, offer, pieces = offered
    files = keep(home, pieces)
    names = list(pieces)
    swapped = (*names[:-1], names[0])
    for name, other in zip(names, swapped, strict=True):
        (home.join_dir / name.hex()).write_bytes(pieces[other])
    error = restore_home(home, cluster.genesis, files, offer, None)
    assert error.startswith("offer.false")
    assert not has_beginning(home, cluster.chain_id)


def test_a_damaged_piece_is_fetched_again(home, offered):
    _, _, pieces = offered
    files = keep(home, pieces)
    assert files.find_held() == pieces.keys()
    damaged, *whole = pieces
    (home.join_dir / damaged.hex()).write_bytes(b"damaged")
    (home.join_dir / "f.unfinished").write_bytes(b"torn")
    assert files.find_held() == set(whole)
    assert files.read_offer() is None
    files.keep_offer(b"an offer")
    assert files.read_offer() == b"an offer"
    files.remove_others(whole[:1])
    assert files.find_held() == set(whole[:1])
    assert files.read_offer() == b"an offer"


def test_a_wiped_home_keeps_its_keys_follows_and_never_signs(home):
    chain_id = home.load_genesis().chain_id()
    home.safety_path.parent.mkdir(exist_ok=True)
    home.safety_path.touch()
    BatchStore(home.segments_dir).close()
    mark_signing(home, chain_id, bytes(48))
    validate_memory(home, chain_id)
    keys = sorted(path.name for path in home.keys_dir.iterdir())
    wipe_home(home)
    assert not home.data_dir.exists()
    assert sorted(path.name for path in home.keys_dir.iterdir()) == keys
    assert home.load_config().config.node.follow
    with pytest.raises(SafetyError) as caught:
        validate_memory(home, chain_id)
    assert caught.value.code == "safety.missing"
