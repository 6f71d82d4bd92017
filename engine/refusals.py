"""Which codes refuse which instruction, and which codes tell of something else.

Every reason code stands here at least once. The reference pages show these tables, and the tests
hold them against the engine from both sides: each entry is proven by an example, and no refusal
that any test of the engine meets may be missing. What the codes mean is said where people are told
(`node.cli.reasons`).
"""

from typing import Final

from engine.instructions import (
    Amend,
    ArmDeadMan,
    Bid,
    Cancel,
    CancelAll,
    ConditionalOrder,
    MarketOrder,
    OnBehalf,
    OneCancelsOther,
    OracleReport,
    PlaceOrder,
    SetMarginMode,
    TrailingStop,
    Transfer,
    TwapOrder,
    VolatilityReport,
    Withdraw,
)
from engine.receipts import OrderEvent, ReasonCode, WakeEvent

Codes = tuple[ReasonCode, ...]

BUNDLE_REFUSALS: Final[Codes] = (
    ReasonCode.BUNDLE_MALFORMED,
    ReasonCode.BUNDLE_EMPTY,
    ReasonCode.BUNDLE_TOO_MANY_INSTRUCTIONS,
    ReasonCode.BUNDLE_SESSION_UNKNOWN,
)
"""Of a bundle as a whole: one receipt, and none of its instructions runs."""

_MARKET: Final[Codes] = (ReasonCode.ACCOUNT_UNKNOWN, ReasonCode.ORDER_UNKNOWN_MARKET)

_LIMITS: Final[Codes] = (
    ReasonCode.ORDER_SIZE_NOT_POSITIVE,
    ReasonCode.ORDER_SIZE_OVERFLOW,
    ReasonCode.ORDER_PRICE_NOT_POSITIVE,
    ReasonCode.ORDER_PRICE_OVERFLOW,
    ReasonCode.ORDER_NOTIONAL_OVERFLOW,
)

_FORM: Final[Codes] = (
    *_MARKET,
    *_LIMITS,
    ReasonCode.ORACLE_NO_INDEX,
    ReasonCode.OPTION_NOT_TRADING,
    ReasonCode.ORDER_CLIENT_ID_INVALID,
    ReasonCode.ORDER_DUPLICATE_CLIENT_ID,
)
"""What every order is checked for, now or later."""

_RISK: Final[Codes] = (
    ReasonCode.ORDER_REDUCE_ONLY_WOULD_INCREASE,
    ReasonCode.ORACLE_STALE,
    ReasonCode.ORDER_POSITION_OVERFLOW,
    ReasonCode.ORDER_BALANCE_OVERFLOW,
    ReasonCode.MARGIN_INSUFFICIENT,
)

_REST: Final[Codes] = (ReasonCode.ORDER_TOO_MANY_OPEN, ReasonCode.ORDER_MARKET_FULL)

_GOOD_TIL: Final[Codes] = (ReasonCode.ORDER_GOOD_TIL_INVALID, ReasonCode.ORDER_EXPIRED)

_WAIT: Final[Codes] = (ReasonCode.WAITING_TOO_MANY, ReasonCode.WAITING_MARKET_FULL)

_PLACE: Final[Codes] = (
    *_FORM,
    ReasonCode.ORDER_PRICE_BAND,
    *_GOOD_TIL,
    *_REST,
    *_RISK,
    ReasonCode.PORTFOLIO_TOO_MANY_MARKETS,
    ReasonCode.ORDER_FOK_UNFILLABLE,
    ReasonCode.ORDER_POST_ONLY_WOULD_CROSS,
)

_CONDITIONAL: Final[Codes] = (
    *_FORM,
    ReasonCode.TRIGGER_PRICE_INVALID,
    ReasonCode.TRIGGER_POST_ONLY,
    *_GOOD_TIL,
    *_WAIT,
)

