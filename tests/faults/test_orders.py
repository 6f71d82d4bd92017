"""Orders that are followed one by one: what counts as sent, promised and finished."""

import pytest
import trio
from trio.testing import MockClock

from localnet.faults.orders import Fates, FollowedOrders, OrdersSeen
from localnet.network import create_network
from mempool.envelope import decode_envelope
from node.client_stream import DoorError
from node.protocol import ReceiptLevel, SubmitResult

A, B = b"a" * 32, b"b" * 32


def test_what_was_never_sent_is_not_acknowledged():
    fates = Fates()
    fates.note(A, ReceiptLevel.EXECUTED)
    assert fates.seen() == OrdersSeen()


def test_a_receipt_may_come_before_the_answer_to_the_submission():
    fates = Fates()
    fates.send(A)
    fates.note(A, ReceiptLevel.AVAILABLE)
    assert fates.seen() == OrdersSeen(1, 1, 0, 0, (f"{A.hex()} available",))
    fates.note(A, ReceiptLevel.EXECUTED)
    assert fates.seen() == OrdersSeen(1, 1, 1, 0)


def test_an_order_counts_as_sent_also_if_the_node_dies_before_it_answers(tmp_path):
    network = create_network(tmp_path / "net", port_first=18_700)
    orders = FollowedOrders(network, ["node0"], lambda name: 1)

    class DyingClient:
        async def submit(self, envelopes):
            raise DoorError("door.closed", "the node hung up")

    async def main():
        with pytest.raises(DoorError):
            await orders.send_orders(DyingClient(), "node0", 1)

    trio.run(main)
    assert orders.seen().sent == 1


def test_an_order_that_a_node_took_may_be_lost_only_with_the_node():
    starts = {"node0": 1, "node1": 1}
    fates = Fates(starts.__getitem__)
    for each, node in ((A, "node0"), (B, "node1")):
        fates.send(each)
        fates.take(each, node, 1)
        fates.note(each, ReceiptLevel.RECEIVED)
    starts["node0"] = 2
    assert fates.open() == [B]
    fates.note_unknown(B, "envelope.unknown")
    assert fates.seen() == OrdersSeen(2, 1, 0, 0, (f"{B.hex()} taken by node1",))
    fates.note(B, ReceiptLevel.EXECUTED)
    assert fates.seen() == OrdersSeen(2, 1, 1, 0)


def test_what_a_client_is_told_was_taken_is_noted_with_the_life_of_the_node(tmp_path):
    network = create_network(tmp_path / "net", port_first=18_700)
    orders = FollowedOrders(network, ["node0"], lambda name: 3)

    class TakingClient:
        async def submit(self, envelopes):
            orders.stop_sending()
            envelope_id = decode_envelope(envelopes[0]).header.envelope_id()
            return (SubmitResult(envelope_id, None),)

    for starts, acknowledged in ((2, 0), (3, 1)):
        orders._is_sending = True
        trio.run(
            orders.send_orders,
            TakingClient(),
            "node0",
            starts,
            clock=MockClock(autojump_threshold=0),
        )
        assert orders.seen().acknowledged == acknowledged


def test_an_order_that_was_not_promised_may_be_refused_or_forgotten():
    fates = Fates()
    fates.send(A)
    fates.note(A, ReceiptLevel.RECEIVED)
    assert fates.open() == []
    fates.note(A, ReceiptLevel.REFUSED)
    assert fates.seen() == OrdersSeen(1)


def test_an_execution_outweighs_the_refusal_of_another_copy():
    fates = Fates()
    for each in (A, B):
        fates.send(each)
        fates.note(each, ReceiptLevel.AVAILABLE)
    fates.note(A, ReceiptLevel.REFUSED)
    fates.note(A, ReceiptLevel.EXECUTED)
    fates.note(A, ReceiptLevel.REFUSED)
    fates.note(B, ReceiptLevel.REFUSED)
    assert fates.seen() == OrdersSeen(2, 2, 1, 1)


def test_a_promised_order_that_nobody_knows_stays_unfinished():
    fates = Fates()
    fates.send(A)
    fates.note(A, ReceiptLevel.ORDERED)
    fates.note_unknown(A, "envelope.unknown")
    assert fates.seen().unfinished == (f"{A.hex()} envelope.unknown",)
