"""Every bound of the engine, in one place.

Two kinds: bounds on what one participant may ask of everybody (instructions, open orders, levels),
and bounds on numbers, chosen so that every value that is stored fits a signed 64-bit integer.
Products inside a step (price x lots x unit x ppm) are Python integers and cannot overflow; what is
kept is checked where it enters.
"""

from typing import Final

PPM: Final = 1_000_000
"""Rates are integers in parts per million."""

QUOTE_MICROQUOTE: Final = 1_000_000
"""Money is counted in millionths of the unit in which prices are quoted."""

INSTRUCTIONS_PER_BUNDLE_MAX: Final = 64
"""One signature covers at most this many instructions."""

PRICE_MAX_TICKS: Final = 2**32 - 1
"""Largest limit price and index price."""

ORDER_SIZE_MAX_LOTS: Final = 2**32 - 1
"""Largest size of one order."""

POSITION_MAX_LOTS: Final = 2**40
"""Largest absolute position of an account in a market, its open orders counted as filled."""

ORDER_NOTIONAL_MAX_MICROQUOTE: Final = 2**56
"""Largest `price x size x unit` of one order (about 72 billion in quote)."""

BALANCE_ABS_MAX_MICROQUOTE: Final = 2**62
"""No fill may take a quote balance beyond this, in either direction."""

DEBT_MAX_MICROQUOTE: Final = 2**63 - 1
"""More is not told apart of what an account owes: no fund ever holds as much."""

EVENT_AMOUNT_MAX_MICROQUOTE: Final = 2**63 - 1
"""What an event says at most of an account's worth, in either direction: at extreme prices it may
be more than a message can hold."""

DEPOSITS_TOTAL_MAX_MICROQUOTE: Final = 2**56
"""All quote ever deposited: what the conservation identity sums up to."""

EXPOSURES_KEPT_MAX: Final = 64
"""Markets that an account knows; of more, those go in which it has neither position nor orders."""

CLIENT_ID_MAX: Final = 2**63 - 1
"""Client order ids are 1 to this; 0 means none."""

TIME_MAX_MS: Final = 2**63 - 1
"""Block times, expiry times and source times."""

SEQUENCE_MAX: Final = 2**63 - 1
"""Source sequences of oracle reports."""

OPEN_ORDERS_PER_ACCOUNT_MAX: Final = 256
"""Upper bound of the genesis parameter of the same purpose: an account's orders are re-hashed
together, so this bounds the cost of one state leaf."""

OPEN_ORDERS_PER_MARKET_MAX: Final = 200_000
"""Upper bound of the market parameter of the same purpose."""

IMPACT_LEVELS_MAX: Final = 200
"""Levels of one side of a book that a vote of funding or of the mark looks at."""

FUNDING_VOTES_PER_SAMPLE_MAX: Final = 120
"""They are kept, and part of the state root, until their median is taken."""

FUNDING_SAMPLES_PER_INTERVAL_MAX: Final = 1_440
"""Likewise, until the rate is computed."""

FOK_READS_PER_SENDER_MAX: Final = 1_000
"""Resting orders that the fill-or-kill orders of one sender may look at in one block, all markets
together: reading costs the sender nothing, so this bounds what orders that are then refused can
make everybody do, however many of them one bundle holds."""

EXPIRIES_PER_BLOCK_MAX: Final = 10_000
"""Resting orders whose time is over that one block takes out of the books, by that time; the others
go in the next blocks, or when something meets them. They trade no more."""

MATCHES_PER_SENDER_MAX: Final = 5_000
"""Resting orders that what one sender places, and what of it fires, may meet in one block, all
continuous markets together, those of owners with portfolio margin counted by their weight. What is
then left of an order is cancelled; in the next block its sender may go on."""

PORTFOLIO_MATCH_WEIGHT: Final = 4
"""A resting order of an account with portfolio margin counts so many times: about so much longer it
takes to look at its owner's margin, the first time after marks have moved and every time."""

MARKETS_MAX: Final = 256
"""Markets of one engine."""

REPORTERS_MAX: Final = 128
"""Oracle reporters of one block (the committee)."""

POWER_MAX: Final = 2**40
"""Power of one reporter."""

SOURCE_TIME_AHEAD_MAX_MS: Final = 1_000
"""How far the source time of a report may lie ahead of the block's time."""

FULL_CHECK_INTERVAL_BLOCKS: Final = 256
"""Conservation is checked every block over what changed, and at multiples of this height over
every account."""

WAITING_PER_ACCOUNT_MAX: Final = 64
"""Conditional and TWAP orders of one account: they are re-hashed together, as its open orders."""

WAITING_PER_MARKET_MAX: Final = 20_000
"""Conditional and TWAP orders of one market. They reserve no margin, so this bounds the memory
that costs its owners nothing."""

TRAILING_PER_MARKET_MAX: Final = 500
"""Trailing stops of one market: a price that moves may move every trigger, and so every owner's
leaf."""

TRAILING_PER_OWNER_MAX: Final = 16
"""Those of them that are one owner's, all sub-accounts together: they reserve no margin, so without
a share a few accounts could hold all places for ever."""

WAKES_PER_MARKET_MAX: Final = 250
"""Conditional orders that fire and TWAP slices that run in one market and block, one of each
owner in turn; the others do so in the next blocks."""

TRIGGER_ROUNDS_MAX: Final = 4
"""Rounds of orders that fire by the trades of a block, each by those of the round before; what the
last one reaches fires in the next block."""

CALL_AUCTION_CROWD_MAX: Final = 1_000
"""Orders at one price that share in an auction when it cannot fill all of them, the oldest first,
and whose lots count as its imbalance. More of them would cost everybody time for nothing."""

