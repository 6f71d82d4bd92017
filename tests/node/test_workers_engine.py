"""The engine worker against the engine in process: same results, safe snapshots, honest deaths."""

import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from crypto.codec import decode_lenient, encode
from crypto.digest import Domain, digest
from engine.apply import apply_block
from engine.block import (
    BlockInput,
    BlockOutput,
    EngineEnvelope,
    Reporter,
    SessionGrant,
    SessionScope,
)
from engine.errors import InvariantViolation
from engine.genesis import EngineGenesis, GenesisDeposit, MarketParams
from engine.instructions import Bundle, MarketOrder, OracleReport, PlaceOrder, Side, TimeInForce
from engine.state import create_state
from mempool.batch import BatchBody, OpaqueChunk, encode_batch_body
from mempool.envelope import BodyKind, Envelope, EnvelopeHeader, compute_body_digest
from mempool.keys import AuthorizeKey, KeyChanges, KeyScope
from node.storage.errors import StorageError
from node.workers.engine import (
    COMMANDS_AHEAD_MAX,
    QUERIES_PENDING_MAX,
    EngineWorkerError,
    ExecuteRequest,
    WorkerQueryError,
    open_engine_worker,
)
from node.workers.engine_main import EngineServer, serve
from node.workers.engine_messages import (
    Answered,
    Ask,
    Broken,
    Open,
    Reply,
    Save,
    SaveNow,
)
from node.workers.errors import INVARIANT_CODE
from node.workers.manifests import MANIFEST_SUFFIX
from node.workers.snapshots import SNAPSHOTS_KEPT, SnapshotStore
from node.workers.state_files import StateFiles
from node.workers.statements import STATEMENT_SUFFIX
from node.workers.views import ACCOUNTS_PAGE_MAX, Views

CHAIN_ID = bytes(range(32))
REPORTER = b"r" * 32
ALICE, BOB, CAROL = (bytes([value]) * 32 for value in (1, 2, 3))
KEY = bytes([9]) * 32
"""A session key, known to the account that authorises it."""

GENESIS = EngineGenesis(
    (
        MarketParams(
            market=1,
            symbol="BTC-PERP",
            tick_size_microquote=10_000,
            lots_per_base=1_000,
            initial_margin_ppm=50_000,
            maintenance_margin_ppm=30_000,
            maker_fee_ppm=-20,
            taker_fee_ppm=500,
            price_band_ppm=100_000,
            oracle_max_age_ms=60_000,
        ),
    ),
    tuple(GenesisDeposit(account, 10**12) for account in (ALICE, BOB, CAROL)),
)


def envelope(sender, nonce, *instructions, body=None, **changes) -> bytes:
    body = encode(Bundle(instructions)) if body is None else body
    fields = {
        "chain_id": CHAIN_ID,
        "namespace": 0,
        "kind": BodyKind.PLAIN,
        "sender": sender,
        "signer": sender,
        "nonce": nonce,
        "expiry_height": 1_000,
        "body_digest": compute_body_digest(body),
        "body_size_bytes": len(body),
    }
    header = EnvelopeHeader(**(fields | changes))
    return encode(Envelope(header, bytes(64), body))


def batch(*envelopes: bytes) -> bytes:
    return encode_batch_body(BatchBody(envelopes, (OpaqueChunk(7, 4, b"abcd"),)))


def request(height: int, *batches: tuple[bytes, tuple[int, ...]]) -> ExecuteRequest:
    seed = digest(Domain.SEED, height.to_bytes(8, "big"))
    return ExecuteRequest(height, height * 1_000, seed, batches, (Reporter(REPORTER, 1),))


def trading_block(height: int) -> ExecuteRequest:
    """A price report, two resting orders and one that trades, in two batches."""
    report = OracleReport(1, 100_000, height, height * 1_000)
    first = batch(
        envelope(REPORTER, height, report),
        envelope(ALICE, height, PlaceOrder(1, Side.BUY, 99_990, 5 + height)),
    )
    second = batch(
        envelope(BOB, height, PlaceOrder(1, Side.SELL, 100_010, 7, TimeInForce.POST_ONLY)),
        envelope(CAROL, height, MarketOrder(1, Side.BUY, 100_020, 3)),
    )
    return request(height, (first, ()), (second, ()))


