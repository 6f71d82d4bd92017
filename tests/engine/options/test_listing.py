"""Which options are listed, and when."""

import pytest

from engine.limits import SERIES_ID_FIRST
from engine.options.listing import compute_date, compute_next_expiry
from engine.options.params import OptionParams
from engine.receipts import SeriesListedEvent

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS


def test_series_are_listed_around_the_index_by_rule(make_exchange):
    exchange = make_exchange()
    listed = exchange.events(SeriesListedEvent)
    assert [event.market for event in listed] == list(range(SERIES_ID_FIRST, SERIES_ID_FIRST + 20))
    assert [(e.strike_ticks, e.is_call) for e in listed[:4]] == [
        (1_000, True),
        (1_000, False),
        (950, True),
        (950, False),
    ]
    assert {event.expiry_ms for event in listed} == {6 * HOUR_MS, 7 * HOUR_MS}
    assert listed[0].symbol == "X-700101-0600-10-C"
    assert listed[3].symbol == "X-700101-0600-9.5-P"
    assert list(exchange.state.markets) == [1, *range(SERIES_ID_FIRST, SERIES_ID_FIRST + 20)]


def test_an_index_that_moves_lists_further_strikes_up_to_the_bound(make_exchange, options):
    exchange = make_exchange()
    exchange.report(1_049)
    expiry = exchange.state.chains[1].expiries[6 * HOUR_MS]
    assert sorted(expiry.strikes) == [900, 950, 1_000, 1_050, 1_100, 1_150]
    exchange.report(1_300)
    assert len(expiry.strikes) == options.strikes_max
    assert {1_300, 1_250} < set(expiry.strikes)
    exchange.report(2_000)
    assert len(expiry.strikes) == options.strikes_max
    assert exchange.state.next_series_id == SERIES_ID_FIRST + 2 * 2 * options.strikes_max


def test_the_roll_lists_the_next_expiry_when_a_settlement_window_begins(make_exchange):
    exchange = make_exchange()
    exchange.time_ms = 6 * HOUR_MS - 10 * MINUTE_MS - 1
    exchange.report(1_000)
    assert list(exchange.state.chains[1].expiries) == [6 * HOUR_MS, 7 * HOUR_MS]
    exchange.time_ms += 1
    exchange.report(1_000)
    assert list(exchange.state.chains[1].expiries) == [6 * HOUR_MS, 7 * HOUR_MS, 8 * HOUR_MS]


def test_nothing_is_listed_without_an_index_or_by_a_stale_one(make_exchange):
    exchange = make_exchange(index=None)
    exchange.block()
    assert exchange.state.chains[1].expiries == {}
    exchange = make_exchange()
    exchange.time_ms += 55 * MINUTE_MS
    exchange.block()
    assert exchange.state.perpetuals[1].stale
    assert list(exchange.state.chains[1].expiries) == [6 * HOUR_MS, 7 * HOUR_MS]


def test_standing_still_over_expiries_never_piles_them_up(make_exchange, options):
    exchange = make_exchange()
    for _ in range(30):
        exchange.time_ms += 5 * HOUR_MS
        exchange.report(1_000)
        expiries = list(exchange.state.chains[1].expiries)
        assert len(expiries) <= options.expiries + 1
        assert expiries == sorted(expiries)
        assert len(exchange.state.markets) <= 1 + options.series_max


@pytest.mark.parametrize(
    ("days", "date"),
    [(0, (1970, 1, 1)), (59, (1970, 3, 1)), (11_016, (2000, 2, 29)), (20_779, (2026, 11, 22))],
)
def test_dates_are_those_of_the_calendar(days, date):
    assert compute_date(days) == date


def test_the_next_expiry_is_the_first_whose_window_is_ahead():
    params = OptionParams(1_000, 50)
    day = 86_400_000
    assert compute_next_expiry(params, 0) == 8 * HOUR_MS
    assert compute_next_expiry(params, 8 * HOUR_MS - 30 * MINUTE_MS - 1) == 8 * HOUR_MS
    assert compute_next_expiry(params, 8 * HOUR_MS - 30 * MINUTE_MS) == day + 8 * HOUR_MS