CALL_AUCTION_ROUNDS_MAX: Final = 16
"""How often an auction kills fill-or-kill orders that it could not fill, and is cleared anew: each
time the half of them, at last all that are left."""

TWAP_INTERVAL_MIN_MS: Final = 1_000
"""Shortest interval between two slices."""

TWAP_INTERVAL_MAX_MS: Final = 3_600_000
"""Longest interval between two slices."""

TWAP_DURATION_MAX_MS: Final = 86_400_000
"""A TWAP order ends within a day."""

TWAP_CATCH_UP_FACTOR: Final = 3
"""A slice that makes up for others before it is at most so many shares large."""

DEAD_MAN_TIMEOUT_MAX_MS: Final = 86_400_000
"""Longest time to the deadline of a dead man's switch."""

WITHDRAWAL_DESTINATION_BYTES: Final = 20
"""An address on L1."""

WITHDRAWALS_PER_ACCOUNT_MAX: Final = 8
"""Withdrawals of one account that L1 has not settled: each is a leaf of the state."""

WITHDRAWALS_MAX: Final = 65_536
"""Withdrawals of all accounts that L1 has not settled. Nobody else's withdrawal can wait for ever
behind them: L1 settles each within its own deadline."""

SUB_ACCOUNTS_MAX: Final = 32
"""Sub-accounts of one owner, numbered from 1: any of them may be opened by one micro-quote."""

SESSION_MARKETS_MAX: Final = 32
"""Markets that a session key may be confined to; one for more has all."""

FEE_TIERS_MAX: Final = 16
"""Steps of the fee schedule above the first."""

FEE_EPOCHS_MAX: Final = 60
"""Epochs whose volume counts for a tier: they are kept with the account, and re-hashed when a new
one begins for it."""

VOLUME_MAX_MICROQUOTE: Final = 2**62
"""Volume of an epoch beyond which nothing more is counted."""

DEPTH_LEVELS_MAX: Final = 1_000
"""Levels of one side of a book in one answer."""

SERIES_ID_FIRST: Final = 2**30
"""Option series have market ids from here on, in the order in which they are listed; markets of the
genesis have lower ones where there are options."""

SERIES_ID_MAX: Final = 2**31 - 1
"""The last one; nothing is listed after it."""

SERIES_MAX: Final = 1_024
"""Option series of all underlyings at one time: each is priced whenever its index moves."""

EXPIRIES_MAX: Final = 12
"""Listed expiries of one underlying."""

STRIKES_PER_EXPIRY_MAX: Final = 64
"""Upper bound of the parameter of the same purpose."""

SURFACE_KNOTS_MAX: Final = 32
"""Volatilities in one report."""

SETTLEMENT_SAMPLES_MAX: Final = 1_440
"""Samples of the index for one settlement price."""

SCENARIOS_MAX: Final = 64
"""In which a portfolio is tried."""

PORTFOLIO_POSITIONS_MAX: Final = 64
"""Markets in which an account with portfolio margin may have positions and orders."""

LIQUIDATION_LOOKS_PER_BLOCK_MAX: Final = 5_000
"""Accounts and markets that one block looks at for margin, by turns: an account counts as one, and
so does each market in which it has a position or orders. N accounts, which are M times in a market,
are looked at within `ceil((N + M) / 5,000)` blocks, those with portfolio margin counted by their
weight."""

LIQUIDATION_PORTFOLIO_WEIGHT: Final = 12
"""An account with portfolio margin counts so many times: about so much longer it takes to look at
it."""

LIQUIDATION_STEPS_PER_BLOCK_MAX: Final = 1_024
"""Accounts under liquidation that have a step in one block; who waits longest goes first."""

LIQUIDATION_WORK_PER_BLOCK_MAX: Final = 16_384
"""What these steps may come to, but for the last one: each as looking at its account, one for each
event and two for each trade. So a step at which there is nothing to do takes hardly any of it."""

LIQUIDATION_CLOCK_STEP_MAX_MS: Final = 60_000
"""So much, beyond the time between two looks, the clock of a liquidation goes on at most from one
to the next: hours in which the chain stood still are not hours in which anybody could bid."""

DEBT_WAIT_MAX_MS: Final = 600_000
"""An account with a debt alone, which insurance fund and fees cannot pay, is looked at again after
as long as it has been so, at most this long: nothing can be done about it, and others wait."""

LIQUIDATION_TRIES_PER_STEP_MAX: Final = 4
"""Markets of one account in which one step may try to close."""

LIQUIDATION_MATCHES_MAX: Final = 1_024
"""Resting orders that one closing may trade with."""

BIDS_PER_BLOCK_MAX: Final = 256
"""Bids that one block looks at, one of each sender in turn: a bid may move positions in all
markets."""

BID_MOVES_PER_BLOCK_MAX: Final = 16_384
"""Positions that the bids of one block may move or look at together: a bid counts as many as the
account has for whose slice it is, and as looking at its bidder does."""

DELEVERAGE_LOOKS_MAX: Final = 50_000
"""Accounts and markets that one ranking looks at: an account without a position on that side counts
as one, another as looking at it does."""

DELEVERAGE_RANKED_MAX: Final = 1_000
"""Positions that one ranking compares."""

DELEVERAGE_RANKINGS_PER_BLOCK_MAX: Final = 2
"""Sides of markets that are ranked in one block."""

DELEVERAGE_TRADES_PER_BLOCK_MAX: Final = 100
"""Positions that are closed against others in one block."""

DELEVERAGE_CHECKS_PER_BLOCK_MAX: Final = 500_000
"""Looks at whether others can afford that, in one block: enough to ask everybody in one ranking
twice, each with portfolio margin and 20 positions."""
