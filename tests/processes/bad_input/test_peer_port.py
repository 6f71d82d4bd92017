"""What strangers may say at the port for other members."""

import random
import socket
import ssl
from contextlib import ExitStack, suppress

import pytest

from node.transport.certificate import make_certificate, make_client_context
from node.transport.handshake import BULK_PREAMBLE, CONTROL_PREAMBLE
from node.transport.network import HANDSHAKES_MAX

SEED = 20_240_817
CLIENT_TIMEOUT_S = 120


def make_client_hello(context: ssl.SSLContext) -> bytes:
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def stranger_context(target) -> ssl.SSLContext:
    """What a client needs that trusts this node and is known to nobody."""
    secret = random.Random(SEED).randbytes(32)
    peers = target.network.home("node1").load_config().config.peers
    return make_client_context(
        secret, make_certificate(secret, "node1"), [peers["node0"].certificate]
    )


def test_garbage_and_cut_handshakes_on_the_peer_port(unharmed, connect) -> None:
    dice = random.Random(SEED)
    hello = make_client_hello(stranger_context(unharmed))
    for number in range(100):
        opening = (b"", CONTROL_PREAMBLE, BULK_PREAMBLE, CONTROL_PREAMBLE + hello)[number % 4]
        rest = dice.randbytes(dice.randint(0, 500)) if number % 4 < 3 else b""
        cut = dice.randint(1, len(opening)) if number % 4 == 3 else len(opening)
        connection = connect(unharmed.peer)
        connection.socket.sendall(opening[:cut] + rest)
        if number % 2:
            connection.reset()
        else:
            connection.socket.close()


def test_a_certificate_that_nobody_registered_is_not_let_in(unharmed) -> None:
    def knock() -> bytes:
        with socket.create_connection(unharmed.peer, timeout=CLIENT_TIMEOUT_S) as stream:
            stream.sendall(CONTROL_PREAMBLE)
            with stranger_context(unharmed).wrap_socket(stream) as tls:
                # In TLS 1.3 a client hears only after its own last flight that it was refused.
                return tls.recv(1)

    with suppress(ssl.SSLError, ConnectionError):
        assert knock() == b""
    errors = unharmed.ask("status")["network"]["errors"]
    assert errors.get("peer.tls", 0) + errors.get("peer.certificate", 0) > 0
    assert "peer.internal" not in errors


def test_idle_connections_on_the_peer_port_keep_nobody_out(unharmed, wait_until, connect) -> None:
    with ExitStack() as stack:
        for number in range(200):
            connection = stack.enter_context(connect(unharmed.peer))
            if number % 2:
                connection.socket.sendall(CONTROL_PREAMBLE)
        status = unharmed.ask("status")
        assert status["network"]["handshakes"] <= HANDSHAKES_MAX
        # A member that comes back now must get in between them.
        unharmed.localnet.kill("node3")
        unharmed.localnet.restart("node3")
        wait_until(
            lambda: len(unharmed.ask("status")["peers_connected"]) == 3, "node3 is connected"
        )