class Reference:
    """The same blocks through `apply_block` in this process, with an independent reading."""

    def __init__(self) -> None:
        self.state = create_state(GENESIS)

    def apply(self, request: ExecuteRequest) -> BlockOutput:
        envelopes = []
        grants = []
        for body, refused in request.batches:
            for position, data in enumerate(msgspec.msgpack.decode(body, type=BatchBody).envelopes):
                opened = msgspec.msgpack.decode(data, type=Envelope)
                header = opened.header
                if position in refused:
                    continue
                if header.kind is BodyKind.KEYS:
                    for each in msgspec.msgpack.decode(opened.body, type=KeyChanges).changes:
                        assert isinstance(each, AuthorizeKey)
                        limits = (each.markets, each.subs, each.spend_max_microquote)
                        scope = SessionScope(each.scope)
                        grants.append(
                            SessionGrant(header.sender, each.key, scope, each.expires_ms, *limits)
                        )
                else:
                    signer = header.signer if header.signer != header.sender else b""
                    envelopes.append(
                        EngineEnvelope(
                            header.envelope_id(), header.sender, header.nonce, opened.body, signer
                        )
                    )
        return apply_block(
            self.state,
            BlockInput(
                request.height,
                request.time_ms,
                request.seed,
                tuple(envelopes),
                reporters=request.reporters,
                session_grants=tuple(grants),
            ),
        )


def assert_same(result, output: BlockOutput) -> None:
    assert result.height == output.height
    assert result.market_root == output.state_root
    assert result.receipts_root == output.receipts_root
    assert result.instructions == output.stats.instructions
    assert result.fills == output.stats.fills
    assert result.output == encode(output)


@contextmanager
def stopped(worker) -> Iterator[None]:
    """What is asked of a stopped process waits in its pipe."""
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


def engine(directory, *, chain_id=CHAIN_ID, genesis=GENESIS):
    return open_engine_worker(genesis, directory, chain_id)


# ---- execution -----------------------------------------------------------------------------


async def test_blocks_give_what_the_engine_gives_in_process(tmp_path):
    reference = Reference()
    async with engine(tmp_path) as worker:
        assert worker.height == 0
        for height in range(1, 5):
            block = trading_block(height)
            result = await worker.execute(block)
            assert_same(result, reference.apply(block))
            assert worker.height == height
        assert result.fills > 0
        empty = request(5)
        assert_same(await worker.execute(empty), reference.apply(empty))


async def test_refused_positions_do_not_reach_the_engine_and_key_changes_do_as_grants(tmp_path):
    order = PlaceOrder(1, Side.BUY, 99_990, 5)
    changes = encode(KeyChanges((AuthorizeKey(KEY, 10**12, KeyScope.TRADE, markets=(1,)),)))
    body = batch(
        envelope(REPORTER, 1, OracleReport(1, 100_000, 1, 1_000)),
        envelope(ALICE, 1, order),
        envelope(BOB, 1, body=changes, kind=BodyKind.KEYS),
        envelope(CAROL, 1, order),
    )
    reference = Reference()
    async with engine(tmp_path) as worker:
        block = request(1, (body, (1,)))
        result = await worker.execute(block)
        assert_same(result, reference.apply(block))
        assert result.instructions == 2
        assert await read(worker, "orders", ALICE) == []
        assert len(await read(worker, "orders", CAROL)) == 1
        block = request(2, (batch(envelope(BOB, 2, order, signer=KEY)), ()))
        assert_same(await worker.execute(block), reference.apply(block))
        assert len(await read(worker, "orders", BOB)) == 1
        block = request(3, (batch(envelope(ALICE, 2, order, signer=KEY)), ()))
        assert_same(await worker.execute(block), reference.apply(block))
        assert await read(worker, "orders", ALICE) == []


async def test_blocks_may_be_sent_ahead_up_to_a_bound(tmp_path):
    reference = Reference()
    blocks = [trading_block(height) for height in range(1, COMMANDS_AHEAD_MAX + 3)]
    results = {}

    async with engine(tmp_path) as worker:

        async def execute(block):
            results[block.height] = await worker.execute(block)

        async with trio.open_nursery() as nursery:
            with stopped(worker):
                for block in blocks:
                    nursery.start_soon(execute, block)
                    await wait_all_tasks_blocked()
                statistics = worker.statistics()
                assert statistics.commands_pending == COMMANDS_AHEAD_MAX
                assert statistics.commands_waiting == 2
        assert worker.statistics() == (len(blocks), 0, 0, 0)
    for block in blocks:
        assert_same(results[block.height], reference.apply(block))


