"""A node's answers to queries: the status says what an operator must know, errors have codes."""

import threading

import msgspec
import pytest
import trio
from msgspec import msgpack
from trio.testing import wait_all_tasks_blocked

from consensus.effects import Alarm, Misbehaviour
from crypto.codec import decode, encode
from engine.block import BlockOutput
from engine.instructions import Side
from engine.receipts import Fill
from localnet.sim.nodes import NodeCluster
from node import queries as queries_module
from node.account_events import describe_entries
from node.cli.node import _status_rows
from node.cli.reference import render_pages
from node.cli.views import StatusInfo, read_view
from node.clock import Clock
from node.door import QueryError
from node.host import NodeHost
from node.protocol import QUERIES
from node.queries import (
    READING_THREADS_MAX,
    TRADES_PER_ANSWER,
    TRADES_PER_ANSWER_MAX,
    Queries,
)
from node.recovery import OUTPUT_TABLE
from node.storage.group_commit import GroupCommitter
from node.streams import Streams
from node.workers.crypto import CryptoPoolStatistics
from node.workers.engine import EngineWorkerStatistics, WorkerQueryError
from node.workers.statements import StatementStore
from node.workers.threads import ConsensusCrypto
from node.workers.views import Views

RUNTIME_STATISTICS = {
    "peers_connected": ["node1"],
    "workers": {
        "crypto": CryptoPoolStatistics(2, 5, 100, 1, (11, 12))._asdict(),
        "engine": {"pid": 13, **EngineWorkerStatistics(7, 1, 0, 0)._asdict()},
    },
}


class FakeEngine:
    """The engine's views without the process."""

    def __init__(self, state):
        self._views = Views(state)

    async def query(self, name, arguments):
        return self._views.answer(name, encode(arguments))


class BrokenEngine:
    async def query(self, name, arguments):
        raise WorkerQueryError("query.overloaded", "64 queries wait")


@pytest.fixture(scope="module")
def cluster():
    made = NodeCluster(5)
    made.start()
    made.trade(20, 1_000)
    made.run(2_000)
    return made


def make_statements(directory, cluster):
    statements = StatementStore(directory, cluster.chain_id)
    statements.write(cluster.world.engines[0].state)
    return statements


def make_host(cluster):
    return NodeHost(
        me=0,
        core=cluster.core(0),
        clock=Clock(),
        keys=None,
        network=None,
        audience=Streams(None),
        safety=GroupCommitter(lambda items: None),
        archive=None,
        archive_writes=GroupCommitter(lambda items: None),
        batches=None,
        batch_writes=GroupCommitter(lambda items: None),
        pool=None,
        crypto=ConsensusCrypto(cluster.chain_id),
        engine=None,
        library=None,
    )


@pytest.fixture
async def host(cluster):
    return make_host(cluster)


@pytest.fixture
async def ask(cluster, host, tmp_path):
    queries = Queries(
        name="node0",
        committee=cluster.keys.committee,
        host=host,
        streams=Streams(None),
        archive=cluster.world.disk(0),
        engine=FakeEngine(cluster.world.engines[0].state),
        statements=make_statements(tmp_path, cluster),
        statistics=lambda: RUNTIME_STATISTICS,
    )

    async def ask(name, *arguments):
        return msgpack.decode(await queries.answer(name, arguments))

    ask.queries = queries
    return ask


async def test_the_status_tells_where_the_node_stands_and_what_waits(ask, cluster):
    status = await ask("status")
    core = cluster.core(0).statistics()
    for name in ("committed_height", "executed_height", "certified_height", "state_root"):
        assert status[name] == getattr(core, name)
    for name in ("summaries_held", "verifying_bytes", "is_catching_up", "queued_blocks"):
        assert status[name] == getattr(core, name)
    assert status["convictions"] == []
    assert status["alarms"] == {}
    assert status["workers"]["crypto"]["restarts"] == 1
    assert status["workers"]["engine"]["height"] == 7


async def test_the_status_names_the_convicted(ask, cluster, monkeypatch):
    core = cluster.core(0)
    found = msgspec.structs.replace(core.statistics(), convictions=((3, "DoubleBatch"),))
    monkeypatch.setattr(core, "statistics", lambda: found)
    status = await ask("status")
    name = cluster.keys.committee.members[3].name
    assert status["convictions"] == [{"member": name, "offence": "DoubleBatch"}]


