import random
import socket
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from committee.committee import COMMITTEE_SIZE_MAX, Committee, Member
from crypto.codec import encode
from crypto.ed25519 import ED25519
from node.transport import handshake, network
from node.transport.certificate import CertificateError, make_certificate
from node.transport.handshake import BULK_PREAMBLE, CONTROL_PREAMBLE, HELLO_MAX_BYTES
from node.transport.network import PeerAddress, PeerNetwork
from node.transport.queues import Inbound, Traffic

CHAIN = bytes(32)
SECRETS = [bytes([index]) * 32 for index in range(5)]


def make_committee(count):
    members = tuple(
        Member(
            f"node{index}",
            1,
            bytes([index]) * 48,
            bytes(96),
            ED25519.public_key(SECRETS[index]),
            bytes([index]) * 32,
        )
        for index in range(count)
    )
    return Committee(0, members)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    def __init__(self, count):
        self.committee = make_committee(count)
        self.ports = [free_port() for _ in range(count)]

    def make(self, me, *, secret=None, chain_id=CHAIN, peers=None, ports=None):
        ports = ports or self.ports
        peers = peers if peers is not None else range(len(self.ports))
        return PeerNetwork(
            me=me,
            committee=self.committee,
            chain_id=chain_id,
            identity_secret=secret or SECRETS[me],
            listen=("127.0.0.1", self.ports[me]),
            peers={
                index: PeerAddress(
                    "127.0.0.1", ports[index], make_certificate(SECRETS[index], f"node{index}")
                )
                for index in peers
                if index != me
            },
            jitter=random.Random(me),
        )


@asynccontextmanager
async def running(*networks):
    async with trio.open_nursery() as nursery:
        for each in networks:
            await nursery.start(each.serve)
        with trio.fail_after(20):
            yield
        nursery.cancel_scope.cancel()


async def until(condition):
    """Give the other tasks and the sockets turns until something is so."""
    while not condition():
        await trio.lowlevel.checkpoint()


def is_up(each, peer, traffic=Traffic.BULK):
    return each._peers[peer].lines[traffic].is_connected


async def test_members_find_each_other_and_carry_both_classes_both_ways():
    cluster = Cluster(3)
    networks = [cluster.make(me) for me in range(3)]
    async with running(*networks):
        await until(
            lambda: all(is_up(networks[a], b) for a in range(3) for b in range(3) if a != b)
        )
        for a in range(3):
            for b in range(3):
                if a != b:
                    assert networks[a].send(b, Traffic.CONTROL, b"control %d" % a)
                    assert networks[a].send(b, Traffic.BULK, b"bulk %d" % a * 100_000)
        for b in range(3):
            for inbox, text, count in (
                (networks[b].control, b"control %d", 1),
                (networks[b].bulk, b"bulk %d", 100_000),
            ):
                got = []
                while len(got) < 2:
                    got += await inbox.receive_many()
                others = [a for a in range(3) if a != b]
                assert sorted(got) == [Inbound(a, text % a * count) for a in others]
        statistics = networks[0].statistics()
        assert statistics.peers[1].control.sent_frames == 1
        assert statistics.peers[1].bulk.received_bytes == 600_000
        assert networks[0].connected() == {1, 2}


async def test_frames_of_one_peer_and_class_keep_their_order():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        await until(lambda: is_up(one, 1) and is_up(two, 0))
        frames = [number.to_bytes(4, "big") * (number + 1) for number in range(500)]
        for frame in frames:
            one.send(1, Traffic.CONTROL, frame)
            one.send(1, Traffic.BULK, frame)
        for inbox in (two.control, two.bulk):
            got = []
            while len(got) < len(frames):
                got += await inbox.receive_many()
            assert [each.frame for each in got] == frames


