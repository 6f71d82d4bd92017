"""Real processes, real sockets, SIGKILL: what is acknowledged stays, and nobody signs twice."""

import json
import os
import signal

import trio

from consensus.checkpoints import CHECKPOINT_INTERVAL
from engine.instructions import PlaceOrder, Side
from localnet.audit import audit
from node.client import DoorClient
from node.client_stream import DoorError
from node.envelopes import EnvelopeFactory
from node.failures import WorkerEndedError
from node.network import Network, load_network
from node.protocol import Channel, ReceiptEvent, ReceiptLevel

ENVELOPES = 60
EXPIRY_HEIGHT = 100_000
ACKNOWLEDGED = (ReceiptLevel.AVAILABLE, ReceiptLevel.ORDERED, ReceiptLevel.EXECUTED)

ALL_FOUR = ("node0", "node1", "node2", "node3")


async def find_roots(network: Network, height: int) -> tuple[set[bytes], int]:
    """The state roots that the nodes computed themselves at a checkpoint height, and how many of
    them have its certificate: who learned a higher one first has none of this height."""
    roots = set()
    certified = 0
    for node in network.nodes:
        endpoint = node.door_endpoint()
        async with DoorClient.connect(endpoint.host, endpoint.port) as client:
            answer = await client.query("certificate", height)
            assert answer["own"]
            certified += answer["certified"]
            roots.add(answer["state_root"])
    return roots, certified


def order(number: int) -> PlaceOrder:
    """A bid far below the market: it rests, whoever else trades."""
    return PlaceOrder(
        market=1,
        side=Side.BUY,
        size_lots=1,
        price_ticks=560_000 + number,
        client_id=number + 1,
    )


async def submit_until_available(
    network: Network, kill: trio.Event, patience_s: float
) -> dict[bytes, ReceiptLevel]:
    """Send orders to all nodes, note the levels that they promise, and stop when the nodes die."""
    levels: dict[bytes, ReceiptLevel] = {}
    secret = network.account_secret("alice")
    factory = EnvelopeFactory(secret, network.chain_id)
    envelopes = [factory.sign([order(number)], EXPIRY_HEIGHT) for number in range(ENVELOPES)]

    async def use(index: int) -> None:
        try:
            await trade(index)
        except* DoorError:
            assert kill.is_set(), "a node hangs up only when it dies"

    async def trade(index: int) -> None:
        endpoint = network.nodes[index].door_endpoint()
        async with DoorClient.connect(endpoint.host, endpoint.port) as client:
            events = await client.subscribe(Channel.RECEIPTS, network.account("alice").account)

            async def note() -> None:
                while True:
                    event = await events.receive()
                    assert isinstance(event, ReceiptEvent)
                    levels[event.envelope_id] = event.level
                    if sum(level in ACKNOWLEDGED for level in levels.values()) >= ENVELOPES // 2:
                        kill.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(note)
                for envelope in envelopes[index :: len(network.nodes)]:
                    await client.submit([envelope.data])
                await kill.wait()
                nursery.cancel_scope.cancel()

    with trio.fail_after(patience_s):
        async with trio.open_nursery() as nursery:
            for index in range(len(network.nodes)):
                nursery.start_soon(use, index)
    return {envelope_id: level for envelope_id, level in levels.items() if level in ACKNOWLEDGED}


async def find_levels(network: Network, envelope_ids: list[bytes]) -> set[str]:
    """What the first node now says of envelopes."""
    endpoint = network.nodes[0].door_endpoint()
    levels = set()
    async with DoorClient.connect(endpoint.host, endpoint.port) as client:
        for envelope_id in envelope_ids:
            try:
                levels.add((await client.query("envelope", envelope_id))["level"])
            except DoorError as error:
                # A node that restarted learns of an uncommitted envelope when it is certified anew.
                levels.add(error.code)
    return levels


def assert_nobody_signed_twice(localnet, *killed: str) -> None:
    """Before the crash, after it, and at the end: all that was ever noted tells one story."""
    localnet.down()
    report = audit(load_network(localnet.path), localnet.noted_records)
    assert report.contradictions == ()
    for node in report.nodes:
        assert node.certificate_votes_checked > 0
    for name in killed:
        at_its_death, *_, after_its_return = localnet.noted_records[name]
        assert at_its_death.votes
        assert max(at_its_death.votes) < max(after_its_return.votes)