async def test_alarms_and_broken_rules_stay_in_the_status(ask, host):
    for detail in ("first", "second"):
        host._perform_all([Alarm("state.split", detail), Misbehaviour(2, "vote.author", "x")])
    status = await ask("status")
    assert status["alarms"] == {"state.split": "second"}
    assert status["misbehaviours"] == {"vote.author": 2}


async def test_people_see_in_words_what_needs_attention(ask, host):
    host._perform_all([Alarm("state.split", "no root can reach a quorum")])
    host._perform_all([Misbehaviour(2, "vote.author", "x")] * 3)
    status = await ask("status")
    status["convictions"] = [{"member": "node3", "offence": "DoubleBatch"}]
    rows = dict(_status_rows(status, read_view(StatusInfo, status, "status")))
    assert rows["committed_height"] == status["committed_height"]
    assert rows["peers_connected"] == "node1"
    assert rows["crypto_workers"] == "2 of 2 running, 5 jobs wait, 1 replaced"
    assert rows["engine_worker"] == "at height 7, 0 requests wait"
    assert rows["convicted"] == "node3 (DoubleBatch)"
    assert rows["broken_by_peers"] == "vote.author 3 times"
    assert rows["alarm"] == "state.split: no root can reach a quorum"
    assert not any(isinstance(value, dict | list) for value in rows.values())


async def test_every_listed_query_is_answered_or_refused_for_its_arguments(ask, cluster):
    account = cluster.identity.public_key(cluster.accounts[0])
    arguments = {
        "envelope": (next(iter(cluster.order.passed)),),
        "book": (1,),
        "account": (account,),
        "orders": (account,),
        "events": (account, 1),
        "proof": ("system",),
    }
    for name in QUERIES:
        if name == "order":
            orders = cluster.world.engines[0].state.orders
            assert (await ask("order", min(orders)))["order_id"] == min(orders)
        else:
            assert await ask(name, *arguments.get(name, ())) is not None


def test_the_list_of_queries_is_the_engines_views_and_the_nodes_own(cluster):
    own = set(
        Queries(
            name="",
            committee=None,
            host=None,
            streams=None,
            archive=None,
            engine=None,
            statements=None,
            statistics=dict,
        )._views
    )
    engine = set(Views(cluster.world.engines[0].state)._views)
    assert own | engine == set(QUERIES)
    assert not own & engine


def test_the_reference_page_has_every_query():
    page = render_pages()["reference/queries.md"]
    assert all(f"| `{name}` |" in page for name in QUERIES)


async def test_blocks_are_found_by_height_and_by_id_and_default_to_the_newest(ask, cluster):
    block = await ask("block", 3)
    assert block["height"] == 3
    assert await ask("block", block["block_id"]) == block
    newest = await ask("block")
    assert newest["height"] == cluster.core(0).statistics().committed_height
    commit = await ask("commit", 3)
    assert (commit["block_id"], commit["height"]) == (block["block_id"], 3)
    assert commit["power"] >= commit["quorum_power"]


async def test_a_certificate_holds_for_the_own_result(ask, cluster):
    newest = await ask("certificate")
    assert newest["own"]
    first = min(int.from_bytes(key, "big") for key in cluster.order.headers)
    certificate = await ask("certificate", first)
    assert certificate["certified"]
    assert certificate["power"] >= cluster.keys.committee.quorum_power


async def test_an_executed_envelope_has_its_results(ask, cluster):
    certified = cluster.core(0).statistics().certified_height
    envelope_id = next(
        envelope_id for envelope_id, height in cluster.order.passed.items() if height <= certified
    )
    answer = await ask("envelope", envelope_id)
    assert (answer["level"], answer["height"]) == ("executed", cluster.order.passed[envelope_id])
    assert answer["results"]


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("nothing", (), "query.unknown"),
        ("block", (0,), "query.malformed"),
        ("block", (2**63,), "query.malformed"),
        ("block", (b"short",), "query.malformed"),
        ("block", (bytes(32),), "block.unknown"),
        ("block", (10**9,), "block.unknown"),
        ("commit", (10**9,), "block.unknown"),
        ("certificate", (10**9,), "checkpoint.unknown"),
        ("envelope", (), "query.malformed"),
        ("envelope", (bytes(32),), "envelope.unknown"),
        ("trades", (1,), "query.malformed"),
        ("trades", (None, TRADES_PER_ANSWER_MAX + 1), "query.malformed"),
        ("account", (bytes(32),), "account.unknown"),
        ("order", (2**40,), "order.unknown"),
    ],
)
async def test_what_cannot_be_answered_has_a_code(ask, name, arguments, code):
    with pytest.raises(QueryError) as raised:
        await ask(name, *arguments)
    assert raised.value.code == code