async def test_a_cancelled_caller_does_not_disturb_the_order_of_blocks(tmp_path):
    reference = Reference()
    async with engine(tmp_path) as worker:
        async with trio.open_nursery() as nursery:
            with stopped(worker):
                nursery.start_soon(worker.execute, trading_block(1))
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        reference.apply(trading_block(1))
        result = await worker.execute(trading_block(2))
        assert_same(result, reference.apply(trading_block(2)))
        assert worker.height == 2


async def test_a_malformed_bundle_is_its_senders_mistake_and_gets_a_receipt(tmp_path):
    block = request(1, (batch(envelope(ALICE, 2, body=b"\x91" * 1_000)), ()))
    async with engine(tmp_path) as worker:
        result = await worker.execute(block)
        assert_same(result, Reference().apply(block))
        assert result.instructions == 1


async def test_a_body_that_no_check_can_have_passed_stops_the_engine(tmp_path):
    async def run():
        async with engine(tmp_path) as worker:
            await worker.execute(request(1, (b"\xc1", ())))

    with pytest.raises(EngineWorkerError) as caught:
        await run()
    assert caught.value.code == INVARIANT_CODE


# ---- snapshots -----------------------------------------------------------------------------


async def run_blocks(directory, *heights: int, save: tuple[int, ...] = ()) -> list[bytes]:
    roots = []
    async with engine(directory) as worker:
        assert worker.height == heights[0] - 1
        for height in heights:
            roots.append((await worker.execute(trading_block(height))).market_root)
            if height in save:
                await worker.save_now(height)
    return roots


def names(directory) -> list[str]:
    beside = (MANIFEST_SUFFIX, STATEMENT_SUFFIX)
    return sorted(path.name for path in directory.iterdir() if path.suffix not in beside)


async def test_a_restarted_worker_goes_on_from_its_newest_snapshot(tmp_path):
    straight = await run_blocks(tmp_path / "straight", *range(1, 8))
    before = await run_blocks(tmp_path / "split", 1, 2, 3, 4, save=(1, 2, 4))
    assert len(names(tmp_path / "split")) == SNAPSHOTS_KEPT
    after = await run_blocks(tmp_path / "split", 5, 6, 7)
    assert before + after == straight


async def test_a_damaged_snapshot_falls_back_to_the_one_before_and_then_to_genesis(tmp_path):
    straight = await run_blocks(tmp_path, 1, 2, 3, 4, save=(2, 4))
    older, newer = sorted(tmp_path.iterdir())
    damage(newer)
    assert await run_blocks(tmp_path, 3, 4, save=(3,)) == straight[2:]
    # Saving again removed the damaged one, which would otherwise have counted as the newest.
    assert len(names(tmp_path)) == SNAPSHOTS_KEPT
    assert not newer.exists()
    for path in tmp_path.iterdir():
        damage(path)
    assert await run_blocks(tmp_path, 1, 2) == straight[:2]
    assert older.exists()


def damage(path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def make_store(directory, chain_id=CHAIN_ID, genesis=GENESIS) -> SnapshotStore:
    return SnapshotStore(directory, chain_id, genesis)


def test_a_snapshot_that_is_cut_or_changed_anywhere_is_passed_over(tmp_path, capsys):
    reference = Reference()
    store = make_store(tmp_path)
    assert store.load_newest().height == 0
    reference.apply(trading_block(1))
    store.save(reference.state)
    reference.apply(trading_block(2))
    store.save(reference.state)
    newest = max(tmp_path.iterdir())
    content = newest.read_bytes()
    size_bytes = len(content)
    assert store.load_newest().height == 2
    for place in [*range(0, 260), *range(260, size_bytes, 23), size_bytes - 1]:
        newest.write_bytes(content[:place])
        assert store.load_newest().height == 1
        newest.write_bytes(content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :])
        assert store.load_newest().height == 1
    newest.write_bytes(content + b"\x00")
    assert store.load_newest().height == 1
    assert "passed over" in capsys.readouterr().err
    newest.write_bytes(content)
    assert store.load_newest().height == 2


def test_a_snapshot_under_another_name_is_passed_over(tmp_path, capsys):
    reference = Reference()
    store = make_store(tmp_path)
    store.load_newest()
    reference.apply(trading_block(1))
    store.save(reference.state)
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / path.name.replace("1", "9"))
    assert store.load_newest().height == 0
    assert "name" in capsys.readouterr().err


