"""Random streams for the engine alone: they find what is planted, and are cut down and repeated."""

import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from engine.genesis import validate_genesis
from localnet.sim.cli import app
from localnet.sim.mutants.plant import Mutant, planted
from localnet.sim.streams.conditions import TEMPERS
from localnet.sim.streams.cut import cut
from localnet.sim.streams.draw import Draw
from localnet.sim.streams.plants import PLANTS, find
from localnet.sim.streams.stream import (
    StreamError,
    cut_blocks,
    decode_stream,
    describe_block,
    encode_stream,
    run_seed,
    run_stream,
)
from localnet.sim.streams_cli import StreamFileError
from node.cli.output import Output
from node.exit_codes import ExitCode

BY_NAME = {plant.name: plant for plant in PLANTS}


def test_streams_of_every_temper_break_nothing_and_reach_the_corners() -> None:
    runs = [run_seed(seed, 60) for seed in range(1, 2 * len(TEMPERS) + 1)]
    assert [run.violation for run in runs] == [None] * len(runs)
    happened = {name for run in runs for name in run.counts}
    assert happened >= {
        "fills",
        "event.ExpiryEvent",
        "event.FundingEvent",
        "event.LiquidationEvent",
        "event.SettlementEvent",
        "event.SessionEvent",
        "event.TransferEvent",
        "event.WakeEvent",
        "event.WithdrawalEvent",
        "receipt.auction.unknown",
        "receipt.session.scope",
    }


def test_a_stream_is_the_same_each_time() -> None:
    assert run_seed(5, 20) == run_seed(5, 20)
    assert Draw(5).genesis != Draw(8).genesis
    for seed in range(30):
        validate_genesis(Draw(seed).genesis)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_planted_fault_of_the_engine_shows_by_its_rule(plant: Mutant) -> None:
    found = find(plant, range(1, 9), 60)
    assert found is not None, plant.rule


def test_a_stream_that_fails_is_cut_down_and_fails_alike_from_its_file() -> None:
    with planted(BY_NAME["volume_leaves_no_mark"]):
        ran = run_seed(1, 60)
        assert ran.stream is not None
        assert ran.violation is not None
        smallest = cut(ran.stream, ran.violation, runs_max=40)
        read = decode_stream(encode_stream(smallest.stream))
        assert read == smallest.stream
        violation, blocks = run_stream(read)
        assert violation == smallest.violation
        assert violation is not None
        assert violation.oracle == "Root"
        assert blocks == len(read.blocks) < len(ran.stream.blocks) // 2
        envelopes = [len(block.envelopes) for block in read.blocks]
        assert sum(envelopes) < sum(len(block.envelopes) for block in ran.stream.blocks) // 2
    assert run_stream(read)[0] is None, "without the fault it passes"
    assert any("OracleReport" in line for block in read.blocks for line in describe_block(block))


def test_the_command_keeps_what_fails_and_repeats_it(tmp_path: Path) -> None:
    arguments = ["engine", "--seeds", "1", "--blocks", "12", "--jobs", "1", "--json"]
    arguments += ["--keep", str(tmp_path / "kept")]
    clean = CliRunner().invoke(app, arguments, obj=Output())
    assert clean.exit_code == ExitCode.OK, clean.output
    assert json.loads(clean.stdout)["blocks"] == 12
    assert not (tmp_path / "kept").exists()
    with planted(BY_NAME["order_by_position"]):
        broken = CliRunner().invoke(app, arguments, obj=Output())
        assert broken.exit_code == ExitCode.NONDETERMINISM, broken.output
        (file,) = json.loads(broken.stdout)["files"]
        again = CliRunner().invoke(app, ["engine", "--replay", file], obj=Output())
        assert again.exit_code == ExitCode.NONDETERMINISM
        assert "the order of the envelopes decides" in again.stdout
    mended = CliRunner().invoke(app, ["engine", "--replay", file, "--json"], obj=Output())
    assert mended.exit_code == ExitCode.OK
    assert json.loads(mended.stdout)["violation"] is None


def test_a_file_that_is_no_stream_is_refused(tmp_path: Path) -> None:
    with planted(BY_NAME["order_by_position"]):
        stream = run_seed(1, 30).stream
    assert stream is not None
    blocks = list(stream.blocks)
    later_first = cut_blocks(stream, [replace(blocks[0], time_ms=2**62), *blocks])
    repeated = cut_blocks(stream, [*blocks, blocks[-1]])
    gap = replace(stream, blocks=stream.blocks[1:])
    twice = replace(blocks[0], reporters=blocks[0].reporters[:1] * 2)
    for broken in (later_first, repeated, gap, cut_blocks(stream, [twice])):
        with pytest.raises(StreamError):
            decode_stream(encode_stream(broken))
    markets = stream.genesis.markets
    twins = replace(stream, genesis=replace(stream.genesis, markets=markets[:1] * 2))
    for data in (b"", b"{}", b"\xff", b"[" * 100_000, msgspec.json.encode(twins)):
        with pytest.raises(StreamError):
            decode_stream(data)
        path = tmp_path / "stream.json"
        path.write_bytes(data)
        result = CliRunner().invoke(app, ["engine", "--replay", str(path)], obj=Output())
        assert isinstance(result.exception, StreamFileError)
