"""Tapes: what is read, what is refused, and that refusals name the line."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.instructions import Side
from localnet.markets import MARKETS
from localnet.tape import (
    HEADER,
    LINE_MAX_BYTES,
    MICROSECONDS_FROM,
    UNIT,
    TapeError,
    TapeTrade,
    compute_price_ticks,
    compute_size_lots,
    count_trades,
    format_trade,
    parse_tape,
    read_tape,
)
from localnet.tape_synthesis import generate_trades

BTC = MARKETS[0]
GOOD = b"17,60015.2,0.0003,18.00456,1700000000063,false\n"

trades = st.builds(
    TapeTrade,
    trade_id=st.integers(0, 10**18),
    price=st.integers(1, 10**7 * UNIT),
    quantity=st.integers(1, 10**7 * UNIT),
    time_ms=st.integers(0, MICROSECONDS_FROM - 1),
    is_buyer_maker=st.booleans(),
)


def parse(data: bytes) -> list[TapeTrade]:
    return list(parse_tape(io.BytesIO(data), "test.csv"))


@given(st.lists(trades, max_size=5), st.booleans(), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read_back(given_trades, header, best_match, end):
    lines = [HEADER] if header else []
    lines += [format_trade(trade) + (",True" if best_match else "") for trade in given_trades]
    assert parse("".join(line + end for line in lines).encode()) == given_trades


def test_fields_are_what_the_archives_mean():
    (trade,) = parse(GOOD)
    assert trade == TapeTrade(17, 6_001_520_000_000, 30_000, 1_700_000_000_063, False)
    assert trade.taker_side is Side.BUY
    assert trade._replace(is_buyer_maker=True).taker_side is Side.SELL


def test_microseconds_are_recognised():
    (trade,) = parse(b"17,1,1,1,1736000000063123,True,True\n")
    assert trade.time_ms == 1_736_000_000_063


def test_a_last_line_without_end_counts():
    assert len(parse(GOOD + GOOD.rstrip())) == 2


def test_an_empty_tape_has_no_trades():
    assert parse(b"") == []
    assert parse(HEADER.encode()) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\n", "1 columns"),
        (b"17,60015.2,0.0003,18.0,1700000000063\n", "5 columns"),
        (b"17,60015.2,0.0003,18.0,1700000000063,false,true,9\n", "8 columns"),
        (b"x,60015.2,0.0003,18.0,1700000000063,false\n", "trade id"),
        (b"-1,60015.2,0.0003,18.0,1700000000063,false\n", "trade id"),
        (b"17,6e4,0.0003,18.0,1700000000063,false\n", "price"),
        (b"17,-1,0.0003,18.0,1700000000063,false\n", "price"),
        (b"17,0,0.0003,18.0,1700000000063,false\n", "zero"),
        (b"17,1.123456789,0.0003,18.0,1700000000063,false\n", "price"),
        (b"17,1, 0.0003,18.0,1700000000063,false\n", "qty"),
        (b"17,1,nan,18.0,1700000000063,false\n", "qty"),
        (b"17,1,1,,1700000000063,false\n", "quote qty"),
        (b"17,1,1,1,1.5,false\n", "time"),
        (b"17,1,1,1,1700000000063123456,false\n", "time"),
        (b"17,1,1,1,1700000000063,0\n", "buyer maker"),
        (b"17,1,1,1,1700000000063,false,\n", "best match"),
        (b"17,1,1,1,1700000000063,fal\xffse\n", "ascii"),
        (b"id,price,qty,quote_qty,time,is_buyer_maker\n", "trade id"),
        (b"1" * LINE_MAX_BYTES + b"\n", "longer"),
    ],
)
def test_a_malformed_line_is_refused_by_number(line, reason):
    with pytest.raises(TapeError, match="line 3") as caught:
        parse(GOOD + GOOD + line + GOOD)
    assert caught.value.code == "tape.malformed"
    assert reason in caught.value.message


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_tape_error(data):
    try:
        parse(data)
    except TapeError as error:
        assert error.code == "tape.malformed"  # noqa: PT017 - most bytes raise, not all


def test_trades_before_the_bad_line_are_given_first():
    reader = parse_tape(io.BytesIO(GOOD + b"nonsense\n"), "test.csv")
    assert next(reader).trade_id == 17
    with pytest.raises(TapeError):
        next(reader)


@pytest.mark.parametrize("head", [b"", b"id,price,qty,quote_qty,time,is_buyer_maker\n"])
@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_counting_gives_the_number_of_trades_that_reading_gives(tmp_path, head, end, count):
    path = tmp_path / "tape.csv"
    lines = b"\n".join([GOOD.rstrip(b"\n")] * count)
    path.write_bytes(head + lines + (end if lines else b""))
    assert count_trades(path) == len(list(read_tape(path))) == count


def test_a_missing_file_is_an_error_with_a_code(tmp_path):
    with pytest.raises(TapeError) as caught:
        next(read_tape(tmp_path / "missing.csv"))
    assert caught.value.code == "tape.unreadable"


def test_prices_and_sizes_round_to_the_nearest_tick_and_lot():
    def trade(price: str, quantity: str) -> TapeTrade:
        return parse(f"1,{price},{quantity},1,1,true\n".encode())[0]

    assert compute_price_ticks(trade("60000.14", "1"), BTC) == 600_001
    assert compute_price_ticks(trade("60000.15", "1"), BTC) == 600_002
    assert compute_price_ticks(trade("0.00000001", "1"), BTC) == 1
    assert compute_size_lots(trade("1", "0.00014"), BTC, 100) == 1
    assert compute_size_lots(trade("1", "0.00015"), BTC, 100) == 2
    assert compute_size_lots(trade("1", "0.00000001"), BTC, 100) == 1
    assert compute_size_lots(trade("1", "5"), BTC, 100) == 100


def test_a_seed_gives_one_synthetic_tape():
    first, second = list(generate_trades(500, 7)), list(generate_trades(500, 7))
    assert first == second
    assert list(generate_trades(500, 8)) != first
    text = "".join(format_trade(trade) + "\n" for trade in first)
    assert parse(text.encode()) == first
    assert [trade.time_ms for trade in first] == sorted(trade.time_ms for trade in first)
    assert {trade.is_buyer_maker for trade in first} == {True, False}
