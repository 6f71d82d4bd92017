"""Benchmarks: exact percentiles, counting, and failing loudly when nothing moves."""

import json
import os

import msgspec
import pytest
import trio

from engine.instructions import Cancel, CancelAll, MarketOrder, PlaceOrder
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from localnet.bench.book import BLOCK_MESSAGES, make_blocks, make_player
from localnet.bench.cli import raise_operator_error
from localnet.bench.cluster import compute_cpu_use
from localnet.bench.describe import describe_machine_line, describe_result
from localnet.bench.engine import Goal, find_build, measure_engine
from localnet.bench.errors import BenchError, IdleChainError
from localnet.bench.latency import validate_answered
from localnet.bench.load import BUNDLE_INSTRUCTIONS, make_bundle
from localnet.bench.memory import measure_memory
from localnet.bench.observer import Counts, Observer, Window, apply_event, validate_busy
from localnet.bench.stages import flatten_numbers, subtract_stages
from localnet.bench.workload import WorkloadConfig
from localnet.machine import ProcessCpu, describe_machine, read_descendants
from localnet.splitmix import SplitMix
from node.cli.main import run
from node.client_stream import DoorError
from node.exit_codes import ExitCode
from node.protocol import BlockEvent, DeliveredEvent, ExecutedEvent

BLOCK = BlockEvent(1, 0, 7, 9, bytes(32), 0, 0, 3)
DELIVERED = DeliveredEvent(1, 1, 7, 5, 1, {1: 512, 2: 8})
EXECUTED = ExecutedEvent(1, 2, 7, bytes(32), 40, 6)


def test_events_are_counted():
    counts = Counts()
    for event in (BLOCK, DELIVERED, EXECUTED, BLOCK):
        apply_event(counts, event)
    assert counts == Counts(2, 6, 520, 5, 1, 40, 6)
    assert counts.since(Counts(1, 1, 1, 1, 1, 1, 1)) == Counts(1, 5, 519, 4, 0, 39, 5)


def test_a_rate_is_that_of_the_slowest_node():
    window = Window(2.0, {"node0": Counts(opaque=1_000), "node1": Counts(opaque=400)})
    assert window.least("opaque") == 400
    assert window.least_per_s("opaque") == 200.0


def test_one_idle_node_fails_the_benchmark():
    window = Window(2.0, {"node0": Counts(opaque=1_000), "node1": Counts(blocks=5)})
    validate_busy(Window(2.0, {"node0": Counts(opaque=1)}), "opaque")
    with pytest.raises(IdleChainError, match="node1 announced no opaque") as caught:
        validate_busy(window, "opaque")
    assert caught.value.exit_code is ExitCode.LIVENESS
    assert caught.value.exit_code == 21


async def test_measuring_a_chain_without_blocks_fails(autojump_clock):
    class Nothing:
        nodes = ()

    observer = Observer(Nothing())
    observer.counts = {"node0": Counts(blocks=3)}
    with pytest.raises(IdleChainError):
        await observer.measure(5)
    async with trio.open_nursery() as nursery:

        async def commit() -> None:
            await trio.sleep(1)
            apply_event(observer.counts["node0"], BLOCK)

        nursery.start_soon(commit)
        window = await observer.measure(5)
    assert window.nodes["node0"] == Counts(blocks=1, lane_tips=3)
    assert window.elapsed_s == 5.0


def test_an_order_without_result_is_an_idle_chain_and_a_refused_one_a_failure():
    validate_answered(True, None)
    with pytest.raises(IdleChainError):
        validate_answered(False, None)
    with pytest.raises(BenchError, match=r"fee\.insufficient"):
        validate_answered(True, "fee.insufficient")


def test_the_cause_is_found_in_nested_groups():
    idle = IdleChainError("idle", advice="none")
    with pytest.raises(IdleChainError):
        raise_operator_error(ExceptionGroup("a", [ExceptionGroup("b", [ValueError(), idle])]))
    with pytest.raises(BenchError, match="door"):
        raise_operator_error(ExceptionGroup("a", [DoorError("door.closed", "gone")]))
    with pytest.raises(ExceptionGroup):
        raise_operator_error(ExceptionGroup("a", [ValueError()]))


def test_bundles_have_twenty_instructions_and_cancel_what_an_earlier_one_placed():
    random = SplitMix(1)
    markets = [(1, 600_000), (2, 300_000)]
    bundles = [make_bundle(random, markets, number) for number in range(20)]
    placed: list[set[int]] = []
    for number, bundle in enumerate(bundles):
        assert len(bundle) == BUNDLE_INSTRUCTIONS
        placed.append({each.client_id for each in bundle if isinstance(each, PlaceOrder)})
        assert len(placed[-1]) == 12
        assert sum(isinstance(each, MarketOrder) for each in bundle) == 1
        cancelled = {each.client_id for each in bundle if isinstance(each, Cancel)}
        if number >= 2:
            assert cancelled <= placed[number - 2]
            assert len(cancelled) == 7 - (number % 8 == 0)
        else:
            assert all(isinstance(each, CancelAll) for each in bundle[:7])
    assert len(set.union(*placed)) == 20 * 12


def test_cpu_time_is_summed_by_kind_and_new_processes_count_from_zero():
    def process(pid, cpu_s):
        return ProcessCpu(pid, 1, "x", cpu_s)

    before = {1: ("node", process(1, 1.0)), 2: ("node", process(2, 2.0))}
    after = {
        1: ("node", process(1, 3.0)),
        2: ("node", process(2, 3.0)),
        3: ("load", process(3, 4.0)),
    }
    uses = compute_cpu_use(before, after, 2.0)
    assert [(use.name, use.processes, use.cpu_s, use.share) for use in uses] == [
        ("load", 1, 4.0, 2.0),
        ("node", 2, 3.0, 1.5),
    ]


