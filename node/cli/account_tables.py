"""What an account has besides balance, positions and orders, as `rota account show` lists it."""

from collections.abc import Mapping

from node.cli.amounts import format_quote, format_size, format_time
from node.cli.options_chain import format_greeks
from node.cli.output import WholeTable, table
from node.cli.views import AccountInfo, LiquidationInfo, MarketInfo


def describe_stage(liquidation: LiquidationInfo) -> str:
    """How far a liquidation has come, in words."""
    if liquidation.is_waiting:
        return f"{liquidation.stage}, waits for a fresh index"
    what = {
        "closing": "to be auctioned",
        "auction": "the offer is all of the equity",
        "insolvent": "to be deleveraged",
    }
    after = what.get(liquidation.stage, "over")
    return f"{liquidation.stage}, {after} at {format_time(liquidation.next_stage_ms)}"


def make_standing_rows(view: AccountInfo) -> list[tuple[str, str]]:
    """Whose it is, whether it is short of margin, and where it stands in the fee schedule; nothing
    for what does not apply."""
    rows = []
    lacking = view.initial_margin_microquote - view.equity_microquote
    if lacking > 0:
        takes = "close or hedge" if view.margin_mode == "portfolio" else "close"
        words = f"by {format_quote(lacking)}: only orders that {takes} are taken"
        rows.append(("below initial margin", words))
    if view.owner is not None:
        rows.append(("owner", f"{view.owner.hex()}, sub-account {view.sub}"))
    liquidation = view.liquidation
    if liquidation is not None:
        rows.append(("liquidation", describe_stage(liquidation)))
    fees = view.fee_tier
    if fees is not None:
        words = f"{fees.tier}, volume {format_quote(fees.volume_microquote)}"
        if fees.tier:
            words += (
                f", taker {fees.taker_reduction_ppm} and maker {fees.maker_reduction_ppm} ppm less"
            )
        if fees.next_volume_microquote is not None:
            words += f"; next from {format_quote(fees.next_volume_microquote)}"
        if fees.epoch_volume_microquote:
            traded = format_quote(fees.epoch_volume_microquote)
            words += f"; {traded} more counts from {format_time(fees.epoch_ends_ms)}"
        rows.append(("fee tier", words))
    return rows


def make_position_table(view: AccountInfo, markets: Mapping[int, MarketInfo]) -> WholeTable:
    """Positions, and open orders beside; with all greeks where one is an option."""
    has_options = any(markets[each.market].option is not None for each in view.positions)
    columns = ["position", "size>", "value>", "delta>", "open buys>", "open sells>"]
    rows = []
    for each in view.positions:
        market = markets[each.market]
        delta, *others = ("-",) * 4 if each.greeks is None else format_greeks(each.greeks)
        row = (
            market.symbol,
            format_size(each.size_lots, market),
            format_quote(each.value_microquote),
            delta,
            format_size(each.open_buy_lots, market),
            format_size(each.open_sell_lots, market),
        )
        rows.append((*row, *others) if has_options else row)
    return table(columns + ["gamma>", "vega>", "theta>"] * has_options, rows)


def make_account_tables(view: AccountInfo, markets: Mapping[int, MarketInfo]) -> list[WholeTable]:
    """Sub-accounts, pending withdrawals and session keys; a list without entries is left out."""
    tables = []
    if view.sub_accounts:
        rows = [
            (each.sub, each.account.hex(), format_quote(each.equity_microquote))
            for each in view.sub_accounts
        ]
        tables.append(table(["sub-account>", "account", "equity>"], rows))
    if view.withdrawals:
        pending = [
            (
                each.withdrawal_id,
                f"0x{each.destination.hex()}",
                format_quote(each.amount_microquote),
                each.height,
            )
            for each in view.withdrawals
        ]
        columns = ["pending withdrawal>", "to", "amount>", "since height>"]
        tables.append(table(columns, pending))
    if view.sessions:
        tables.append(make_session_table(view, markets))
    return tables


def make_session_table(view: AccountInfo, markets: Mapping[int, MarketInfo]) -> WholeTable:
    """The keys that may act for the account."""
    keys = [
        (
            each.key.hex(),
            each.scope,
            format_time(each.expires_ms),
            ", ".join(
                markets[number].symbol if number in markets else str(number)
                for number in each.markets
            )
            or "all",
            ", ".join(map(str, each.subs)) or "all",
            _tell_spent(each.spent_microquote, each.spend_max_microquote),
        )
        for each in view.sessions
    ]
    columns = ["session key", "scope", "expires", "markets", "sub-accounts", "spent"]
    return table(columns, keys)


def _tell_spent(spent_microquote: int, most_microquote: int | None) -> str:
    if most_microquote is None:
        return "no cap"
    return f"{format_quote(spent_microquote)} of {format_quote(most_microquote)}"