_OUTFLOW: Final[Codes] = (
    ReasonCode.COLLATERAL_AMOUNT_INVALID,
    ReasonCode.COLLATERAL_ORACLE_STALE,
    ReasonCode.COLLATERAL_INSUFFICIENT,
    ReasonCode.COLLATERAL_OUT_OF_RANGE,
)
"""Of whatever moves collateral out of an account."""

REFUSALS: Final[dict[type, Codes]] = {
    PlaceOrder: _PLACE,
    MarketOrder: (
        *_FORM,
        ReasonCode.ORDER_PRICE_BAND,
        *_RISK,
        ReasonCode.PORTFOLIO_TOO_MANY_MARKETS,
    ),
    Cancel: (
        ReasonCode.ACCOUNT_UNKNOWN,
        ReasonCode.ORDER_REFERENCE_INVALID,
        ReasonCode.ORDER_UNKNOWN,
    ),
    CancelAll: _MARKET,
    # An amend that is a cancel and a new order can be refused for whatever the new one can.
    Amend: (
        ReasonCode.ACCOUNT_UNKNOWN,
        ReasonCode.ORDER_REFERENCE_INVALID,
        ReasonCode.ORDER_UNKNOWN,
        ReasonCode.ORDER_NOT_AMENDABLE,
        *_LIMITS,
        ReasonCode.ORDER_PRICE_BAND,
        ReasonCode.ORDER_DUPLICATE_CLIENT_ID,
        *_REST,
        *_RISK,
        ReasonCode.ORDER_POST_ONLY_WOULD_CROSS,
    ),
    OracleReport: (
        ReasonCode.ORACLE_NOT_A_REPORTER,
        ReasonCode.ORACLE_UNKNOWN_MARKET,
        ReasonCode.ORACLE_PRICE_INVALID,
        ReasonCode.ORACLE_SEQUENCE,
        ReasonCode.ORACLE_SOURCE_TIME,
    ),
    ConditionalOrder: _CONDITIONAL,
    TrailingStop: (
        ReasonCode.ACCOUNT_UNKNOWN,
        ReasonCode.ORDER_UNKNOWN_MARKET,
        ReasonCode.ORDER_SIZE_NOT_POSITIVE,
        ReasonCode.ORDER_SIZE_OVERFLOW,
        ReasonCode.ORDER_NOTIONAL_OVERFLOW,
        ReasonCode.ORACLE_NO_INDEX,
        ReasonCode.OPTION_NOT_TRADING,
        ReasonCode.ORDER_CLIENT_ID_INVALID,
        ReasonCode.ORDER_DUPLICATE_CLIENT_ID,
        ReasonCode.TRIGGER_OFFSET_INVALID,
        ReasonCode.TRIGGER_POST_ONLY,
        *_GOOD_TIL,
        *_WAIT,
    ),
    # Whatever refuses one of the legs, of which a limit order is post-only.
    OneCancelsOther: (
        ReasonCode.OCO_MARKETS_DIFFER,
        ReasonCode.OCO_LEGS_INVALID,
        *_CONDITIONAL,
        ReasonCode.TRIGGER_OFFSET_INVALID,
        ReasonCode.ORDER_PRICE_BAND,
        *_REST,
        *_RISK,
        ReasonCode.PORTFOLIO_TOO_MANY_MARKETS,
        ReasonCode.ORDER_POST_ONLY_WOULD_CROSS,
    ),
    TwapOrder: (*_FORM, ReasonCode.TWAP_SCHEDULE_INVALID, *_WAIT),
    ArmDeadMan: (ReasonCode.ACCOUNT_UNKNOWN, ReasonCode.DEAD_MAN_TIMEOUT_INVALID),
    Bid: (
        ReasonCode.ACCOUNT_UNKNOWN,
        ReasonCode.AUCTION_UNKNOWN,
        ReasonCode.AUCTION_OWN,
        ReasonCode.AUCTION_PORTION_INVALID,
        ReasonCode.AUCTION_PREMIUM_INVALID,
        ReasonCode.AUCTION_PREMIUM_TOO_HIGH,
        ReasonCode.AUCTION_SOLD,
        ReasonCode.AUCTION_UNINSURED,
        ReasonCode.AUCTION_TOO_MANY_BIDS,
        ReasonCode.ORACLE_STALE,
        ReasonCode.ORDER_POSITION_OVERFLOW,
        ReasonCode.ORDER_BALANCE_OVERFLOW,
        ReasonCode.PORTFOLIO_TOO_MANY_MARKETS,
        ReasonCode.MARGIN_INSUFFICIENT,
    ),
    SetMarginMode: (
        ReasonCode.ACCOUNT_UNKNOWN,
        ReasonCode.PORTFOLIO_UNAVAILABLE,
        ReasonCode.PORTFOLIO_TOO_MANY_MARKETS,
        ReasonCode.ORACLE_STALE,
        ReasonCode.MARGIN_INSUFFICIENT,
    ),
    VolatilityReport: (
        ReasonCode.ORACLE_NOT_A_REPORTER,
        ReasonCode.ORACLE_UNKNOWN_MARKET,
        ReasonCode.OPTION_SURFACE_INVALID,
        ReasonCode.ORACLE_SEQUENCE,
        ReasonCode.ORACLE_SOURCE_TIME,
    ),
    Withdraw: (
        ReasonCode.ACCOUNT_UNKNOWN,
        ReasonCode.WITHDRAW_DESTINATION_INVALID,
        ReasonCode.WITHDRAW_TOO_SMALL,
        ReasonCode.WITHDRAW_GATED,
        ReasonCode.WITHDRAW_TOO_MANY,
        ReasonCode.WITHDRAW_FULL,
        *_OUTFLOW,
    ),
    Transfer: (
        ReasonCode.ACCOUNT_UNKNOWN,
        ReasonCode.TRANSFER_DESTINATION_INVALID,
        ReasonCode.SUB_ACCOUNT_NUMBER_INVALID,
        ReasonCode.TRANSFER_TO_ITSELF,
        ReasonCode.TRANSFER_ACCOUNT_UNKNOWN,
        *_OUTFLOW,
    ),
    # And whatever refuses the instruction inside.
    OnBehalf: (ReasonCode.SUB_ACCOUNT_NUMBER_INVALID,),
}
"""By kind of instruction: the codes of a receipt with the status REFUSED."""

