"""`rota bench`: measure this machine, and say what was measured."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import msgspec
import trio
import typer
from msgspec import Struct

from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from localnet.bench import latency as latency_bench
from localnet.bench import ordering as ordering_bench
from localnet.bench import orders as orders_bench
from localnet.bench.book import MESSAGES_DEFAULT
from localnet.bench.ceremonies import (
    MEMBERS_DEFAULT,
    MEMBERS_MAX,
    MEMBERS_MIN,
    measure_ceremonies,
)
from localnet.bench.cluster import BenchCluster, open_cluster
from localnet.bench.describe import describe_machine_line, describe_result
from localnet.bench.engine import EngineResult, measure_engine
from localnet.bench.errors import BenchError
from localnet.bench.fairness import SEED_DEFAULT, TRIALS_DEFAULT, measure_fairness
from localnet.bench.latency import LatencyResult
from localnet.bench.ordering import OrderingResult
from localnet.bench.orders import OrdersResult
from localnet.bench.sealing import BODIES_DEFAULT, BODIES_MAX, measure_sealing
from localnet.bench.workload import WorkloadConfig
from localnet.machine import describe_machine
from localnet.markets import ACCOUNTS, AccountPlan
from localnet.network import NODES_DEFAULT, NODES_MAX, NODES_MIN
from node.cli.output import JsonOption, Output, command_group, current_output
from node.client_stream import DoorError
from node.exit_codes import OperatorError
from node.groups import walk_leaves

R = TypeVar("R", bound=Struct)

SECONDS_DEFAULT: Final = 20.0
ENGINE_SECONDS_DEFAULT: Final = 10.0
PER_BUNDLE_DEFAULT: Final = 20

app = command_group(
    "Measure what this machine does; every node runs on it.",
    "rota bench all",
    "rota bench latency --seconds 30 --json",
)

SecondsOption = Annotated[
    float, typer.Option("--seconds", min=0.5, max=3_600, help="Length of the measurement.")
]
NodesOption = Annotated[
    int, typer.Option("--nodes", "-n", min=NODES_MIN, max=NODES_MAX, help="Node processes.")
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        exists=True,
        file_okay=False,
        help="Where to make the folder of the nodes [default: the system's temporary folder].",
        show_default=False,
    ),
]
KeepOption = Annotated[bool, typer.Option("--keep", help="Leave the folder of the nodes there.")]
PerBundleOption = Annotated[
    int,
    typer.Option(
        "--per-bundle",
        min=1,
        max=INSTRUCTIONS_PER_BUNDLE_MAX,
        help="Instructions in one bundle.",
    ),
]


BookMessagesOption = Annotated[
    int,
    typer.Option(
        "--book-messages",
        min=1_000,
        max=20_000_000,
        help="Messages that the order book alone takes.",
    ),
]


class _Cluster(Struct, frozen=True):
    """How the node processes of a benchmark are to be run."""

    nodes: int
    directory: Path | None
    keep: bool


@app.command()
def ordering(
    context: typer.Context,
    seconds: SecondsOption = SECONDS_DEFAULT,
    nodes: NodesOption = NODES_DEFAULT,
    directory: DirOption = None,
    keep: KeepOption = False,
    json: JsonOption = False,
) -> None:
    """Measure how many opaque 512-byte transactions a second all nodes order and hold.

    \b
    Example:
      rota bench ordering --seconds 30
    """
    output = current_output(context)
    result = _run_ordering(output, _Cluster(nodes, directory, keep), seconds)
    _print(output, {"ordering": result})


@app.command()
def orders(
    context: typer.Context,
    seconds: SecondsOption = SECONDS_DEFAULT,
    nodes: NodesOption = NODES_DEFAULT,
    directory: DirOption = None,
    keep: KeepOption = False,
    json: JsonOption = False,
) -> None:
    """Measure how many signed instructions a second all nodes execute and certify.

    \b
    Example:
      rota bench orders --json
    """
    output = current_output(context)
    result = _run_orders(output, _Cluster(nodes, directory, keep), seconds)
    _print(output, {"orders": result})


@app.command()
def latency(
    context: typer.Context,
    seconds: SecondsOption = SECONDS_DEFAULT,
    nodes: NodesOption = NODES_DEFAULT,
    directory: DirOption = None,
    keep: KeepOption = False,
    json: JsonOption = False,
) -> None:
    """Measure how long an order takes to its commit and to its certified result, at light load.

    \b
    Example:
      rota bench latency
    """
    output = current_output(context)
    result = _run_latency(output, _Cluster(nodes, directory, keep), seconds)
    _print(output, {"latency": result})


@app.command()
def engine(
    context: typer.Context,
    seconds: SecondsOption = ENGINE_SECONDS_DEFAULT,
    per_bundle: PerBundleOption = PER_BUNDLE_DEFAULT,
    book_messages: BookMessagesOption = MESSAGES_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Measure the matching and margin engine alone, in one process: with and without state roots,
    out of a log, its order book alone, and the memory of accounts and orders.

    \b
    Example:
      rota bench engine --per-bundle 1
    """
    output = current_output(context)
    _print(output, {"engine": _run_engine(output, seconds, per_bundle, book_messages)})