async def test_a_member_that_restarts_is_connected_again():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(two):
        async with running(one):
            await until(lambda: is_up(one, 1) and is_up(two, 0))
        await until(lambda: not is_up(two, 0) and not is_up(two, 0, Traffic.CONTROL))
        again = cluster.make(0)
        async with running(again):
            await until(lambda: is_up(again, 1) and is_up(two, 0))
            again.send(1, Traffic.CONTROL, b"back")
            assert await two.control.receive_many() == [Inbound(0, b"back")]


async def test_a_listener_that_restarts_is_dialed_again():
    cluster = Cluster(2)
    one = cluster.make(0)
    async with running(one):
        async with running(cluster.make(1)):
            await until(lambda: is_up(one, 1))
        await until(lambda: not is_up(one, 1))
        again = cluster.make(1)
        async with running(again):
            await until(lambda: is_up(again, 0) and is_up(one, 1))
            one.send(1, Traffic.BULK, b"still here")
            assert await again.bulk.receive_many() == [Inbound(0, b"still here")]


async def test_control_survives_the_loss_of_its_bulk_connection_which_is_made_again():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        await until(lambda: is_up(one, 1) and is_up(two, 0))
        two._peers[0].lines[Traffic.BULK].disconnect()
        await until(lambda: two.statistics().peers[0].bulk.connections == 2)
        await until(lambda: one.statistics().peers[1].bulk.connections == 2 and is_up(one, 1))
        one.send(1, Traffic.BULK, b"again")
        assert await two.bulk.receive_many() == [Inbound(0, b"again")]
        assert one.statistics().peers[1].control.connections == 1


async def test_control_frames_wait_for_a_connection_and_bulk_frames_do_not():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    assert one.send(1, Traffic.CONTROL, b"early")
    assert not one.send(1, Traffic.BULK, b"early")
    assert one.statistics().peers[1].bulk.dropped_frames == 1
    async with running(one, two):
        assert await two.control.receive_many() == [Inbound(0, b"early")]


async def test_a_node_that_reads_no_bulk_still_gets_control():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        await until(lambda: is_up(one, 1) and is_up(two, 0))
        frame = bytes(1 << 20)
        while one.send(1, Traffic.BULK, frame):
            pass
        one.send(1, Traffic.CONTROL, b"vote")
        assert await two.control.receive_many() == [Inbound(0, b"vote")]
        assert len(await two.bulk.receive_many()) <= 8
        assert one.statistics().peers[1].bulk.dropped_frames >= 1


async def test_someone_with_another_key_is_not_let_in():
    cluster = Cluster(3)
    # Whoever poses as member 0 has member 2's certificate at best, and no key of member 0.
    poser = cluster.make(0, secret=SECRETS[4])
    victim = cluster.make(1)
    async with running(poser, victim):
        await until(lambda: victim.statistics().errors.get("peer.tls", 0) >= 2)
        assert victim.connected() == set()


async def test_a_member_cannot_pose_as_another_member():
    cluster = Cluster(3)
    ports = [cluster.ports[0], cluster.ports[2], cluster.ports[2]]
    # Member 0 is told that member 1 lives where member 2 answers.
    dialer = cluster.make(0, peers=[1], ports=ports)
    other = cluster.make(2)
    async with running(other, dialer):
        await until(lambda: sum(dialer.statistics().errors.values()) >= 2)
        assert dialer.connected() == set()
        assert set(dialer.statistics().errors) <= {"peer.tls", "peer.certificate"}


async def test_a_member_that_must_be_dialed_may_not_dial():
    cluster = Cluster(2)
    listener = cluster.make(0)
    dialer = cluster.make(1)
    async with running(listener):
        with trio.fail_after(5):
            stream = await trio.open_tcp_stream("127.0.0.1", cluster.ports[0])
            with pytest.raises((trio.BrokenResourceError, trio.EndOfChannel)):
                await dialer._handshaker.dial_control(stream, 0)
            await stream.aclose()
        await until(lambda: listener.statistics().errors.get("peer.direction"))


