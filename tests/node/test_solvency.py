"""Statements of solvency: kept with each saved state, proven from the disk, checked by a user."""

from contextlib import suppress
from types import SimpleNamespace

import msgspec
import pytest
import trio
from msgspec import msgpack
from msgspec.structs import replace

from consensus.effects import Store, compute_key
from consensus.types import CheckpointHeader, StateCertificate
from crypto.codec import encode
from crypto.digest import ZERO_DIGEST
from engine.apply import apply_block
from engine.block import BlockInput
from engine.commitment.proofs import (
    prove_leaf,
    prove_system,
)
from engine.commitment.root import (
    account_key,
    compute_state_root,
)
from engine.commitment.solvency import (
    compute_solvency,
    decode_statement,
    encode_statement,
)
from engine.genesis import EngineGenesis, GenesisDeposit, MarketParams
from engine.state import create_state
from localnet.network import create_network
from localnet.sim.disk import NodeDisk
from localnet.sim.keys import CHAIN_ID, Keys
from node.cli import solvency as command
from node.cli import target
from node.cli.main import run
from node.door import QueryError
from node.exit_codes import ExitCode
from node.protocol import STATEMENTS_KEPT
from node.queries import Queries
from node.recovery import CERTIFICATE_BY_HEIGHT_TABLE
from node.solvency import RefutedError, SolvencyAnswer, verify_solvency
from node.storage.errors import StorageError
from node.workers.statements import StatementStore

ACCOUNTS = tuple(bytes([value]) * 32 for value in range(1, 8))
OWED = 10**9
HEIGHT = 3


def make_state(height: int = HEIGHT):
    market = MarketParams(
        market=1,
        symbol="BTC-PERP",
        tick_size_microquote=10_000,
        lots_per_base=1_000,
        initial_margin_ppm=50_000,
        maintenance_margin_ppm=30_000,
        maker_fee_ppm=0,
        taker_fee_ppm=500,
        price_band_ppm=100_000,
        oracle_max_age_ms=60_000,
    )
    deposits = tuple(
        GenesisDeposit(each, OWED + position) for position, each in enumerate(ACCOUNTS)
    )
    state = create_state(EngineGenesis((market,), deposits))
    for number in range(1, height + 1):
        apply_block(state, BlockInput(number, 1_000 * number, ZERO_DIGEST))
    return state


@pytest.fixture(scope="module")
def state():
    return make_state()


@pytest.fixture
def store(tmp_path):
    return StatementStore(tmp_path, CHAIN_ID)


@pytest.fixture(scope="module")
def keys():
    return Keys()


def certify(keys, state, signers=(0, 1, 2), **changes) -> bytes:
    fields = {
        "epoch": 0,
        "height": state.height,
        "block_id": ZERO_DIGEST,
        "time_ms": 3_000,
        "order_root": ZERO_DIGEST,
        "market_root": compute_state_root(state),
        "receipts_root": ZERO_DIGEST,
    }
    header = CheckpointHeader(**(fields | changes))
    return encode(
        StateCertificate(header, *keys.aggregate(signers, header.signing_bytes(CHAIN_ID)))
    )


# ---- kept --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7])
def test_what_is_kept_gives_the_proofs_that_the_tree_gives(store, count):
    deposits = tuple(GenesisDeposit(each, OWED) for each in ACCOUNTS[:count])
    state = create_state(EngineGenesis((), deposits))
    store.write(state)
    solvency = compute_solvency(state)
    stored = store.load(0)
    assert stored.statement == solvency.statement
    assert stored.totals_proof == prove_system(state)
    for account in ACCOUNTS[:count]:
        assert store.prove(0, account) == solvency.prove_equity(account)
    for stranger in (bytes(32), bytes([9]) * 32, ACCOUNTS[0][:-1] + b"\xff"):
        assert store.prove(0, stranger) is None


def test_of_a_height_that_was_not_saved_there_is_nothing(store, state):
    store.write(state)
    assert store.load(HEIGHT + 1) is None
    assert store.prove(HEIGHT + 1, ACCOUNTS[0]) is None


def test_the_newest_are_kept_and_none_of_a_life_that_was_lost(store, tmp_path):
    for height in (*range(1, STATEMENTS_KEPT + 3), 99):
        (tmp_path / f"{height:020d}.solvency").touch()
    store.remove_obsolete(STATEMENTS_KEPT + 2)
    assert store.heights() == list(range(STATEMENTS_KEPT + 2, 2, -1))