SESSION_REFUSALS: Final[Codes] = (
    ReasonCode.SESSION_SCOPE,
    ReasonCode.SESSION_SUB_ACCOUNT,
    ReasonCode.SESSION_MARKET,
    ReasonCode.SESSION_SPENT,
)
"""Of any instruction that a session key signed."""

NOTES: Final[Codes] = (
    ReasonCode.OK,
    ReasonCode.ORDER_REDUCE_ONLY_SHRUNK,
    ReasonCode.ORDER_SELF_TRADE,
    ReasonCode.ORDER_IOC_REMAINDER,
    ReasonCode.ORDER_TOO_MANY_MATCHES,
)
"""Codes of receipts with any other status."""

EVENT_CODES: Final[dict[type, Codes]] = {
    OrderEvent: (
        ReasonCode.ORDER_CANCELLED_BY_OWNER,
        ReasonCode.ORDER_EXPIRED,
        ReasonCode.ORDER_SELF_TRADE,
        ReasonCode.ORDER_REDUCE_ONLY_SHRUNK,
        ReasonCode.MARGIN_INSUFFICIENT,
        ReasonCode.ORDER_DISPLACED,
        ReasonCode.ORDER_PARTNER_ENDED,
        ReasonCode.ORDER_DEAD_MAN,
        ReasonCode.TWAP_ENDED,
        ReasonCode.OPTION_EXPIRED,
        ReasonCode.LIQUIDATION_ORDER_CANCELLED,
    ),
    # It is the receipt of a limit order.
    WakeEvent: (*NOTES, *(code for code in _PLACE if code not in _MARKET)),
}
"""By kind of event that has one."""
