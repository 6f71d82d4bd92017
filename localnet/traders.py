"""Demo traders: `python -m localnet.traders --dir DIR --seed S [--tape FILE --speed X]`.

They bring a localnet to life and are its load in tests:

- *reporters*, one for each member: sign oracle reports with that member's oracle key and hand them
  to that member's own node;
- *makers*: keep quotes on several levels of every market, replaced by one signed bundle each;
- *takers*: trade now and then against the quotes, or, in the first market, replay a tape.

Prices follow seeded paths (`localnet.price_path`), or the tape in the market that replays it. Every
trade of the tape becomes one taker order with the tape's side and size (rounded to lots, bounded by
a share of the quoted depth); it trades at the quotes, which follow the tape's price.

With `--await-start` the tape begins at SIGUSR1: `localnet up` sends it once all markets are quoted,
so that a tape is measured as a whole.

With `--crash` (a `localnet.crash.Crash` as JSON) one market falls, and leveraged accounts and
bidders are there, too; the time until the fall begins at SIGUSR1 as well.

Once a second one JSON object goes to stdout (`localnet.tally`), and a last one at the end, which
SIGTERM, SIGINT or the end of a piped stdin asks for. What is random follows from the seed; what
the cluster makes of it depends on timing, so two runs differ in their fills.
"""

import argparse
import math
import os
import signal
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import trio

from localnet.crash import Crash
from localnet.demo import START_SIGNAL
from localnet.trading_floor import Traders
from node.exit_codes import ExitCode, OperatorError
from node.groups import walk_leaves
from node.network import load_network

STATISTICS_INTERVAL_S: Final = 1.0
"""Between two lines on stdout."""


async def run_traders(traders: Traders) -> None:
    """Trade and print statistics until told to stop; start the tape when told to."""
    async with trio.open_nursery() as nursery:

        async def start_on_signal(
            task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
        ) -> None:
            with trio.open_signal_receiver(START_SIGNAL) as signals:
                task_status.started()
                async for _ in signals:
                    traders.start_tape()

        async def stop_on_signal() -> None:
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

        async def stop_on_end_of_stdin() -> None:
            await _read_to_end(0)
            nursery.cancel_scope.cancel()

        # Before the first line of statistics, to which the signal is the answer.
        await nursery.start(start_on_signal)
        nursery.start_soon(stop_on_signal)
        # A terminal or /dev/null says nothing about whoever started this process; a pipe does.
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            nursery.start_soon(stop_on_end_of_stdin)

        async def print_statistics() -> None:
            while True:
                await trio.sleep(STATISTICS_INTERVAL_S)
                _print_statistics(traders)

        nursery.start_soon(traders.run)
        nursery.start_soon(print_statistics)
    _print_statistics(traders)


async def _read_to_end(descriptor: int) -> None:
    stream = trio.lowlevel.FdStream(os.dup(descriptor))
    async with stream:
        async for _ in stream:
            pass


def _print_statistics(traders: Traders) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(traders.tally.take()) + b"\n")
    sys.stdout.buffer.flush()


def print_note(text: str) -> None:
    """Say something that is no data."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


def parse_speed(text: str) -> float:
    """A positive number, or `max` for as fast as receipts come back. Raises `ValueError`."""
    speed = math.inf if text == "max" else float(text)
    if not speed > 0:
        raise ValueError(f"{text!r} is not above zero")
    return speed


def parse_crash(text: str) -> Crash:
    """A `Crash` out of its JSON. Raises `ValueError`."""
    try:
        return msgspec.json.decode(text, type=Crash)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo traders; return the exit code."""
    parser = argparse.ArgumentParser(prog="localnet.traders", description="Demo traders.")
    parser.add_argument("--dir", type=Path, required=True, help="the localnet's folder")
    parser.add_argument("--seed", type=int, default=42, help="of prices and random orders")
    parser.add_argument("--tape", type=Path, help="recorded trades to replay, as CSV")
    parser.add_argument("--speed", type=parse_speed, default=1.0, help="times real time, or max")
    parser.add_argument(
        "--await-start", action="store_true", help=f"begin the tape at {START_SIGNAL.name}"
    )
    parser.add_argument("--crash", type=parse_crash, help="a fall of one market, as JSON")
    options = parser.parse_args(arguments)
    exit_code = ExitCode.OK
    try:
        traders = Traders(
            load_network(options.dir),
            seed=options.seed,
            tape=options.tape,
            speed=options.speed,
            crash=options.crash,
            note=print_note,
        )
        if not options.await_start:
            traders.start_tape()
        trio.run(run_traders, traders)
    except* OperatorError as group:
        error = next(walk_leaves(group))
        assert isinstance(error, OperatorError)
        sys.stderr.write(f"error: {error.message} [{error.code}]\n  {error.advice}\n")
        exit_code = error.exit_code
    return int(exit_code)


if __name__ == "__main__":
    sys.exit(main())