async def test_a_greeting_above_its_bound_is_not_taken():
    largest = handshake.Hello(2**16, bytes(32), COMMITTEE_SIZE_MAX - 1, bytes(32))
    assert len(encode(largest)) <= HELLO_MAX_BYTES
    cluster = Cluster(2)
    dialer, listener = cluster.make(0), cluster.make(1)
    async with running(listener):
        stream = await trio.open_tcp_stream("127.0.0.1", cluster.ports[1])
        await stream.send_all(CONTROL_PREAMBLE)
        tls = trio.SSLStream(stream, dialer._handshaker._client_context)
        await tls.send_all((HELLO_MAX_BYTES + 1).to_bytes(4, "big"))
        await until(lambda: listener.statistics().errors.get("frame.too_large"))
        await trio.aclose_forcefully(tls)


async def test_a_member_of_another_chain_is_turned_away():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1, chain_id=bytes([1]) * 32)
    async with running(one, two):
        await until(lambda: one.statistics().errors.get("peer.chain"))
        await until(lambda: two.statistics().errors.get("peer.chain"))
        assert not one.connected()


def test_a_certificate_of_another_key_is_refused_at_once():
    cluster = Cluster(2)
    with pytest.raises(CertificateError):
        PeerNetwork(
            me=0,
            committee=cluster.committee,
            chain_id=CHAIN,
            identity_secret=SECRETS[0],
            listen=("127.0.0.1", 0),
            peers={1: PeerAddress("127.0.0.1", 1, make_certificate(SECRETS[2], "node1"))},
        )


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00" * 10,
        CONTROL_PREAMBLE + b"\x00" * 100,
        CONTROL_PREAMBLE + b"\x16\x03\x01\xff\xff" + b"\xff" * 100,
        BULK_PREAMBLE + b"\x00" * 24,
        BULK_PREAMBLE + b"\xff" * 400,
        b"",
        b"rota",
    ],
)
async def test_garbage_is_dropped_and_members_notice_nothing(opening):
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        await until(lambda: is_up(one, 1) and is_up(two, 0))
        async with await trio.open_tcp_stream("127.0.0.1", cluster.ports[1]) as stream:
            # The node may close with an alert or with a reset; what matters is that it closes.
            with suppress(trio.BrokenResourceError):
                await stream.send_all(opening)
                await stream.send_eof()
                while await stream.receive_some():
                    pass
        await until(lambda: two.statistics().errors)
        one.send(1, Traffic.BULK, b"bulk")
        one.send(1, Traffic.CONTROL, b"control")
        assert await two.bulk.receive_many() == [Inbound(0, b"bulk")]
        assert await two.control.receive_many() == [Inbound(0, b"control")]
        assert one.statistics().peers[1].control.connections == 1
        assert one.statistics().peers[1].bulk.connections == 1


async def test_a_bulk_connection_by_someone_who_only_knows_the_session_id_changes_nothing():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        await until(lambda: is_up(one, 1) and is_up(two, 0))
        (session_id,) = two._sessions
        stream = await trio.open_tcp_stream("127.0.0.1", cluster.ports[1])
        opening = BULK_PREAMBLE + session_id + (7).to_bytes(8, "big")
        await stream.send_all(opening + (16).to_bytes(4, "big") + bytes(16))
        await until(lambda: two.statistics().errors.get("peer.seal"))
        await stream.aclose()
        one.send(1, Traffic.BULK, b"unharmed")
        assert await two.bulk.receive_many() == [Inbound(0, b"unharmed")]
        assert two.statistics().peers[0].bulk.connections == 1


async def test_a_large_first_frame_on_a_bulk_connection_is_refused_unread():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        await until(lambda: is_up(one, 1) and is_up(two, 0))
        (session_id,) = two._sessions
        async with await trio.open_tcp_stream("127.0.0.1", cluster.ports[1]) as stream:
            opening = BULK_PREAMBLE + session_id + (7).to_bytes(8, "big")
            await stream.send_all(opening + (17).to_bytes(4, "big"))
            await until(lambda: two.statistics().errors.get("frame.too_large"))


