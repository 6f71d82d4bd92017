"""What a scenario may expect beyond the invariants."""

from typing import Final

from msgspec import Struct


class Expectation(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is expected beyond the invariants; exactly one is given."""

    commits_within: str | None = None
    """The longest pause between two heights, faults or not."""
    pause_at_least: str | None = None
    """The same: the height stood still for so long."""
    view_changes_at_least: int | None = None
    """Views that ended without a block."""
    reconnects_at_least: int | None = None
    """Connections made while a `reset` was in force."""
    height_at_least: int | None = None
    fills_at_least: int | None = None
    evidence_against: str | None = None
    """This member has been convicted."""
    liquidations_at_least: int | None = None
    """How often an account fell below its margin; this and those below need a crash."""
    accounts_liquidated_at_least: int | None = None
    auction_slices_at_least: int | None = None
    insurance_payments_at_least: int | None = None
    deleveragings_at_least: int | None = None
    index_fall_at_least: int | None = None
    """Percent, within a minute of block time."""
    series_listed_at_least: int | None = None
    """This and those below need a day of options."""
    series_quoted_at_least: int | None = None
    """With a bid and an ask at the same time."""
    option_trades_at_least: int | None = None
    expiries_settled_at_least: int | None = None
    positions_settled_at_least: int | None = None
    accounts_settled_at_least: int | None = None
    """With a position in a series that was settled."""
    spreads_accepted_at_least: int | None = None
    """Vertical spreads that an account under portfolio margin got."""
    spreads_refused_at_least: int | None = None
    """The same spreads, refused for want of margin to an account under cross margin."""
    rss_growth_below: int | None = None
    """Percent, of each node that was not started anew, from a third of the run (three minutes of
    a long one) to its end."""


NEED_CRASH: Final = (
    "liquidations_at_least",
    "accounts_liquidated_at_least",
    "auction_slices_at_least",
    "insurance_payments_at_least",
    "deleveragings_at_least",
    "index_fall_at_least",
)
"""What can be expected only of a scenario with a crash."""

NEED_OPTIONS: Final = (
    "series_listed_at_least",
    "series_quoted_at_least",
    "option_trades_at_least",
    "expiries_settled_at_least",
    "positions_settled_at_least",
    "accounts_settled_at_least",
    "spreads_accepted_at_least",
    "spreads_refused_at_least",
)
"""What can be expected only of a scenario with a day of options."""