def test_no_damage_yields_another_statement_or_proof(store, state, tmp_path):
    store.write(state)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    stored, proof = store.load(HEIGHT), store.prove(HEIGHT, ACCOUNTS[2])
    damaged = [
        content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        for place in range(0, len(content), 7)
    ]
    damaged += [content[:size_bytes] for size_bytes in range(0, len(content), 17)]
    for each in damaged:
        path.write_bytes(each)
        with suppress(StorageError):
            assert store.load(HEIGHT) == stored
            assert store.prove(HEIGHT, ACCOUNTS[2]) in (proof, None)


def test_another_chains_statement_is_refused(store, state, tmp_path):
    StatementStore(tmp_path, bytes(32)).write(state)
    with pytest.raises(StorageError) as caught:
        store.load(HEIGHT)
    assert caught.value.code == "storage.foreign"


# ---- asked for ---------------------------------------------------------------------------------


def make_queries(store, disk) -> Queries:
    unused = SimpleNamespace()
    return Queries(
        name="node0",
        committee=unused,
        host=unused,
        streams=unused,
        archive=disk,
        engine=unused,
        statements=store,
        statistics=dict,
    )


def ask(store, disk, *arguments):
    answer = trio.run(make_queries(store, disk).answer, "solvency", arguments)
    return msgpack.decode(answer)


def archive(disk, height, certificate) -> None:
    disk.stores[Store.ARCHIVE][CERTIFICATE_BY_HEIGHT_TABLE] = {compute_key(height): certificate}


def test_the_newest_statement_with_a_certificate_is_given_and_any_that_is_named(store, keys):
    disk = NodeDisk()
    states = [make_state(height) for height in (1, 2, 3)]
    for each in states:
        store.write(each)
    assert ask(store, disk)["height"] == 3
    assert ask(store, disk)["certificate"] is None
    archive(disk, 2, certify(keys, states[1]))
    assert ask(store, disk, ACCOUNTS[0])["height"] == 2
    assert ask(store, disk, None, 1)["height"] == 1
    assert ask(store, disk, None, 3)["proof"] is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((b"short",), "query.malformed"),
        ((7,), "query.malformed"),
        ((None, 0), "query.malformed"),
        ((None, "3"), "query.malformed"),
        ((None, 3, 3), "query.malformed"),
        ((None, 4), "solvency.unknown"),
        ((bytes(32),), "account.unknown"),
    ],
)
def test_what_cannot_be_answered_has_a_code(store, state, arguments, code):
    store.write(state)
    with pytest.raises(QueryError) as caught:
        ask(store, NodeDisk(), *arguments)
    assert caught.value.code == code


def test_a_damaged_file_costs_an_answer_and_not_the_node(store, state, tmp_path):
    store.write(state)
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"nonsense")
    with pytest.raises(QueryError) as caught:
        ask(store, NodeDisk())
    assert caught.value.code == "solvency.damaged"


# ---- checked -----------------------------------------------------------------------------------


def make_answer(store, keys, state, account=ACCOUNTS[2], **changes) -> SolvencyAnswer:
    store.write(state)
    disk = NodeDisk()
    archive(disk, state.height, certify(keys, state))
    return replace(msgspec.convert(ask(store, disk, account), SolvencyAnswer), **changes)


def check(keys, answer, account=ACCOUNTS[2]):
    return verify_solvency(
        answer, account, chain_id=CHAIN_ID, committee=keys.committee, scheme=keys.scheme
    )


def test_an_honest_answer_holds(store, keys, state):
    verdict = check(keys, make_answer(store, keys, state))
    assert verdict.owed_microquote == OWED + 2
    assert verdict.signers == (0, 1, 2)
    assert verdict.statement.held_microquote == verdict.statement.liabilities_microquote
    assert check(keys, make_answer(store, keys, state), None).owed_microquote is None


def restate(answer: SolvencyAnswer, **changes) -> SolvencyAnswer:
    statement = replace(decode_statement(answer.statement), **changes)
    return replace(answer, statement=encode_statement(statement))