async def test_a_refusal_of_the_engines_worker_keeps_its_code(ask):
    ask.queries._engine = BrokenEngine()
    with pytest.raises(QueryError) as raised:
        await ask("markets")
    assert raised.value.code == "query.overloaded"


async def test_of_many_trades_an_answer_has_the_newest_up_to_its_bound(ask):
    fills = ask.queries._streams.recent_fills
    assert fills.maxlen >= TRADES_PER_ANSWER_MAX
    for number in range(TRADES_PER_ANSWER_MAX + 1):
        fills.append((number, Fill(1, 2, 3, Side.BUY, 4, 5, bytes(32), bytes(32), 6, 7, 8)))
    answer = await ask("trades", 1, TRADES_PER_ANSWER_MAX)
    assert [each["height"] for each in answer] == list(range(1, TRADES_PER_ANSWER_MAX + 1))
    assert await ask("trades", 2, 1) == []
    assert len(await ask("trades")) == TRADES_PER_ANSWER


async def test_a_flood_of_questions_reads_the_archive_on_a_few_threads(ask, monkeypatch):
    entered, release = threading.Semaphore(0), threading.Event()
    reading, most = [], []

    def read(table, key):
        reading.append(key)
        most.append(len(reading))
        entered.release()
        assert release.wait(30)
        reading.pop()

    monkeypatch.setattr(ask.queries._archive, "read", read)

    async def ask_in_vain():
        with pytest.raises(QueryError):
            await ask("block", 1)

    async with trio.open_nursery() as nursery:
        for _ in range(2 * READING_THREADS_MAX):
            nursery.start_soon(ask_in_vain)
        for _ in range(READING_THREADS_MAX):
            assert await trio.to_thread.run_sync(entered.acquire)
        await wait_all_tasks_blocked()
        assert len(reading) == READING_THREADS_MAX
        release.set()
    assert max(most) == READING_THREADS_MAX


@pytest.mark.parametrize("most", [1_000, 3])
async def test_events_of_an_account_are_all_told_page_by_page(ask, cluster, monkeypatch, most):
    monkeypatch.setattr(queries_module, "EVENTS_PER_ANSWER_MAX", most)
    monkeypatch.setattr(queries_module, "EVENTS_OUTPUTS_MAX", 5)
    account = cluster.identity.public_key(cluster.accounts[0])
    certified = cluster.core(0).certified_height
    outputs = cluster.world.disk(0).read_range(OUTPUT_TABLE, b"", 100_000)
    expected = [
        (height, entry["leaf"])
        for key, output in outputs
        if (height := int.from_bytes(key, "big")) <= certified
        for _, entry in describe_entries(decode(BlockOutput, output), account.__eq__)
    ]
    assert len(expected) > 3
    found, height, leaf = [], 1, 0
    while height <= certified:
        page = await ask("events", account, height, leaf)
        assert page["certified_height"] == certified
        assert len(page["events"]) <= most
        found += [(each["height"], each["leaf"]) for each in page["events"]]
        assert (height, leaf) < (page["next_height"], page["next_leaf"])
        height, leaf = page["next_height"], page["next_leaf"]
    assert found == expected
    ahead = await ask("events", account, certified + 5, 2)
    assert (ahead["events"], ahead["next_height"], ahead["next_leaf"]) == ([], certified + 5, 2)


@pytest.mark.parametrize(
    "arguments", [(), (bytes(32),), (bytes(31), 1), (bytes(32), 0), (bytes(32), 1, -1), ("a", 1)]
)
async def test_events_are_asked_for_by_account_and_height(ask, arguments):
    with pytest.raises(QueryError) as caught:
        await ask("events", *arguments)
    assert caught.value.code == "query.malformed"
