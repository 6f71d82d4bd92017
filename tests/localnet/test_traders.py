"""The demo traders against a cluster without consensus: real doors and engine, one process.

`FakeCluster` puts envelopes into blocks and runs the engine on them. Its doors can die with all
that they have accepted and not passed on, which is the worst that a killed node does to clients.
"""

import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from crypto.codec import encode
from crypto.digest import Domain, digest
from engine.apply import apply_block
from engine.block import BlockInput, EngineEnvelope, Reporter
from engine.instructions import CancelAll
from engine.receipts import ReasonCode, Receipt, Status
from engine.state import create_state
from localnet import courier as courier_module
from localnet.account_views import read_positions
from localnet.courier import IN_FLIGHT_MAX, Courier
from localnet.crash import QUOTE_MICROQUOTE, Crash
from localnet.markets import ACCOUNTS
from localnet.network import create_network
from localnet.tally import TapeProgress
from localnet.tape import TapeError, format_trade
from localnet.tape_synthesis import generate_trades
from localnet.traders import main, parse_speed
from localnet.trading_floor import Traders
from mempool.envelope import decode_envelope
from node.client_stream import DoorError
from node.door import Door, QueryError
from node.envelopes import EnvelopeFactory
from node.network import Network
from node.protocol import (
    DOOR_VERSION,
    BlockEvent,
    Channel,
    OpaqueSubmitted,
    ReceiptEvent,
    ReceiptLevel,
    SubmitResult,
    Submitted,
    Welcome,
)
from node.streams import describe_receipts

BLOCK_INTERVAL_S = 0.01
REFUSED = Status.REFUSED
HARMLESS = {ReasonCode.ORDER_POST_ONLY_WOULD_CROSS}
"""A maker that has heard of a move may find the old quote of one that has not."""


class FakeNode:
    """One door: keeps what it accepted until the next block takes it."""

    def __init__(self, cluster: "FakeCluster", index: int) -> None:
        self.cluster = cluster
        self.index = index
        self.pending: dict[bytes, Any] = {}
        self.door: Door | None = None
        self.scope = trio.CancelScope()

    def welcome(self) -> Welcome:
        chain_id = self.cluster.network.chain_id
        return Welcome(DOOR_VERSION, f"node{self.index}", chain_id, self.cluster.height, 0)

    def submit(self, source: int, request: int, envelopes: tuple[bytes, ...]) -> None:
        results = []
        for data in envelopes:
            envelope = decode_envelope(data)
            envelope_id = envelope.header.envelope_id()
            code = None
            if envelope_id in self.cluster.outcomes:
                code = "nonce.duplicate"
            elif envelope_id in self.pending:
                code = "envelope.pending"
            elif self.cluster.full > 0:
                self.cluster.full -= 1
                code = "pool.full"
            else:
                self.pending[envelope_id] = envelope
            self.cluster.submissions += 1
            results.append(SubmitResult(envelope_id, code))
        assert self.door is not None
        self.door.reply(source, Submitted(request, tuple(results)))

    def submit_opaque(
        self, source: int, request: int, namespace: int, size_bytes: int, data: bytes
    ) -> None:
        assert self.door is not None
        self.door.reply(source, OpaqueSubmitted(request, 0, "pool.full"))

    async def query(self, name: str, arguments: tuple[Any, ...]) -> bytes:
        if name == "envelope":
            receipts = self.cluster.outcomes.get(arguments[0])
            if receipts is None:
                raise QueryError("envelope.unknown", "never seen")
            results = msgspec.Raw(describe_receipts(list(receipts)))
            return encode({"level": "executed", "code": None, "results": results})
        if name == "account":
            account = self.cluster.state.accounts.get(arguments[0])
            exposures = {} if account is None else account.exposures
            positions = [{"market": key, "size_lots": each.lots} for key, each in exposures.items()]
            return msgspec.msgpack.encode({"positions": positions})
        raise QueryError("query.unknown", name)