def test_what_a_crash_left_unfinished_is_removed(tmp_path):
    (tmp_path / "00000000000000000007.snapshot.unfinished").write_bytes(b"half")
    assert make_store(tmp_path).load_newest().height == 0
    assert names(tmp_path) == []


def test_what_is_only_written_takes_nothing_from_whoever_saved_meanwhile(tmp_path):
    reference, late = Reference(), Reference()
    store = make_store(tmp_path)
    store.load_newest()
    late.apply(trading_block(1))
    for height in range(1, 5):
        reference.apply(trading_block(height))
    store.save(reference.state)
    # As by a process that outlived its engine.
    store.write(late.state)
    assert names(tmp_path) == [f"{height:020d}.snapshot" for height in (1, 4)]
    assert store.load_newest().height == 4
    store.remove_obsolete(1)
    assert store.load_newest().height == 1


async def test_the_snapshot_of_another_chain_or_genesis_is_refused(tmp_path):
    await run_blocks(tmp_path, 1, save=(1,))
    with pytest.raises(StorageError, match="belongs to chain") as caught:
        async with engine(tmp_path, chain_id=bytes(32)):
            pass
    assert caught.value.code == "storage.foreign"
    other = EngineGenesis(GENESIS.markets, GENESIS.deposits[:1])
    with pytest.raises(StorageError) as caught:
        async with engine(tmp_path, genesis=other):
            pass
    assert caught.value.code == "storage.foreign"


async def test_a_failing_disk_fails_the_save_and_nothing_else(tmp_path):
    directory = tmp_path / "engine"
    async with engine(directory) as worker:
        await worker.execute(trading_block(1))
        directory.rmdir()
        with pytest.raises(StorageError) as caught:
            await worker.save_now(1)
        assert caught.value.code == "storage.failed"
        directory.mkdir()
        await worker.save_now(1)
        await worker.execute(trading_block(2))
    assert len(names(directory)) == 1


async def test_blocks_are_executed_while_a_snapshot_of_an_earlier_one_is_written(tmp_path):
    straight = await run_blocks(tmp_path / "straight", *range(1, 6))
    directory = tmp_path / "saved"
    async with engine(directory) as worker:
        await worker.execute(trading_block(1))
        # Whoever opens this to write waits until somebody reads.
        stuck = directory / "00000000000000000001.snapshot.unfinished"
        os.mkfifo(stuck)
        await worker.begin_save(1)
        assert (await worker.execute(trading_block(2))).market_root == straight[1]
        assert await trio.to_thread.run_sync(stuck.read_bytes)
        with pytest.raises(StorageError) as caught:
            # A pipe cannot be synced: the next save is told that this one has failed.
            await worker.begin_save(2)
        assert caught.value.code.startswith("storage.")
        await worker.begin_save(2)
        for height in (3, 4):
            root = (await worker.execute(trading_block(height))).market_root
            assert root == straight[height - 1]
        await worker.begin_save(4)
        assert (directory / "00000000000000000002.snapshot").exists(), "the earlier one came first"
        await worker.execute(trading_block(5))
        await worker.save_now(5)
    stuck.unlink()
    assert names(directory) == [f"{height:020d}.snapshot" for height in (4, 5)]
    async with engine(directory) as worker:
        assert worker.height == 5


async def test_what_is_saved_beside_is_the_state_as_it_was_when_it_was_asked_for(tmp_path):
    reference = Reference()
    async with engine(tmp_path) as worker:
        for height in range(1, 4):
            block = trading_block(height)
            await worker.execute(block)
            reference.apply(block)
        await worker.begin_save(3)
        for height in range(4, 8):
            await worker.execute(trading_block(height))
        # It waits for the save that is under way.
        await worker.save_now(7)
    expected = make_store(tmp_path / "expected")
    expected.load_newest()
    expected.save(reference.state)
    (path,) = (tmp_path / "expected").iterdir()
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()


async def test_a_contradictory_genesis_does_not_start(tmp_path):
    twice = EngineGenesis(GENESIS.markets, GENESIS.deposits[:1] * 2)
    with pytest.raises(EngineWorkerError) as caught:
        async with engine(tmp_path, genesis=twice):
            pass
    assert caught.value.code == "genesis.invalid"


