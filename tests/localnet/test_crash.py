"""A fall of one market: its price over time, who is in it, and what they do."""

import msgspec
import pytest

from engine.instructions import Bid, Side
from engine.limits import INSTRUCTIONS_PER_BUNDLE_MAX, PPM
from localnet.crash import (
    BID_PORTION_PPM,
    BID_PREMIUM_PPM,
    CROWD_MAX,
    ENTRY_MAX_MICROQUOTE,
    QUOTE_MICROQUOTE,
    Crash,
    apply_factor,
    compute_bids,
    compute_entry,
)
from localnet.markets import LIQUIDATION, make_plain_market
from localnet.network import create_network
from localnet.plans import traders_plan
from localnet.traders import main, parse_crash

CRASH = Crash("BTC-PERP", 10.0, 60.0, 40, 5_000, 1_800, (10_000, 20_000), (30_000,))
PLAIN = make_plain_market(1, "X")
TICKS = 100_000


def test_a_price_stands_falls_evenly_and_stays_where_it_came_to():
    factors = [CRASH.factor_ppm(at_s) for at_s in (0, 10, 25, 40, 70, 1_000)]
    assert factors == [PPM, PPM, 900_000, 800_000, 600_000, 600_000]
    assert apply_factor(TICKS, factors[-1]) == 60_000
    assert apply_factor(1, 1) == 1


def test_the_genesis_of_a_crash_has_its_fund_and_its_accounts_and_is_else_a_localnets(tmp_path):
    network = create_network(
        tmp_path / "net",
        port_first=19_400,
        accounts=CRASH.accounts(),
        liquidation=CRASH.liquidation(),
    )
    engine = network.genesis().engine
    assert engine.liquidation.insurance_microquote == 5_000 * QUOTE_MICROQUOTE
    assert engine.liquidation.part_ppm == LIQUIDATION.part_ppm
    amounts = [each.amount_microquote // QUOTE_MICROQUOTE for each in engine.deposits]
    assert [each.name for each in network.accounts] == ["leveraged0", "leveraged1", "bidder0"]
    assert amounts == [10_000, 20_000, 30_000]
    assert not any(each.is_trader for each in network.accounts)


def test_the_traders_are_told_of_a_crash_and_wait_for_its_signal(tmp_path, capsys):
    network = create_network(tmp_path / "net", port_first=19_400)
    arguments = traders_plan(network, crash=CRASH).arguments
    assert arguments[-1] == "--await-start"
    assert parse_crash(arguments[-2]) == CRASH
    with pytest.raises(SystemExit):
        main(["--dir", "x", "--crash", msgspec.json.encode({"market": 1}).decode()])
    assert "argument --crash" in capsys.readouterr().err


def test_a_leveraged_account_buys_what_its_deposit_carries_in_pieces():
    lots = CRASH.target_lots(10_000, PLAIN, TICKS)
    assert lots * TICKS * PLAIN.unit_microquote == 180_000 * QUOTE_MICROQUOTE
    first = compute_entry(PLAIN, TICKS, lots)
    assert first.side is Side.BUY
    assert first.size_lots * TICKS * PLAIN.unit_microquote == ENTRY_MAX_MICROQUOTE
    assert first.protective_price_ticks > TICKS
    assert compute_entry(PLAIN, TICKS, 3).size_lots == 3


def test_a_bidder_bids_for_everything_and_sells_what_it_got():
    accounts = [bytes([number]) * 32 for number in range(2)]
    bids = compute_bids(PLAIN, TICKS, 0, accounts)
    assert bids == [Bid(each, BID_PORTION_PPM, BID_PREMIUM_PPM) for each in accounts]
    *_, sale = compute_bids(PLAIN, TICKS, 7, accounts)
    assert (sale.side, sale.size_lots, sale.reduce_only) == (Side.SELL, 7, True)
    assert sale.protective_price_ticks < TICKS
    assert CROWD_MAX + 1 <= INSTRUCTIONS_PER_BUNDLE_MAX