class FakeCluster:
    """Several doors before one engine."""

    def __init__(self, network: Network) -> None:
        self.network = network
        genesis = network.genesis()
        self.state = create_state(genesis.engine)
        self.reporters = tuple(Reporter(each.oracle_key, each.power) for each in genesis.members)
        self.height = 0
        self.outcomes: dict[bytes, tuple[Receipt, ...]] = {}
        self.submissions = 0
        self.full = 0
        self.fills = 0
        self.refusals: Counter[ReasonCode] = Counter()
        self.nodes = [FakeNode(self, index) for index in range(len(network.nodes))]

    async def serve_node(self, index: int) -> None:
        node = self.nodes[index]
        endpoint = self.network.nodes[index].door_endpoint()
        listeners = await trio.open_tcp_listeners(endpoint.port, host=endpoint.host)
        node.door = Door(
            node, connections_max=100, send_queue_max_bytes=1 << 24, idle_timeout_s=60.0
        )
        with node.scope:
            await node.door.serve(listeners)
        node.door = None

    def kill(self, index: int) -> None:
        """End a node; what it accepted and no block holds is lost."""
        self.nodes[index].pending.clear()
        self.nodes[index].scope.cancel()

    async def run(self) -> None:
        while True:
            await trio.sleep(BLOCK_INTERVAL_S)
            self.make_block()

    def make_block(self) -> None:
        envelopes: dict[bytes, Any] = {}
        for node in self.nodes:
            for envelope_id, envelope in node.pending.items():
                if envelope_id not in self.outcomes:
                    envelopes[envelope_id] = envelope
            node.pending.clear()
        self.height += 1
        output = apply_block(
            self.state,
            BlockInput(
                self.height,
                max(time.time_ns() // 1_000_000, self.state.time_ms),
                digest(Domain.SEED, self.height.to_bytes(8, "big")),
                tuple(
                    EngineEnvelope(key, each.header.sender, each.header.nonce, each.body)
                    for key, each in envelopes.items()
                ),
                (),
                self.reporters,
            ),
        )
        self.fills += output.stats.fills
        self.refusals.update(each.code for each in output.receipts if each.status is REFUSED)
        receipts: dict[bytes, list[Receipt]] = {key: [] for key in envelopes}
        for receipt in output.receipts:
            receipts[receipt.envelope_id].append(receipt)
        self.outcomes.update({key: tuple(value) for key, value in receipts.items()})
        for node in self.nodes:
            if node.door is not None:
                self._announce(node.door, envelopes)

    def _announce(self, door: Door, envelopes: dict[bytes, Any]) -> None:
        door.publish(
            Channel.BLOCKS,
            lambda subscription, sequence: BlockEvent(
                subscription, sequence, self.height, self.height, bytes(32), 0, 0, 0
            ),
        )
        for envelope_id, envelope in envelopes.items():
            for level in (ReceiptLevel.ORDERED, ReceiptLevel.EXECUTED):
                results = None
                if level is ReceiptLevel.EXECUTED:
                    results = msgspec.Raw(describe_receipts(list(self.outcomes[envelope_id])))
                door.publish_to(
                    Channel.RECEIPTS,
                    envelope.header.sender,
                    lambda subscription, sequence, level=level, results=results, key=envelope_id: (
                        ReceiptEvent(subscription, sequence, key, level, self.height, None, results)
                    ),
                )


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Network:
    return create_network(tmp_path_factory.mktemp("network") / "net", port_first=21_000)


@asynccontextmanager
async def cluster_of(network: Network) -> AsyncIterator[FakeCluster]:
    cluster = FakeCluster(network)
    async with trio.open_nursery() as nursery:
        for index in range(len(cluster.nodes)):
            nursery.start_soon(cluster.serve_node, index)
        nursery.start_soon(cluster.run)
        yield cluster
        nursery.cancel_scope.cancel()


async def until(condition, timeout_s: float = 20.0) -> None:
    with trio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of the test
            await trio.sleep(0.01)


def write_tape(path, count: int):
    path.write_text("".join(format_trade(trade) + "\n" for trade in generate_trades(count, 7)))
    return path


async def test_all_markets_get_quotes_and_trades_and_every_order_is_counted(network):
    async with cluster_of(network) as cluster, trio.open_nursery() as nursery:
        traders = Traders(network, seed=1)
        nursery.start_soon(traders.run)
        await until(lambda: traders.tally.quoted and traders.tally.fills > 5)
        statistics = traders.tally.take()
        assert statistics.orders > 100
        assert cluster.refusals.keys() <= HARMLESS
        assert statistics.commit_latency_ms
        assert statistics.receipt_latency_ms
        assert statistics.tape is None
        assert traders.tally.take().commit_latency_ms == ()
        for market in cluster.state.perpetuals.values():
            assert market.index_price > 0
            assert market.book.order_count > 0
        assert len(cluster.state.markets) > len(cluster.state.perpetuals)
        assert all(market.mark_price > 0 for market in cluster.state.markets.values())
        nursery.cancel_scope.cancel()


async def test_a_crash_waits_for_its_start_and_takes_what_the_leveraged_have(tmp_path):
    crash = Crash("BTC-PERP", 0.5, 3.0, 40, 0, 1_500, (10_000,), (100_000,))
    network = create_network(
        tmp_path / "net",
        port_first=21_000,
        accounts=(*ACCOUNTS, *crash.accounts()),
        liquidation=crash.liquidation(),
    )
    leveraged, bidder = (network.account(name).account for name in ("leveraged0", "bidder0"))
    async with cluster_of(network) as cluster, trio.open_nursery() as nursery:
        traders = Traders(network, seed=1, crash=crash, note=print)
        nursery.start_soon(traders.run)
        market = cluster.state.markets[1]
        exposures = cluster.state.accounts[leveraged].exposures
        wanted = crash.target_lots(10_000, cluster.state.genesis.markets[0], 600_000)
        await until(lambda: 1 in exposures and exposures[1].lots == wanted)
        assert abs(market.index_price - 600_000) < 20_000
        assert wanted * market.mark_value > 14 * 10_000 * QUOTE_MICROQUOTE
        traders.start_tape()
        await until(lambda: market.index_price < 370_000 and exposures[1].lots == 0)
        assert cluster.refusals[ReasonCode.AUCTION_UNKNOWN] > 0
        await until(lambda: _has_sold(cluster, bidder))
        assert cluster.state.markets[2].index_price > 250_000
        nursery.cancel_scope.cancel()


def _has_sold(cluster: FakeCluster, account: bytes) -> bool:
    exposure = cluster.state.accounts[account].exposures.get(1)
    return exposure is None or exposure.lots == 0


async def test_a_tape_runs_to_its_end_and_every_trade_becomes_an_order(network, tmp_path):
    tape = write_tape(tmp_path / "tape.csv", 3_000)
    async with cluster_of(network) as cluster, trio.open_nursery() as nursery:
        traders = Traders(network, seed=1, tape=tape, speed=math.inf, note=print)
        nursery.start_soon(traders.run)
        traders.start_tape()
        await until(lambda: traders.tally.tape.done)
        statistics = traders.tally.take()
        assert (statistics.tape.trades, statistics.tape.played) == (3_000, 3_000)
        assert statistics.tape.refused == 0
        assert 2_900 <= statistics.tape.filled <= 3_000
        # Nearly all of them traded: the quotes follow the tape's price.
        assert statistics.fills >= 2_900
        assert cluster.refusals.keys() <= HARMLESS
        assert cluster.fills >= statistics.fills
        nursery.cancel_scope.cancel()


async def test_a_tape_waits_until_it_is_told_to_start(network, tmp_path):
    tape = write_tape(tmp_path / "tape.csv", 200)
    async with cluster_of(network), trio.open_nursery() as nursery:
        traders = Traders(network, seed=1, tape=tape, speed=math.inf, note=print)
        nursery.start_soon(traders.run)
        await until(lambda: traders.tally.quoted and traders.tally.fills > 5)
        assert traders.tally.tape == TapeProgress(200)
        traders.start_tape()
        await until(lambda: traders.tally.tape.done)
        nursery.cancel_scope.cancel()


async def test_a_tape_that_loses_lines_while_it_is_played_is_no_finished_tape(network, tmp_path):
    tape = write_tape(tmp_path / "tape.csv", 20)
    async with cluster_of(network):
        traders = Traders(network, seed=1, tape=tape, speed=math.inf, note=print)
        write_tape(tape, 10)
        traders.start_tape()
        with pytest.RaisesGroup(TapeError, allow_unwrapped=True, flatten_subgroups=True) as caught:
            with trio.fail_after(20):
                await traders.run()
        assert caught.value.exceptions[0].code == "tape.changed"
        assert not traders.tally.tape.done


async def test_a_killed_node_costs_time_but_no_order(network, tmp_path):
    tape = write_tape(tmp_path / "tape.csv", 4_000)
    async with cluster_of(network) as cluster, trio.open_nursery() as nursery:
        traders = Traders(network, seed=1, tape=tape, speed=math.inf, note=print)
        nursery.start_soon(traders.run)
        traders.start_tape()
        await until(lambda: traders.tally.tape.played > 500)
        # The makers' node and then the takers' one.
        cluster.kill(0)
        cluster.kill(1)
        await until(lambda: traders.tally.tape.done)
        assert traders.tally.tape.played == 4_000
        assert cluster.refusals.keys() <= HARMLESS
        # No envelope was lost or refused as a whole: every refusal is one of the engine's.
        assert traders.tally.rejected <= cluster.refusals.total()
        assert traders.tally.fills >= 3_800
        nursery.cancel_scope.cancel()


async def test_a_full_pool_is_tried_again_until_it_has_room(network):
    async with cluster_of(network) as cluster, trio.open_nursery() as nursery:
        cluster.full = 3
        factory = EnvelopeFactory(network.account_secret("trader0"), network.chain_id)
        courier = Courier([network.nodes[0].door_endpoint()], [factory.account])
        nursery.start_soon(courier.run)
        ticket = await courier.send(factory, [CancelAll()])
        with trio.fail_after(10):
            await ticket.done.wait()
        assert ticket.refusal is None
        assert len(ticket.receipts) == 1
        assert cluster.submissions == 4
        nursery.cancel_scope.cancel()


async def test_no_more_than_the_bound_is_in_flight(network):
    async with cluster_of(network) as cluster, trio.open_nursery() as nursery:
        cluster.full = 10**9
        factory = EnvelopeFactory(network.account_secret("trader0"), network.chain_id)
        courier = Courier([network.nodes[0].door_endpoint()], [factory.account])
        nursery.start_soon(courier.run)
        tickets = []

        async def flood() -> None:
            for _ in range(IN_FLIGHT_MAX + 10):
                tickets.append(await courier.send(factory, [CancelAll()]))

        nursery.start_soon(flood)
        await until(lambda: cluster.submissions > 2 * IN_FLIGHT_MAX)
        assert len(tickets) == courier.in_flight == IN_FLIGHT_MAX
        cluster.full = 0
        await until(lambda: len(tickets) == IN_FLIGHT_MAX + 10 and courier.in_flight == 0)
        assert all(ticket.refusal is None for ticket in tickets)
        nursery.cancel_scope.cancel()


async def test_a_quiet_node_is_left_for_the_next_one(network, monkeypatch):
    monkeypatch.setattr(courier_module, "QUIET_MAX_S", 0.2)
    async with cluster_of(network) as cluster, trio.open_nursery() as nursery:
        # A node that takes envelopes and answers, but hears of no block.
        monkeypatch.setattr(cluster, "_announce", lambda door, envelopes: None)
        factory = EnvelopeFactory(network.account_secret("trader0"), network.chain_id)
        doors = [node.door_endpoint() for node in network.nodes[:2]]
        courier = Courier(doors, [factory.account])
        nursery.start_soon(courier.run)
        ticket = await courier.send(factory, [CancelAll()])
        # The second node knows the outcome when the same bytes are handed in again.
        with trio.fail_after(10):
            await ticket.done.wait()
        assert ticket.refusal is None
        assert len(ticket.receipts) == 1
        assert courier.reconnects >= 1
        nursery.cancel_scope.cancel()


async def test_an_abandoned_envelope_frees_its_place(network):
    async with cluster_of(network) as cluster, trio.open_nursery() as nursery:
        cluster.full = 10**9
        factory = EnvelopeFactory(network.account_secret("trader0"), network.chain_id)
        courier = Courier([network.nodes[0].door_endpoint()], [factory.account])
        nursery.start_soon(courier.run)
        ticket = await courier.send(factory, [CancelAll()])
        courier.abandon(ticket)
        assert ticket.refusal == "courier.abandoned"
        assert courier.in_flight == 0
        nursery.cancel_scope.cancel()


def test_a_malformed_tape_ends_the_process_with_its_line(network, tmp_path, capsys):
    tape = tmp_path / "tape.csv"
    tape.write_text("nonsense\n")
    assert main(["--dir", str(network.path), "--tape", str(tape)]) == 3
    assert "line 1" in capsys.readouterr().err


def test_a_missing_localnet_is_a_configuration_error(tmp_path, capsys):
    assert main(["--dir", str(tmp_path)]) == 3
    assert "localnet.missing" in capsys.readouterr().err


def test_the_highest_speed_has_a_name():
    assert parse_speed("max") == math.inf
    assert parse_speed("2.5") == 2.5


@pytest.mark.parametrize("text", ["0", "-1", "nan", "fast"])
def test_speeds_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match=text):
        parse_speed(text)


def test_an_account_view_that_is_none_is_a_door_error():
    assert read_positions({"positions": [{"market": 1, "size_lots": -3, "more": 1}]}) == {1: -3}
    with pytest.raises(DoorError, match=r"door\.malformed"):
        read_positions({"positions": 7})