# ---- queries -------------------------------------------------------------------------------


async def read(worker, name, *arguments):
    return msgspec.msgpack.decode(await worker.query(name, arguments))


async def test_views_are_plain_maps(tmp_path):
    async with engine(tmp_path) as worker:
        await worker.execute(trading_block(1))
        (market,) = await read(worker, "markets")
        assert market["symbol"] == "BTC-PERP"
        assert market["index_price_ticks"] == 100_000
        book = await read(worker, "book", "BTC-PERP", 5)
        assert book == await read(worker, "book", 1)
        assert book["bids"] == [{"price_ticks": 99_990, "size_lots": 6, "orders": 1}]
        account = await read(worker, "account", CAROL)
        assert account["account"] == CAROL
        assert account["positions"][0]["size_lots"] == 3
        (order,) = await read(worker, "orders", ALICE)
        assert order["side"] == "buy"
        assert order["tif"] == "gtc"
        assert order == await read(worker, "order", order["order_id"])


async def test_accounts_come_in_pages(tmp_path):
    async with engine(tmp_path) as worker:
        everybody = await read(worker, "accounts")
        assert [each["account"] for each in everybody] == [ALICE, BOB, CAROL]
        assert everybody[0] == {
            "account": ALICE,
            "quote_microquote": 10**12,
            "open_orders": 0,
        }
        assert await read(worker, "accounts", None, 1) == everybody[:1]
        assert await read(worker, "accounts", ALICE, 1) == everybody[1:2]
        assert await read(worker, "accounts", CAROL) == []


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("nothing", (), "query.unknown"),
        ("markets", (1,), "query.malformed"),
        ("book", (), "query.malformed"),
        ("book", (1, 0), "query.malformed"),
        ("book", (1, 1_001), "query.malformed"),
        ("book", (1, 2, 3), "query.malformed"),
        ("book", ([[]],), "query.malformed"),
        ("book", (2,), "market.unknown"),
        ("book", (-(2**63),), "market.unknown"),
        ("book", ("ETH-PERP",), "market.unknown"),
        ("accounts", (b"short",), "query.malformed"),
        ("accounts", (None, ACCOUNTS_PAGE_MAX + 1), "query.malformed"),
        ("accounts", (None, 0), "query.malformed"),
        ("account", (), "query.malformed"),
        ("account", ("text",), "query.malformed"),
        ("account", (b"short",), "query.malformed"),
        ("account", (bytes(32),), "account.unknown"),
        ("orders", (bytes(32),), "account.unknown"),
        ("order", (b"1",), "query.malformed"),
        ("order", (2**64 - 1,), "order.unknown"),
    ],
)
def test_queries_that_cannot_be_answered_have_stable_codes(name, arguments, code):
    with pytest.raises(WorkerQueryError) as caught:
        Views(create_state(GENESIS)).answer(name, encode(arguments))
    assert caught.value.code == code


@settings(max_examples=200, deadline=None)
@given(
    name=st.sampled_from(["markets", "book", "accounts", "account", "orders", "order"]),
    arguments=st.binary(max_size=40)
    | st.recursive(
        st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=4) | st.binary(max_size=32),
        lambda inner: st.lists(inner, max_size=3),
    ).map(encode),
)
def test_no_arguments_break_a_view(name, arguments):
    codes = {"query.malformed", "market.unknown", "account.unknown", "order.unknown"}
    try:
        msgspec.msgpack.decode(Views(create_state(GENESIS)).answer(name, arguments))
        code = None
    except WorkerQueryError as error:
        code = error.code
    assert code is None or code in codes


async def test_a_refused_query_keeps_its_code_across_the_pipe(tmp_path):
    async with engine(tmp_path) as worker:
        with pytest.raises(WorkerQueryError) as caught:
            await worker.query("book", (2,))
        assert caught.value.code == "market.unknown"
        assert "2" in caught.value.detail


def test_a_view_that_breaks_refuses_the_query_and_says_so_on_stderr(tmp_path, monkeypatch, capsys):
    def broken(state):
        raise RuntimeError("a bug")

    monkeypatch.setattr("node.workers.views.view_markets", broken)
    server = EngineServer(StateFiles(tmp_path, CHAIN_ID, GENESIS), lambda: None)
    assert server.ask(Ask("markets", encode(()))).code == "query.failed"
    assert "a bug" in capsys.readouterr().err
    assert isinstance(server.ask(Ask("book", encode((1,)))), Answered)