async def test_silent_strangers_make_room_for_members(monkeypatch):
    monkeypatch.setattr(network, "HANDSHAKES_MAX", 4)
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(two):
        strangers = [await trio.open_tcp_stream("127.0.0.1", cluster.ports[1]) for _ in range(10)]
        await until(lambda: two.statistics().errors.get("peer.crowded_out", 0) >= 6)
        assert two.statistics().handshakes == 4
        async with running(one):
            await until(lambda: is_up(one, 1) and is_up(two, 0))
        for stranger in strangers:
            await trio.aclose_forcefully(stranger)


async def fail_handshakes(port, count):
    for _ in range(count):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(b"not ours")
                await stream.receive_some()


async def test_an_address_whose_handshakes_fail_is_turned_away_until_its_window_is_over(
    monkeypatch,
):
    monkeypatch.setattr(network, "HANDSHAKES_FAILED_MAX", 3)
    monkeypatch.setattr(network, "HANDSHAKES_FAILED_WINDOW_S", 0.5)
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(two):
        await fail_handshakes(cluster.ports[1], 5)
        await until(lambda: two.statistics().errors.get("peer.rationed") == 2)
        assert two.statistics().errors["peer.preamble"] == 3
        async with running(one):
            await until(lambda: is_up(one, 1) and is_up(two, 0))


async def test_whoever_shares_a_members_address_does_not_shut_the_member_out(monkeypatch):
    monkeypatch.setattr(network, "HANDSHAKES_FAILED_MAX", 3)
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        await until(lambda: is_up(one, 1) and is_up(two, 0))
        await fail_handshakes(cluster.ports[1], 5)
        await until(lambda: two.statistics().errors.get("peer.preamble") == 5)
        one._peers[1].disconnect()
        await until(lambda: two.statistics().peers[0].control.connections == 2)
        assert "peer.rationed" not in two.statistics().errors


async def test_a_stranger_who_says_nothing_is_dropped_in_time(monkeypatch):
    monkeypatch.setattr(network, "HANDSHAKE_TIMEOUT_S", 0.05)
    cluster = Cluster(1)
    one = cluster.make(0)
    async with running(one):
        stream = await trio.open_tcp_stream("127.0.0.1", cluster.ports[0])
        assert await stream.receive_some() == b""
        assert one.statistics().errors == {"peer.handshake_timeout": 1}
        await stream.aclose()


async def test_a_dead_connection_is_noticed(monkeypatch):
    monkeypatch.setattr(handshake, "IDLE_TIMEOUT_S", 0.1)
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        # Keepalives come every two seconds, later than this idle time allows.
        await until(lambda: one.statistics().errors.get("frame.idle"))
        await until(lambda: one.statistics().peers[1].control.connections >= 2)


async def test_a_bug_in_one_connection_ends_only_that_connection(monkeypatch):
    cluster = Cluster(3)
    networks = [cluster.make(me) for me in range(3)]
    one = networks[0]
    async with running(*networks):
        await until(lambda: is_up(one, 1) and is_up(one, 2))

        async def broken(sender, frame):
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(one._peers[1].lines[Traffic.CONTROL]._inbox, "put", broken)
        networks[1].send(0, Traffic.CONTROL, b"x")
        await until(lambda: one.statistics().errors.get("peer.internal"))
        monkeypatch.undo()
        await until(lambda: one.statistics().peers[1].control.connections == 2)
        assert one.statistics().peers[2].control.connections == 1


async def test_a_disconnected_peer_comes_back():
    cluster = Cluster(2)
    one, two = cluster.make(0), cluster.make(1)
    async with running(one, two):
        await until(lambda: is_up(one, 1) and is_up(two, 0))
        two._peers[0].disconnect()
        await until(lambda: two.statistics().peers[0].bulk.connections == 2)


def test_sending_to_someone_who_is_no_peer_is_refused():
    cluster = Cluster(2)
    assert not cluster.make(0).send(7, Traffic.CONTROL, b"x")