@pytest.mark.parametrize(
    "lie",
    [
        lambda answer, keys, state: replace(answer, proof=None),
        lambda answer, keys, state: replace(
            answer, totals_proof=prove_leaf(state, account_key(ACCOUNTS[0]))
        ),
        lambda answer, keys, state: replace(answer, totals_proof=b""),
        lambda answer, keys, state: replace(answer, statement=b"short"),
        lambda answer, keys, state: replace(answer, certificate=b"nonsense"),
        lambda answer, keys, state: replace(answer, certificate=certify(keys, state, (0, 1))),
        lambda answer, keys, state: replace(answer, certificate=certify(keys, state, height=4)),
        lambda answer, keys, state: replace(
            answer, certificate=certify(keys, state, market_root=bytes(32))
        ),
        lambda answer, keys, state: replace(
            answer, certificate=answer.certificate[:-1] + bytes([answer.certificate[-1] ^ 1])
        ),
        lambda answer, keys, state: restate(answer, accounts=8),
        lambda answer, keys, state: restate(answer, sum_root=bytes(32)),
        lambda answer, keys, state: restate(answer, state_root=bytes(32)),
        # A debt that is said to be covered by what is not there.
        lambda answer, keys, state: restate(
            answer,
            deficit_microquote=5,
            insurance_microquote=5,
        ),
        # Liabilities that are said to be less, and the rest reserved or held otherwise.
        lambda answer, keys, state: restate(
            answer, liabilities_microquote=7 * OWED, reserved_microquote=21
        ),
        lambda answer, keys, state: restate(
            answer, liabilities_microquote=7 * OWED, held_microquote=7 * OWED
        ),
        lambda answer, keys, state: restate(
            answer, deficit_microquote=0, reserved_microquote=-1, held_microquote=7 * OWED + 20
        ),
    ],
)
def test_every_lie_is_refuted(store, keys, state, lie):
    answer = lie(make_answer(store, keys, state), keys, state)
    with pytest.raises(RefutedError) as caught:
        check(keys, answer)
    assert (caught.value.code, caught.value.exit_code) == ("solvency.refuted", ExitCode.SAFETY)


def test_a_proof_for_another_account_is_refuted(store, keys, state):
    answer = make_answer(store, keys, state)
    with pytest.raises(RefutedError):
        check(keys, answer, ACCOUNTS[3])


def test_without_a_certificate_nothing_is_claimed(store, keys, state):
    with pytest.raises(RefutedError) as caught:
        check(keys, make_answer(store, keys, state, certificate=None))
    assert (caught.value.code, caught.value.exit_code) == (
        "solvency.uncertified",
        ExitCode.TIMED_OUT,
    )


# ---- the command -------------------------------------------------------------------------------


def test_the_command_shows_what_it_proved_and_who_states_otherwise(
    store, keys, state, tmp_path, monkeypatch, capsys
):
    network = create_network(tmp_path / "net", port_first=24_100)
    genesis = SimpleNamespace(chain_id=lambda: CHAIN_ID, committee=lambda: keys.committee)
    monkeypatch.setattr(command, "load_chain", lambda *_: genesis)
    monkeypatch.setattr(command, "BLS", keys.scheme)
    answer = make_answer(store, keys, state)
    others = dict.fromkeys(range(24_100, 24_140), answer)

    def run_with_door(host, port, work):
        async def query(name, *arguments):
            return msgspec.to_builtins(others[port], builtin_types=(bytes,))

        return trio.run(work, SimpleNamespace(query=query))

    monkeypatch.setattr(target, "run_with_door", run_with_door)
    monkeypatch.setattr(command, "run_with_door", run_with_door)
    words = ["account", "solvency", ACCOUNTS[2].hex(), "--dir", str(network.path)]
    assert run([*words, "--json"]) == 0
    document = msgspec.json.decode(capsys.readouterr().out)
    assert document["owed_microquote"] == OWED + 2
    assert document["is_covered"] is True
    assert document["certified_by"] == ["node0", "node1", "node2"]
    assert set(document["nodes"].values()) == {"same"}
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert "proven to be part of the liabilities" in shown
    assert "states the same" in shown
    door = network.node("node3").door_endpoint()
    others[door.port] = restate(answer, sum_root=bytes(32))
    assert run(words) == ExitCode.SAFETY
    assert "node3 states otherwise" in capsys.readouterr().err
