"""Oracle reporters of a localnet: each member's reports, to that member's own node."""

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

import trio

from engine.instructions import Instruction, OracleReport
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX
from localnet.courier import Courier
from node.envelopes import EnvelopeFactory
from node.keystores import read_password
from node.network import Network, NetworkNode

REPORT_SPACING_MIN_S: Final = 0.1
"""A reporter rests this long after each report, however fast prices move."""

REPORT_PATIENCE_S: Final = 3.0
"""A report that is not ordered by then is given up for a newer one."""


class Reporter(NamedTuple):
    """One member's oracle."""

    courier: Courier
    factory: EnvelopeFactory
    power: int


def load_reporter(
    network: Network, node: NetworkNode, note: Callable[[str], None] = lambda _: None
) -> Reporter:
    """Open the oracle key in the node's home. Raises `node.exit_codes.OperatorError`."""
    home = network.home(node.name)
    keys = home.keystores.load(read_password(home.password_path), accept_weak=True)
    factory = EnvelopeFactory(keys.oracle, network.chain_id)
    courier = Courier([node.door_endpoint()], [factory.account], note=note)
    return Reporter(courier, factory, node.power)


async def run_reporter(
    reporter: Reporter,
    prices: Mapping[int, int],
    await_move: Callable[[], Awaitable[None]],
    on_reported: Callable[[], None],
) -> None:
    """Report all prices (ticks by market) whenever `await_move` returns, until cancelled.

    Always the newest prices, one envelope at a time: a report that comes late helps nobody. The
    courier's own task must run beside it.
    """
    time_ms = 0
    while True:
        await await_move()
        time_ms = max(time_ms + 1, time.time_ns() // 1_000_000)
        reports: list[Instruction] = [
            OracleReport(market, price, time_ms, time_ms)
            for market, price in sorted(prices.items())
        ]
        is_ordered = True
        for start in range(0, len(reports), INSTRUCTIONS_PER_BUNDLE_MAX):
            part = reports[start : start + INSTRUCTIONS_PER_BUNDLE_MAX]
            ticket = await reporter.courier.send(reporter.factory, part)
            with trio.move_on_after(REPORT_PATIENCE_S):
                await ticket.ordered.wait()
            is_ordered = is_ordered and ticket.ordered_after_ms is not None
            # Its receipt is of no interest.
            reporter.courier.abandon(ticket)
        if is_ordered:
            on_reported()
        await trio.sleep(REPORT_SPACING_MIN_S)
