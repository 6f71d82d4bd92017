"""`rota account solvency`: is everything that the exchange owes covered, my account included?"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from crypto.bls import BLS
from engine.accounts.sub_accounts import compute_account_id
from engine.commitment.solvency import SolvencyStatement, compute_statement_digest, encode_statement
from node.cli.amounts import format_quote
from node.cli.output import JsonOption, current_output, record
from node.cli.target import (
    ACCOUNT_DEFAULT,
    DIR_DEFAULT,
    DirOption,
    GenesisOption,
    NodeOption,
    SubOption,
    account_id,
    explaining_sub_account,
    find_doors,
    query_at_door,
)
from node.cli.views import read_view
from node.client import DoorClient, run_with_door
from node.client_stream import DoorError
from node.config import Endpoint
from node.exit_codes import ExitCode
from node.genesis import Genesis
from node.home import read_genesis
from node.network import is_network, load_network
from node.solvency import RefutedError, SolvencyAnswer, SolvencyVerdict, verify_solvency


def solvency(
    context: typer.Context,
    account: Annotated[
        str,
        typer.Argument(
            help="Name in the localnet, or the account's id; of one there its first digits do."
        ),
    ] = ACCOUNT_DEFAULT,
    sub: SubOption = 0,
    directory: DirOption = DIR_DEFAULT,
    node: NodeOption = None,
    genesis: GenesisOption = None,
    json: JsonOption = False,
) -> None:
    """Prove that what an account is owed is part of the exchange's liabilities, and that these are
    covered by the collateral.

    A node states them about the newest state that it saved (each minute) and shows the proofs;
    everything is checked here, against the keys in genesis.json alone: that a quorum of the
    committee certified the state, that collateral and insurance are that state's, that the sums add
    up, and that the account's equity at mark is part of the total. Then the other nodes of the
    localnet are asked whether they state the same. Exit code 20 if something does not hold or a
    node states otherwise.

    \b
    Examples:
      rota account solvency alice
      rota account solvency bob --sub 1 --json
    """
    chain = load_chain(directory, genesis)
    owner = account_id(directory, account)
    identifier = compute_account_id(owner, sub)

    async def ask(client: DoorClient) -> Any:
        return await client.query("solvency", identifier)

    with explaining_sub_account(directory, sub, account):
        answer = read_view(SolvencyAnswer, query_at_door(directory, node, ask), "solvency")
    verdict = verify_solvency(
        answer,
        identifier,
        chain_id=chain.chain_id(),
        committee=chain.committee(),
        scheme=BLS,
    )
    agreement = _compare_nodes(directory, verdict.statement)
    document = _describe(identifier, verdict, chain, agreement)
    current_output(context).data(document, record(_rows(document, verdict, agreement)))
    different = sorted(name for name, said in agreement.items() if said == "different")
    if different:
        raise RefutedError(
            f"{', '.join(different)} states otherwise about height {verdict.statement.height}",
            advice="keep both answers (--node, --json): honest members state the same",
            code="solvency.different",
            exit_code=ExitCode.SAFETY,
        )


def load_chain(directory: Path, genesis: Path | None) -> Genesis:
    """The genesis that answers are checked against: the one named, or the localnet's."""
    return load_network(directory).genesis() if genesis is None else read_genesis(genesis)


def _compare_nodes(directory: Path, statement: SolvencyStatement) -> dict[str, str]:
    """What each node of the localnet states about the same height: `same`, `different` or
    `no answer`. None outside of a localnet."""
    if not is_network(directory):
        return {}
    return {
        each.name: _compare(find_doors(directory, each.name)[0], statement)
        for each in load_network(directory).nodes
    }


def _compare(door: Endpoint, statement: SolvencyStatement) -> str:
    async def ask(client: DoorClient) -> SolvencyAnswer:
        answer = await client.query("solvency", None, statement.height)
        return read_view(SolvencyAnswer, answer, "solvency")

    try:
        other = run_with_door(door.host, door.port, ask)
    except DoorError:
        # It is down, or did not save at that height: neither says anything against the statement.
        return "no answer"
    return "same" if other.statement == encode_statement(statement) else "different"


def _describe(
    identifier: bytes, verdict: SolvencyVerdict, chain: Genesis, agreement: dict[str, str]
) -> dict[str, Any]:
    statement, committee = verdict.statement, chain.committee()
    return {
        "account": identifier,
        "owed_microquote": verdict.owed_microquote,
        "height": statement.height,
        "market_root": statement.state_root,
        "accounts": statement.accounts,
        "liabilities_microquote": statement.liabilities_microquote,
        "deficit_microquote": statement.deficit_microquote,
        "insurance_microquote": statement.insurance_microquote,
        "reserved_microquote": statement.reserved_microquote,
        "held_microquote": statement.held_microquote,
        "is_covered": statement.is_covered,
        "sum_root": statement.sum_root,
        "statement_digest": compute_statement_digest(statement),
        "certified_by": [committee.members[each].name for each in verdict.signers],
        "power": verdict.power,
        "quorum_power": committee.quorum_power,
        "nodes": agreement,
    }


def _rows(
    document: dict[str, Any], verdict: SolvencyVerdict, agreement: dict[str, str]
) -> Iterator[tuple[str, object]]:
    statement = verdict.statement
    owed = verdict.owed_microquote or 0
    yield "account", document["account"].hex()
    yield "owed to it", f"{format_quote(owed)}, proven to be part of the liabilities"
    yield "liabilities", f"{format_quote(statement.liabilities_microquote)} to {statement.accounts}"
    yield "deficit", format_quote(statement.deficit_microquote)
    yield "insurance", format_quote(statement.insurance_microquote)
    yield "reserved", f"{format_quote(statement.reserved_microquote)} (fees, pending withdrawals)"
    yield "collateral held", format_quote(statement.held_microquote)
    yield "covered", "yes" if statement.is_covered else "NO: the insurance is below the deficit"
    names = ", ".join(document["certified_by"])
    powers = f"power {document['power']}, a quorum has {document['quorum_power']}"
    yield "state", f"height {statement.height}, certified by {names} ({powers})"
    yield "market root", statement.state_root.hex()
    yield "statement", document["statement_digest"].hex()
    for name, said in agreement.items():
        yield name, {"same": "states the same"}.get(said, said)