async def test_more_queries_than_may_wait_are_refused(tmp_path):
    answers = []

    async with engine(tmp_path) as worker:

        async def ask():
            answers.append(await worker.query("markets", ()))

        async with trio.open_nursery() as nursery:
            with stopped(worker):
                for _ in range(QUERIES_PENDING_MAX):
                    nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                with pytest.raises(WorkerQueryError) as caught:
                    await worker.query("markets", ())
                assert caught.value.code == "query.overloaded"
        assert len(answers) == QUERIES_PENDING_MAX
        await ask()


# ---- death ---------------------------------------------------------------------------------


async def test_a_killed_worker_fails_its_callers_and_its_context(tmp_path):
    errors = []

    async def expect_failure(call, *arguments):
        with pytest.raises(EngineWorkerError) as caught:
            await call(*arguments)
        errors.append(caught.value)

    async def ask_and_kill():
        async with engine(tmp_path) as worker, trio.open_nursery() as nursery:
            os.kill(worker.pid, signal.SIGSTOP)
            for height in range(1, COMMANDS_AHEAD_MAX + 2):
                nursery.start_soon(expect_failure, worker.execute, trading_block(height))
                await wait_all_tasks_blocked()
            nursery.start_soon(expect_failure, worker.query, "markets", ())
            await wait_all_tasks_blocked()
            os.kill(worker.pid, signal.SIGKILL)
            with trio.CancelScope(shield=True):
                while len(errors) < COMMANDS_AHEAD_MAX + 2:
                    await wait_all_tasks_blocked()
                await expect_failure(worker.query, "markets", ())

    with pytest.raises(EngineWorkerError) as caught:
        await ask_and_kill()
    assert {error.code for error in (*errors, caught.value)} == {"worker.exited"}
    assert "SIGKILL" in str(caught.value)


async def test_a_broken_invariant_is_told_from_a_crash(tmp_path):
    # The engine itself insists that time does not go back.
    late = request(1)
    early = ExecuteRequest(2, 1, late.seed, (), late.reporters)

    async def run():
        async with engine(tmp_path) as worker:
            await worker.execute(late)
            await worker.execute(early)

    with pytest.raises(EngineWorkerError) as caught:
        await run()
    assert caught.value.code == INVARIANT_CODE
    assert "height 2" in str(caught.value)


class FakePipe:
    """What the node asks, and what it is told."""

    def __init__(self, *requests):
        self.requests = [encode(request) for request in requests]
        self.told = []

    def receive(self):
        return self.requests.pop(0)

    def send(self, data):
        self.told.append(decode_lenient(Reply, data))

    def close(self):
        """Nothing is open."""


@pytest.mark.parametrize("save", [(Save(0), SaveNow(0)), (SaveNow(0),)])
def test_books_that_turn_out_unbalanced_when_they_are_saved_halt_the_node(
    tmp_path, monkeypatch, save
):
    def find_imbalance(_files, _state):
        raise InvariantViolation("balances 1, owed 2")

    monkeypatch.setattr(StateFiles, "write", find_imbalance)
    monkeypatch.setattr(StateFiles, "save_snapshot", find_imbalance)
    # The engine's process switches the collector off, for good; this one goes on.
    for name in ("collect", "freeze", "disable"):
        monkeypatch.setattr(gc, name, lambda *_: None)
    pipe = FakePipe(Open(CHAIN_ID, GENESIS, str(tmp_path)), *save)
    serve(pipe)
    broken = pipe.told[-1]
    assert isinstance(broken, Broken)
    assert broken.code == INVARIANT_CODE
    assert "height 0: balances 1, owed 2" in broken.detail


async def test_what_the_body_raises_leaves_the_context_as_it_is(tmp_path):
    with pytest.raises(KeyError):
        async with engine(tmp_path):
            raise KeyError


async def test_after_its_context_a_worker_answers_nothing(tmp_path):
    async with engine(tmp_path) as worker:
        pass
    with pytest.raises(EngineWorkerError) as caught:
        await worker.query("markets", ())
    assert caught.value.code == "worker.closed"
    with pytest.raises(EngineWorkerError):
        await worker.execute(request(1))


async def test_signals_for_the_whole_group_do_not_end_the_worker(tmp_path):
    async with engine(tmp_path) as worker:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(worker.pid, number)
        assert (await worker.execute(request(1))).height == 1
