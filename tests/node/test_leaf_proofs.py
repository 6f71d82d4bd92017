"""Proofs of the certified state: what a node answers, and what a user believes of it."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from msgspec import msgpack
from msgspec.structs import replace

from consensus.types import CheckpointHeader, StateCertificate
from crypto.codec import encode
from crypto.digest import ZERO_DIGEST
from engine.accounts.withdrawals import decode_withdrawal
from engine.apply import apply_block
from engine.block import BlockInput, EngineEnvelope
from engine.commitment.root import account_key, market_key, withdrawal_key
from engine.genesis import EngineGenesis, GenesisDeposit
from engine.instructions import Bundle, Withdraw
from engine.state import create_state
from localnet.network import create_network
from localnet.sim.keys import CHAIN_ID, Keys
from node.cli import proofs as command
from node.cli import target
from node.cli.main import run
from node.cli.views import read_view
from node.client_stream import DoorError
from node.exit_codes import ExitCode
from node.leaf_proofs import DisprovenError, LeafAnswer, verify_leaf
from node.workers.errors import WorkerQueryError
from node.workers.views import Views

ALICE = b"a" * 32
DESTINATION = b"\x12" * 20


@pytest.fixture(scope="module")
def state():
    made = create_state(EngineGenesis((), (GenesisDeposit(ALICE, 10**9),)))
    body = encode(Bundle((Withdraw(5_000_000, DESTINATION),)))
    envelope = EngineEnvelope(b"e" * 32, ALICE, 1, body)
    apply_block(made, BlockInput(1, 1_000, ZERO_DIGEST, (envelope,)))
    return made


@pytest.fixture(scope="module")
def keys():
    return Keys()


def ask(state, *arguments) -> LeafAnswer:
    answer = Views(state).answer("proof", encode(arguments))
    return read_view(LeafAnswer, msgpack.decode(answer), "proof")


def certify(keys, answer, signers=(0, 1, 2), **changes) -> bytes:
    fields = {
        "epoch": 0,
        "height": answer.height,
        "block_id": ZERO_DIGEST,
        "time_ms": 3_000,
        "order_root": ZERO_DIGEST,
        "market_root": answer.market_root,
        "receipts_root": ZERO_DIGEST,
    }
    header = CheckpointHeader(**(fields | changes))
    aggregate = keys.aggregate(signers, header.signing_bytes(CHAIN_ID))
    return encode(StateCertificate(header, *aggregate))


def verify(keys, key, answer, certificate):
    return verify_leaf(
        key,
        answer,
        certificate,
        chain_id=CHAIN_ID,
        committee=keys.committee,
        scheme=keys.scheme,
    )


def test_what_a_node_answers_is_what_the_certified_root_holds(state, keys):
    answer = ask(state, "withdrawal", 1)
    proven = verify(keys, withdrawal_key(1), answer, certify(keys, answer))
    assert proven.signers == (0, 1, 2)
    assert decode_withdrawal(proven.value) == (ALICE, DESTINATION, 5_000_000, 1)
    for question, key in (
        (("withdrawal", 2), withdrawal_key(2)),
        (("account", bytes(32)), account_key(bytes(32))),
        (("market", 7), market_key(7)),
    ):
        answer = ask(state, *question)
        assert verify(keys, key, answer, certify(keys, answer)).value is None
    answer = ask(state, "account", ALICE)
    assert verify(keys, account_key(ALICE), answer, certify(keys, answer)).value is not None


def test_nothing_is_believed_without_a_quorum_or_for_another_leaf_or_state(state, keys):
    answer = ask(state, "withdrawal", 1)
    certificate = certify(keys, answer)
    cases = [
        (withdrawal_key(2), answer, certificate, "proof.invalid"),
        (withdrawal_key(1), answer, certify(keys, answer, (0, 1)), "no quorum"),
        (withdrawal_key(1), answer, certify(keys, answer, height=9), "another state"),
        (withdrawal_key(1), answer, certificate[:-1], "malformed"),
        (withdrawal_key(1), replace(answer, market_root=bytes(32)), certificate, "another state"),
        (withdrawal_key(1), replace(answer, proof=answer.proof[:-1]), certificate, "malformed"),
    ]
    for key, shown, encoded, words in cases:
        with pytest.raises(DisprovenError, match=words):
            verify(keys, key, shown, encoded)


@pytest.mark.parametrize(
    "arguments",
    [(), ("account",), ("account", b"a"), ("market", -1), ("market", 2**32), ("all", 1)],
)
def test_what_is_no_leaf_is_not_proven(state, arguments):
    with pytest.raises(WorkerQueryError) as caught:
        ask(state, *arguments)
    assert caught.value.code == "query.malformed"


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return create_network(tmp_path_factory.mktemp("net") / "net", port_first=25_800)


@pytest.fixture
def rota(state, keys, network, monkeypatch, capsys):
    """Run `account prove` against a node that certifies the state at the third look."""
    looks: list[str] = []

    async def query(name: str, *arguments: Any) -> Any:
        looks.append(name)
        answer = ask(state, "withdrawal", 1)
        if name == "proof":
            return msgpack.decode(Views(state).answer(name, encode(arguments)))
        if name == "status":
            return {"certified_height": 0}
        if looks.count("certificate") < 3:
            raise DoorError("checkpoint.unknown", "no checkpoint here")
        return {"height": 1, "encoded": certify(keys, answer)}

    client = SimpleNamespace(query=query)
    chain = SimpleNamespace(
        chain_id=lambda: CHAIN_ID, committee=lambda: keys.committee, engine=state.genesis
    )
    monkeypatch.setattr(command, "POLL_S", 0)
    monkeypatch.setattr(command, "BLS", keys.scheme)
    monkeypatch.setattr(command, "load_chain", lambda *_: chain)
    monkeypatch.setattr(target, "run_with_door", lambda host, port, work: trio.run(work, client))

    def rota(*words: str, exit_code: int = 0) -> str:
        assert run(["account", "prove", *words, "--dir", str(network.path)]) == exit_code
        return capsys.readouterr().out

    return rota


def test_a_pending_withdrawal_is_proven_at_the_command_line(rota):
    shown = rota(ALICE.hex(), "--withdrawal", "1")
    assert f"it is pending: 5.00 to 0x{DESTINATION.hex()}, requested at height 1" in shown
    assert "not pending" in rota(ALICE.hex(), "--withdrawal", "2")
    assert "of another account" in rota("bob", "--withdrawal", "1")
    assert "there is none" in rota("bob")
    assert "it exists" in rota(ALICE.hex())


def test_the_proven_leaf_of_an_account_is_read_to_people_and_programs(rota):
    lines = rota(ALICE.hex()).splitlines()
    shown = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in lines}
    assert shown["balance"].startswith("995.00, ")
    assert (shown["margin mode"], shown["position"]) == ("cross", "none")
    assert json.loads(rota(ALICE.hex(), "--json"))["state"] == {
        "quote_microquote": 995_000_000,
        "positions": [],
        "margin_mode": "cross",
        "has_open_orders": False,
        "has_waiting": False,
        "has_sessions": False,
        "owner": None,
        "sub": 0,
        "liquidation": None,
    }
    assert json.loads(rota("bob", "--json"))["state"] is None


def test_positions_of_a_proven_leaf_have_their_names_and_sizes(monkeypatch):
    perpetual = SimpleNamespace(market=1, symbol="X-PERP", lots_per_base=1_000, funding=None)
    genesis = SimpleNamespace(markets=(perpetual,), liquidation=None)
    series = SimpleNamespace(market=2**30, symbol="X-C", lots_per_base=1_000, option=object())
    monkeypatch.setattr(command, "query_at_door", lambda *_: [series])
    value = (5).to_bytes(8, "big") + bytes(32)
    for market, lots in ((1, -250), (2**30, 2_000), (2**30 + 1, 3)):
        value += market.to_bytes(4, "big") + lots.to_bytes(8, "big", signed=True)
    facts, rows = command._read_account(value, genesis, None, None)
    assert [words for name, words in rows if name == "position"] == [
        "X-PERP -0.250",
        f"X-C 2.000 (2000 lots of market {2**30}; the node names it)",
        f"3 lots of market {2**30 + 1}, which is no more",
    ]
    assert [each["symbol"] for each in facts["state"]["positions"]] == ["X-PERP", None, None]
    with pytest.raises(DisprovenError, match="no market"):
        command._read_account(value, SimpleNamespace(markets=(), liquidation=None), None, None)


def test_a_proof_that_does_not_hold_is_a_breach_of_safety(rota, monkeypatch):
    monkeypatch.setattr(command, "withdrawal_key", lambda number: withdrawal_key(number + 1))
    rota(ALICE.hex(), "--withdrawal", "1", exit_code=ExitCode.SAFETY)
