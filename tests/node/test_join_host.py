"""The host of a joining node: real threads, files and signatures, among scripted members."""

import pytest
import structlog
import trio

from consensus.messages import ChunkRequest, SnapshotChunk, SnapshotOffer, encode_message
from consensus.types import CheckpointHeader, StateCertificate
from crypto.bls import BLS
from crypto.codec import encode
from crypto.digest import ZERO_DIGEST
from engine.snapshots.chunks import ChunkName, Manifest, compute_chunk_name, encode_manifest
from engine.snapshots.whole import SNAPSHOT_VERSION
from localnet.sim.keys import CHAIN_ID, Keys
from node.clock import Clock
from node.host import decode_frame
from node.join_host import JoinHost
from node.joining import Joiner, Resumed
from node.offers import Offer
from node.storage.join_files import JoinFiles
from node.transport.queues import Inbox, Traffic
from node.workers.threads import ConsensusCrypto

SEAT = 3
ROOT = bytes([7]) * 32
PIECES = tuple(bytes([number]) * 1_000 for number in range(5))


@pytest.fixture(scope="module")
def keys():
    return Keys(scheme=BLS)


def names_of(pieces):
    return tuple(ChunkName(compute_chunk_name(each), len(each)) for each in pieces)


@pytest.fixture(scope="module")
def offer(keys):
    block = keys.make_block(1, keys.genesis)
    header = CheckpointHeader(
        0, 1, block.block_id(CHAIN_ID), block.time_ms, ROOT, ROOT, ZERO_DIGEST
    )
    certificate = StateCertificate(
        header, *keys.aggregate((0, 1, 2), header.signing_bytes(CHAIN_ID))
    )
    manifest = encode_manifest(Manifest(SNAPSHOT_VERSION, 1, ROOT, names_of(PIECES[:-1])))
    return Offer(certificate, block, keys.make_qc(block), manifest, names_of(PIECES[-1:]))


class FakeNetwork:
    """Members that answer at once; one of them with nonsense, in every way."""

    def __init__(self, offer, liar=None):
        self.control = Inbox(frames_max=64, bytes_max=1 << 20)
        self.bulk = Inbox(frames_max=64, bytes_max=1 << 23)
        self._offer = offer
        self._liar = liar
        self._answers, self._taken = trio.open_memory_channel(1_000)
        self.asked = []

    async def serve(self, *, task_status):
        task_status.started()
        async for sender, frame in self._taken:
            await self.bulk.put(sender, frame)

    def send(self, to, traffic, frame):
        assert traffic is Traffic.CONTROL
        message = decode_frame(traffic, frame)
        if to == self._liar:
            self._answers.send_nowait((to, b"nonsense"))
            return True
        if isinstance(message, ChunkRequest):
            self.asked.append(message.name)
            pieces = {compute_chunk_name(each): each for each in PIECES}
            answer = SnapshotChunk(message.name, pieces[message.name])
        else:
            answer = SnapshotOffer(encode(self._offer))
        self._answers.send_nowait((to, encode_message(answer)))
        return True


def make_host(keys, network, directory, restore):
    files = JoinFiles(directory)
    resumed = Resumed(files.read_offer(), files.find_held())
    return JoinHost(
        joiner=Joiner(CHAIN_ID, keys.committee, SEAT, resumed),
        clock=Clock(),
        network=network,
        files=files,
        crypto=ConsensusCrypto(CHAIN_ID),
        restore=restore,
    )


async def test_what_was_fetched_is_on_the_disk_before_it_is_put_together(keys, offer, tmp_path):
    seen = []

    def restore(given):
        files = JoinFiles(tmp_path / "join")
        assert files.read_offer() == encode(given) == encode(offer)
        seen.append(files.read_chunks(compute_chunk_name(each) for each in PIECES))

    network = FakeNetwork(offer)
    with trio.fail_after(30):
        assert await make_host(keys, network, tmp_path / "join", restore).run() == 1
    assert seen == [b"".join(PIECES)]
    assert len(network.asked) == len(PIECES)


async def test_after_a_crash_what_is_on_the_disk_is_not_asked_for_again(keys, offer, tmp_path):
    files = JoinFiles(tmp_path / "join")
    files.keep_offer(encode(offer))
    for each in PIECES[1:]:
        files.keep_chunk(compute_chunk_name(each), each)
    network = FakeNetwork(offer)
    with trio.fail_after(30):
        assert await make_host(keys, network, tmp_path / "join", lambda _: None).run() == 1
    assert network.asked == [compute_chunk_name(PIECES[0])]


async def test_nonsense_from_a_member_is_logged_under_its_name_and_stops_nothing(
    keys, offer, tmp_path
):
    network = FakeNetwork(offer, liar=1)
    with structlog.testing.capture_logs() as logs, trio.fail_after(30):
        assert await make_host(keys, network, tmp_path / "join", lambda _: None).run() == 1
    blamed = {each["member"] for each in logs if each["event"] == "peer_misbehaviour"}
    assert blamed == {1}