def test_this_process_has_used_cpu_time():
    seen = read_descendants([os.getpid()])
    assert seen[os.getpid()].cpu_s > 0
    assert read_descendants([2**22 + 1]) == {}
    machine = describe_machine()
    assert machine.cores >= 1
    assert len(machine.load) == 3
    assert f"load {machine.load[0]:g}" in describe_machine_line(machine)
    assert machine.python in describe_machine_line(machine)


def test_counters_of_a_status_are_flattened_and_subtracted():
    status = {"view": 7, "up": True, "name": "node0", "lanes": {"batches": 3, "deep": {"x": 1.5}}}
    flat = flatten_numbers(status)
    assert flat == {"view": 7, "lanes.batches": 3, "lanes.deep.x": 1.5}
    later = {"node0": {**flat, "view": 9, "new": 4}}
    assert subtract_stages({"node0": flat}, later) == {"node0": {"view": 2}}


def test_the_engine_benchmark_runs_and_describes_itself():
    config = WorkloadConfig(markets=2, accounts=100, positions_per_account=2)
    result = measure_engine(0.05, config, 2_000)
    assert result.instructions_per_s > 0
    assert result.with_root_per_s > 0
    assert result.without_root.fills > 0
    assert result.replay.instructions > result.with_root.instructions
    assert result.replay_s_per_million == result.replay.s_per_million > 0
    assert result.book.messages == 2_000
    assert result.book_messages_per_s == result.book.messages_per_s > 0
    run = result.portfolio
    assert (run.instruments, run.scenarios, run.positions) == (200, 23, 20)
    assert result.portfolio_arrays_ms == run.arrays_ms > 0
    assert result.portfolio_margin_us == run.margin_us > 0
    assert result.build == find_build() in ("pure", "compiled")
    lines = describe_result("engine", result)
    assert lines[1] in ("targets met", "targets NOT met")
    assert 0 < result.core_share < 1.1
    idle, busy = (msgspec.structs.replace(result, core_share=share) for share in (0.99, 0.27))
    assert len(describe_result("engine", idle)) == 2
    assert "this process had 27 % of a core" in describe_result("engine", busy)[-1]


def test_a_rate_is_to_be_at_least_its_target_and_a_time_at_most():
    rate = [Goal("per second", measured, 10, True).is_met for measured in (9, 10, 11)]
    time = [Goal("seconds", measured, 10, False).is_met for measured in (9, 10, 11)]
    assert rate == [False, True, True]
    assert time == [True, True, False]


def test_the_stream_for_the_book_is_the_same_every_time_and_has_its_shares():
    blocks = make_blocks(20_500)
    assert blocks == make_blocks(20_500)
    assert [len(ids) for ids, _, _ in blocks] == [BLOCK_MESSAGES] * 20 + [500]
    messages = [message for block in blocks for message in zip(*block, strict=True)]
    cancels = [order_id for order_id, _, lots in messages if lots == 0]
    placed = [order_id for order_id, _, lots in messages if lots]
    assert len(set(placed)) == len(placed)
    assert set(cancels) <= set(placed)
    assert len(cancels) == pytest.approx(0.35 * len(messages), rel=0.1)


def test_the_book_alone_rests_cancels_and_fills_what_the_stream_says():
    player = make_player()
    for block in make_blocks(20_000):
        player.play(block)
        assert not player.book.is_crossed()
        assert player.book.order_count == len(player.orders)
    open_lots = sum(order.lots for order in player.orders.values())
    sides = (player.book.bids, player.book.asks)
    assert open_lots == sum(level.lots for side in sides for level in side.levels.values())
    # One message in twenty takes, several orders each; nearly every cancel finds its order.
    assert player.fills > 20_000 // 20
    assert player.cancelled > 0.95 * 0.33 * 20_000


def test_memory_is_weighed_for_accounts_and_for_orders():
    config = WorkloadConfig(markets=2, accounts=300, positions_per_account=2)
    use = measure_memory(config)
    assert (use.accounts, use.resting_orders) == (300, 2_000)
    assert 300 < use.bytes_per_resting_order < use.bytes_per_account < 20_000


def test_the_command_prints_one_json_document(capsys):
    code = run(["bench", "engine", "--seconds", "0.5", "--book-messages", "5000", "--json"])
    assert code == 0
    document = json.loads(capsys.readouterr().out)
    assert document["machine"]["cores"] >= 1
    assert document["instructions_per_s"] > 0
    assert document["with_root_per_s"] > 0
    assert document["replay_s_per_million"] > 0
    assert document["book_messages_per_s"] > 0
    assert document["portfolio_arrays_ms"] > 0
    assert document["portfolio_margin_us"] > 0
    assert document["build"] in ("pure", "compiled")
    assert document["bytes_per_account"] > document["bytes_per_resting_order"] > 0


def test_a_bundle_larger_than_the_engine_takes_is_refused_in_one_line(capsys):
    words = ["bench", "engine", "--seconds", "0.5", "--per-bundle"]
    code = run([*words, str(INSTRUCTIONS_PER_BUNDLE_MAX + 1)])
    assert code == ExitCode.USAGE
    assert f"not at most {INSTRUCTIONS_PER_BUNDLE_MAX}" in capsys.readouterr().err
