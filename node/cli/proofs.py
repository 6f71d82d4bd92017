"""`rota account prove`: what the certified state says of an account or of a withdrawal."""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final

import trio
import typer

from crypto.bls import BLS
from engine.accounts.sub_accounts import compute_account_id
from engine.accounts.withdrawals import decode_withdrawal
from engine.commitment.leaves import LeafPosition, decode_account
from engine.commitment.root import account_key, withdrawal_key
from engine.errors import ProofError
from engine.genesis import EngineGenesis
from engine.limits import SEQUENCE_MAX
from node.cli.amounts import format_fraction, format_quote, format_size
from node.cli.output import JsonOption, current_output, record, to_plain
from node.cli.solvency import load_chain
from node.cli.target import (
    ACCOUNT_DEFAULT,
    DIR_DEFAULT,
    WAIT_DEFAULT_S,
    DirOption,
    GenesisOption,
    NodeOption,
    SubOption,
    WaitOption,
    account_id,
    advise_to_open,
    query_at_door,
)
from node.cli.views import MarketInfo, query_markets, read_view
from node.client import DoorClient
from node.client_stream import DoorError
from node.exit_codes import ExitCode, OperatorError
from node.leaf_proofs import DisprovenError, LeafAnswer, verify_leaf

POLL_S: Final = 0.1
"""Between two looks whether a height is certified by now."""

CERTIFICATE_POLLS_MAX: Final = 50
"""Looks at one height, before a newer state is proven: not every height is certified by itself."""


WithdrawalOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=SEQUENCE_MAX,
        help="A pending withdrawal of it, by number, instead of the account.",
        show_default=False,
    ),
]


class UncertifiedError(OperatorError):
    """No state was certified in time."""

    code = "proof.uncertified"
    exit_code = ExitCode.TIMED_OUT


def prove(
    context: typer.Context,
    account: Annotated[
        str, typer.Argument(help="Name in the localnet, or the account's id.")
    ] = ACCOUNT_DEFAULT,
    sub: SubOption = 0,
    withdrawal: WithdrawalOption = None,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    genesis: GenesisOption = None,
    timeout_s: WaitOption = WAIT_DEFAULT_S,
    json: JsonOption = False,
) -> None:
    """Prove what the state says of an account, or of one of its pending withdrawals.

    A node shows the leaf and its path to the root of its newest state, and the certificate of that
    root; both are checked here, against the keys in genesis.json alone. A withdrawal that is proven
    to be absent was settled on L1, or never requested. What the leaf of an account says is read out
    of it here: balance, positions, margin mode. Only the names of options are the node's. With
    --json the proof comes with it, to be checked again by others. Exit code 20 if a proof does not
    hold.

    \b
    Examples:
      rota account prove alice
      rota account prove alice --withdrawal 1 --json
    """
    chain = load_chain(directory, genesis)
    owner = account_id(directory, account)
    identifier = compute_account_id(owner, sub)
    question, key = _choose_leaf(identifier, withdrawal)
    answer, certificate = query_at_door(
        directory, node, lambda client: _ask_in_time(client, question, timeout_s)
    )
    committee = chain.committee()
    proven = verify_leaf(
        key, answer, certificate, chain_id=chain.chain_id(), committee=committee, scheme=BLS
    )
    names = [committee.members[each].name for each in proven.signers]
    if withdrawal is None:
        facts, told = _read_account(proven.value, chain.engine, directory, node)
    else:
        facts, told = _read_withdrawal(proven.value, identifier, withdrawal)
    document: dict[str, Any] = {
        "account": identifier,
        "withdrawal_id": withdrawal,
        "height": proven.height,
        "market_root": proven.market_root,
        "is_present": proven.value is not None,
        "key": key,
        "value": proven.value,
        "proof": answer.proof,
        "certificate": certificate,
        "certified_by": names,
    }
    rows = [
        ("account", identifier.hex()),
        *told,
        ("height", proven.height),
        ("market root", proven.market_root.hex()),
        ("certified by", ", ".join(names)),
    ]
    output = current_output(context)
    output.data(document | facts, record(rows))
    if sub and proven.value is None and withdrawal is None:
        output.note(advise_to_open(directory, sub, account))


def _choose_leaf(identifier: bytes, withdrawal: int | None) -> tuple[tuple[object, ...], bytes]:
    """What to ask a node for, and the key of the leaf in the state's tree."""
    if withdrawal is None:
        return ("account", identifier), account_key(identifier)
    return ("withdrawal", withdrawal), withdrawal_key(withdrawal)