def test_each_node_killed_in_turn_comes_back_to_the_same_root(make_localnet) -> None:
    localnet = make_localnet("-n", "4")
    for name in ALL_FOUR:
        localnet.kill(name)
        localnet.wait_for_blocks(5, f"all but {name}")
        localnet.note_records(name)
        localnet.restart(name)
        localnet.wait_caught_up(name)
        localnet.note_records_after_return(name)
    common = localnet.height()
    localnet.wait_caught_up(*ALL_FOUR)
    network = load_network(localnet.path)
    # Every 16th height is a checkpoint, whatever it ordered.
    checkpoints = range(CHECKPOINT_INTERVAL, common + 1, CHECKPOINT_INTERVAL)
    found = [trio.run(find_roots, network, height) for height in checkpoints]
    assert found
    assert all(len(roots) == 1 for roots, _ in found)
    assert any(certified == len(ALL_FOUR) for _, certified in found)
    assert_nobody_signed_twice(localnet, *ALL_FOUR)


def test_no_acknowledged_order_is_lost_when_all_nodes_die_at_once(
    make_localnet, wait_until, patience_s
) -> None:
    localnet = make_localnet("-n", "4")
    network = load_network(localnet.path)
    height = localnet.height()

    async def run() -> dict[bytes, ReceiptLevel]:
        acknowledged: dict[bytes, ReceiptLevel] = {}
        kill = trio.Event()
        pids = [node["pid"] for node in localnet.status().values()]

        async def strike() -> None:
            await kill.wait()
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(strike)
            acknowledged.update(await submit_until_available(network, kill, patience_s))
        return acknowledged

    acknowledged = trio.run(run)
    assert len(acknowledged) >= ENVELOPES // 2
    localnet.wait_dead(*ALL_FOUR)
    localnet.note_records(*ALL_FOUR)
    localnet.restart(*ALL_FOUR)
    wait_until(lambda: localnet.height() > height + 3, "the chain goes on from where it was")
    localnet.note_records_after_return(*ALL_FOUR)

    def is_all_executed() -> bool:
        return trio.run(find_levels, network, list(acknowledged)) == {"executed"}

    wait_until(is_all_executed, "every acknowledged order is executed")
    assert_nobody_signed_twice(localnet, *ALL_FOUR)


def test_two_of_seven_may_die_at_once(make_localnet) -> None:
    localnet = make_localnet("-n", "7")
    localnet.kill("node2", "node5")
    localnet.wait_for_blocks(4, "five of seven")
    localnet.note_records("node2", "node5")
    localnet.restart("node2", "node5")
    localnet.wait_caught_up("node2", "node5")
    localnet.note_records_after_return("node2", "node5")
    assert_nobody_signed_twice(localnet, "node2", "node5")


def test_nodes_whose_engines_are_killed_end_at_once_with_their_code_and_come_back(
    make_localnet, wait_until
) -> None:
    localnet = make_localnet("-n", "4")
    wait_until(lambda: localnet.height() >= 10, "some chain")
    for pid in [find_engine(localnet, name) for name in ALL_FOUR]:
        os.kill(pid, signal.SIGKILL)
    localnet.wait_dead(*ALL_FOUR)
    exit_codes = {node["exit_code"] for node in localnet.status().values()}
    assert exit_codes == {WorkerEndedError.exit_code}
    localnet.restart(*ALL_FOUR)
    localnet.wait_for_blocks(3, "all four")
    assert_nobody_signed_twice(localnet)


def find_engine(localnet, name: str) -> int:
    """The process id of a node's engine."""
    done = localnet.rota("node", "status", "--home", str(localnet.path / name), "--json")
    assert done.returncode == 0, done.stderr
    pid: int = json.loads(done.stdout)["workers"]["engine"]["pid"]
    return pid


def test_a_replay_gives_identical_roots_under_any_hash_seed(make_localnet, wait_until) -> None:
    localnet = make_localnet("-n", "4")
    wait_until(lambda: localnet.height() >= 40, "some chain")
    localnet.down()
    reports = []
    for hash_seed in ("0", "4242"):
        done = localnet.rota(
            "replay",
            str(localnet.path / "node0"),
            "--check-roots",
            "--json",
            hash_seed=hash_seed,
        )
        assert done.returncode == 0, done.stderr
        reports.append(json.loads(done.stdout))
    first, second = reports
    assert first["checkpoints_compared"] > 0
    assert first["certificates_compared"] > 0
    assert first["fills"] > 0
    assert first["state_root"] == second["state_root"]