@app.command()
def fairness(
    context: typer.Context,
    trials: Annotated[
        int, typer.Option("--trials", min=2, max=100_000, help="Blocks with news to play.")
    ] = TRIALS_DEFAULT,
    seed: Annotated[
        int, typer.Option("--seed", min=0, max=2**63 - 1, help="Of everything that is drawn.")
    ] = SEED_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Measure what a proposer gains by omitting or delaying envelopes, and a trader by splitting
    over accounts, where takers trade in turns and where they trade in auctions.

    \b
    Example:
      rota bench fairness --trials 1000
    """
    output = current_output(context)
    output.note(f"playing {trials:,} trials of seed {seed} in each way, in both modes")
    _print(output, {"fairness": measure_fairness(seed, trials)})


@app.command()
def keys(
    context: typer.Context,
    members: Annotated[
        list[int] | None,
        typer.Option(
            "--members",
            min=MEMBERS_MIN,
            max=MEMBERS_MAX,
            help="Members of a ceremony; may be given several times [default: 4, 7, 16, 32].",
            show_default=False,
        ),
    ] = None,
    bodies: Annotated[
        int,
        typer.Option("--bodies", min=1, max=BODIES_MAX, help="Sealed bodies of one block."),
    ] = BODIES_DEFAULT,
    json: JsonOption = False,
) -> None:
    """Measure the committee's keys in one process: what sealing, checking and opening cost a body,
    and what key ceremonies cost and come to where members lie.

    \b
    Example:
      rota bench keys --members 4 --members 64
    """
    output = current_output(context)
    results: dict[str, Struct] = {
        "sealing": measure_sealing(bodies, output.note),
        "ceremonies": measure_ceremonies(members or MEMBERS_DEFAULT, output.note),
    }
    _print(output, results)


@app.command("all")
def run_all(
    context: typer.Context,
    seconds: SecondsOption = SECONDS_DEFAULT,
    nodes: NodesOption = NODES_DEFAULT,
    directory: DirOption = None,
    keep: KeepOption = False,
    json: JsonOption = False,
) -> None:
    """Measure speed in every way, one after the other: all but fairness.

    \b
    Example:
      rota bench all --json > bench.json
    """
    output = current_output(context)
    cluster = _Cluster(nodes, directory, keep)
    results: dict[str, Struct] = {
        "engine": _run_engine(output, seconds, PER_BUNDLE_DEFAULT, MESSAGES_DEFAULT),
        "latency": _run_latency(output, cluster, seconds),
        "orders": _run_orders(output, cluster, seconds),
        "ordering": _run_ordering(output, cluster, seconds),
    }
    _print(output, results)


# ---- running ---------------------------------------------------------------------------------


def _run_ordering(output: Output, cluster: _Cluster, seconds: float) -> OrderingResult:
    return _run_on_cluster(
        output,
        cluster,
        lambda running: ordering_bench.measure_ordering(running, seconds=seconds, note=output.note),
    )


def _run_orders(output: Output, cluster: _Cluster, seconds: float) -> OrdersResult:
    return _run_on_cluster(
        output,
        cluster,
        lambda running: orders_bench.measure_orders(running, seconds=seconds, note=output.note),
        accounts=orders_bench.ACCOUNTS,
    )


def _run_latency(output: Output, cluster: _Cluster, seconds: float) -> LatencyResult:
    return _run_on_cluster(
        output,
        cluster,
        lambda running: latency_bench.measure_latency(running, seconds=seconds, note=output.note),
    )


def _run_engine(
    output: Output, seconds: float, per_bundle: int, book_messages: int
) -> EngineResult:
    output.note(
        f"running the engine for 2 x {seconds:g} s, without and with roots, the latter again out "
        f"of its log, then its book with {book_messages:,} messages"
    )
    config = WorkloadConfig(instructions_per_bundle=per_bundle)
    return measure_engine(seconds, config, book_messages)


def _run_on_cluster(
    output: Output,
    cluster: _Cluster,
    measure: Callable[[BenchCluster], Awaitable[R]],
    *,
    accounts: Sequence[AccountPlan] = ACCOUNTS,
) -> R:
    async def main() -> R:
        async with open_cluster(
            nodes=cluster.nodes,
            note=output.note,
            accounts=accounts,
            directory=cluster.directory,
            keep=cluster.keep,
        ) as running:
            return await measure(running)

    try:
        return trio.run(main)
    except (BaseExceptionGroup, DoorError) as error:
        # Nothing stays here: this always raises.
        raise_operator_error(error)


def raise_operator_error(error: BaseException) -> NoReturn:
    """Raise what an operator can mend out of a group; anything else is raised as it is."""
    found = list(walk_leaves(error))
    for each in found:
        if isinstance(each, OperatorError):
            raise each
    for each in found:
        if isinstance(each, DoorError):
            raise BenchError(
                f"a node's door failed: {each}",
                advice="run again with --keep and look into the nodes' logs",
            ) from error
    raise error


# ---- showing ---------------------------------------------------------------------------------


def _print(output: Output, results: dict[str, Any]) -> None:
    """Show results by name. As JSON: one result's own keys beside `machine`, several under
    `results`."""
    machine = describe_machine()
    plain = msgspec.to_builtins(results)
    own = next(iter(plain.values())) if len(plain) == 1 else {"results": plain}
    lines: list[object] = []
    for name, result in results.items():
        lines.append("")
        lines.extend(describe_result(name, result))
    output.data(
        {"machine": msgspec.to_builtins(machine), **own},
        describe_machine_line(machine),
        *lines,
    )