def _read_account(
    value: bytes | None, genesis: EngineGenesis, directory: Path, node: str | None
) -> tuple[dict[str, Any], list[tuple[str, object]]]:
    """What the leaf says, for programs and for people. Raises `DisprovenError` if it is none of
    this chain's, and, for the names of options, what `query_at_door` does."""
    if value is None:
        return {"state": None}, [("proven", "there is none")]
    try:
        leaf = decode_account(value, genesis)
    except ProofError as error:
        raise DisprovenError(
            f"the leaf cannot be read: {error.code}: {error}",
            advice="use the version of Rota that the chain's nodes run",
        ) from error
    balance = format_quote(leaf.quote_microquote)
    rows: list[tuple[str, object]] = [
        ("proven", "it exists, with this leaf"),
        ("balance", f"{balance}, funding that is not settled yet not counted"),
        ("margin mode", leaf.margin_mode.name.lower()),
    ]
    if leaf.owner is not None:
        rows.append(("owner", f"{leaf.owner.hex()}, sub-account {leaf.sub}"))
    if leaf.liquidation is not None:
        rows.append(("liquidation", leaf.liquidation.name.lower()))
    others = {
        "open orders": leaf.has_open_orders,
        "waiting orders or a dead man's switch": leaf.has_waiting,
        "session keys": leaf.has_sessions,
    }
    rows.append(("has", ", ".join(name for name, has in others.items() if has) or "no orders"))
    positions = _read_positions(leaf.positions, genesis, directory, node)
    rows += [("position", words) for words, _ in positions]
    rows += [] if positions else [("position", "none")]
    rows.append(("leaf", value.hex()))
    documents = [document for _, document in positions]
    return {"state": {**to_plain(leaf), "positions": documents}}, rows


def _read_positions(
    positions: tuple[LeafPosition, ...],
    genesis: EngineGenesis,
    directory: Path,
    node: str | None,
) -> list[tuple[str, dict[str, Any]]]:
    """Words for each position, and its document. Only options are named by a node, which
    `query_at_door` asks if there is one."""
    symbols = {each.market: each for each in genesis.markets}
    series: dict[int, MarketInfo] = {}
    if any(each.market not in symbols for each in positions):
        markets = query_at_door(directory, node, query_markets)
        series = {each.market: each for each in markets if each.option is not None}
    read = []
    for each in positions:
        symbol = None
        if each.market in symbols:
            market = symbols[each.market]
            symbol = market.symbol
            size = Fraction(each.size_lots, market.lots_per_base)
            words = f"{symbol} {format_fraction(size, Fraction(1, market.lots_per_base))}"
        elif each.market in series:
            option = series[each.market]
            words = f"{option.symbol} {format_size(each.size_lots, option)}"
            words += f" ({each.size_lots} lots of market {each.market}; the node names it)"
        else:
            words = f"{each.size_lots} lots of market {each.market}, which is no more"
        read.append((words, {"symbol": symbol, **to_plain(each)}))
    return read


def _read_withdrawal(
    value: bytes | None, identifier: bytes, number: int
) -> tuple[dict[str, Any], list[tuple[str, object]]]:
    """What the leaf of a withdrawal says, for programs and for people."""
    about = ("withdrawal", number)
    if value is None:
        words = "it is not pending: settled on L1, or never requested"
        return {}, [about, ("proven", words)]
    owner, destination, amount, height = decode_withdrawal(value)
    if owner != identifier:
        return {}, [about, ("proven", f"it is pending, of another account: {owner.hex()}")]
    facts = {
        "destination": destination,
        "amount_microquote": amount,
        "requested_height": height,
    }
    words = f"{format_quote(amount)} to 0x{destination.hex()}, requested at height {height}"
    return facts, [about, ("proven", f"it is pending: {words}")]


async def _ask_in_time(
    client: DoorClient, question: tuple[object, ...], timeout_s: float
) -> tuple[LeafAnswer, bytes]:
    with trio.move_on_after(timeout_s):
        return await _ask(client, question)
    raise UncertifiedError(
        f"no state was certified within {timeout_s:g} s",
        advice="ask again, or another node with --node",
    )


async def _ask(client: DoorClient, question: tuple[object, ...]) -> tuple[LeafAnswer, bytes]:
    """A proof with the certificate of its state. Raises `DoorError` and `DisprovenError`."""
    while True:
        answer = read_view(LeafAnswer, await client.query("proof", *question), "proof")
        for _ in range(CERTIFICATE_POLLS_MAX):
            try:
                found = read_view(
                    dict[str, Any], await client.query("certificate", answer.height), "certificate"
                )
            except DoorError as error:
                if error.code not in ("checkpoint.unknown", "query.malformed"):
                    raise
                found = {}
            encoded = found.get("encoded")
            if isinstance(encoded, bytes):
                return answer, encoded
            if not found and await _is_passed(client, answer.height):
                break
            await trio.sleep(POLL_S)


async def _is_passed(client: DoorClient, height: int) -> bool:
    """Is a later height certified? Then this one is no checkpoint."""
    status = read_view(dict[str, Any], await client.query("status"), "status")
    certified = status.get("certified_height")
    if not isinstance(certified, int):
        raise DisprovenError("the node tells no certified height", advice="ask another node")
    return certified > height
