"""Every code of a refusal or an outcome in words, and what to do about it.

The codes are for programs; whoever reads a terminal gets these beside them. The reference page of
stable codes has the same words (`node.cli.error_reference`).
"""

from typing import Final, NamedTuple

from consensus.checkpoints import CHECKPOINT_INTERVAL
from engine.limits import (
    CLIENT_ID_MAX,
    DEAD_MAN_TIMEOUT_MAX_MS,
    DEPOSITS_TOTAL_MAX_MICROQUOTE,
    PPM,
    PRICE_MAX_TICKS,
    QUOTE_MICROQUOTE,
    SUB_ACCOUNTS_MAX,
    TWAP_DURATION_MAX_MS,
    TWAP_INTERVAL_MAX_MS,
    TWAP_INTERVAL_MIN_MS,
    WITHDRAWAL_DESTINATION_BYTES,
)
from engine.receipts import ReasonCode
from mempool.account import SESSION_KEY_LIFETIME_MAX_MS
from mempool.refusal import RefusalCode
from node.cli.amounts import format_duration
from node.protocol import STATEMENTS_KEPT


class Reason(NamedTuple):
    """A code in words."""

    meaning: str
    advice: str
    """What to do next; empty where nothing is to be done."""


_UNKNOWN: Final = "this version of rota does not know the code"
_NEWER_NODE: Final = "use the node's version, or see the reference page of stable codes of that one"
_REPORT_BUG: Final = "use the same version of rota as the node, or report a bug of the client"
_RETRY: Final = "try again; each attempt is a new envelope"
_WAIT: Final = "try again in a moment"
_REPORTER: Final = "correct the oracle's feed"

REFUSAL_REASONS: Final = {
    RefusalCode.ENVELOPE_TOO_LARGE: Reason(
        "the envelope is larger than allowed", "split it into several"
    ),
    RefusalCode.ENVELOPE_MALFORMED: Reason("the bytes are no envelope", _REPORT_BUG),
    RefusalCode.WRONG_CHAIN: Reason(
        "the envelope is signed for another chain", "sign it for the chain that the node serves"
    ),
    RefusalCode.NAMESPACE_UNSUPPORTED: Reason(
        "the node serves no application of this namespace", "namespace 0 is the exchange"
    ),
    RefusalCode.KIND_UNSUPPORTED: Reason("this kind of body is not supported", _REPORT_BUG),
    RefusalCode.BODY_MISMATCH: Reason("the body is not the one that was signed", _REPORT_BUG),
    RefusalCode.KEYS_MALFORMED: Reason("the body is no list of key changes", _REPORT_BUG),
    RefusalCode.SIGNATURE_INVALID: Reason(
        "the signature does not belong to the signing key", _REPORT_BUG
    ),
    RefusalCode.ROOT_KEY_REQUIRED: Reason(
        "only the account's own key may change keys", "sign with the account's own key"
    ),
    RefusalCode.EXPIRED: Reason(
        "the envelope was not ordered before the height at which it expires", _RETRY
    ),
    RefusalCode.EXPIRY_TOO_FAR: Reason(
        "the envelope expires too far in the future", "choose a nearer expiry height"
    ),
    RefusalCode.ACCOUNT_UNKNOWN: Reason(
        "there is no such account", "an account exists from its first deposit on"
    ),
    RefusalCode.KEY_UNAUTHORISED: Reason(
        "the signing key may not act for this account",
        "authorise it with the account's own key, or sign with that one",
    ),
    RefusalCode.NONCE_TOO_OLD: Reason(
        "the nonce, a time in milliseconds, is too far in the past", "set this machine's clock"
    ),
    RefusalCode.NONCE_TOO_FAR: Reason(
        "the nonce, a time in milliseconds, is too far in the future", "set this machine's clock"
    ),
    RefusalCode.NONCE_TOO_LOW: Reason(
        "the nonce lies below all that the key may still use", _RETRY
    ),
    RefusalCode.NONCE_DUPLICATE: Reason("the key has used this nonce already", _RETRY),
    RefusalCode.FEE_INSUFFICIENT: Reason(
        "the account's fee credit does not cover the envelope", "add fee credit to the account"
    ),
    RefusalCode.KEY_DEAD: Reason(
        "this key expired or was revoked and can never be authorised again", "make a new key"
    ),
    RefusalCode.KEY_EXISTS: Reason("the account has this key already", "make a new key"),
    RefusalCode.KEY_UNKNOWN: Reason(
        "the account has no such key", "only a key that is authorised can be revoked"
    ),
    RefusalCode.KEY_TOO_MANY: Reason(
        "the account has as many keys as are allowed", "revoke one first"
    ),
    RefusalCode.KEY_EXPIRY_INVALID: Reason(
        "the key's expiry lies in the past or too far in the future",
        f"choose one at most {format_duration(SESSION_KEY_LIFETIME_MAX_MS)} ahead",
    ),
    RefusalCode.ENVELOPE_PENDING: Reason(
        "the node has this very envelope already", "wait for its receipt"
    ),
    RefusalCode.SENDER_FULL: Reason(
        "too many envelopes of this account wait at the node to be ordered", _WAIT
    ),
    RefusalCode.POOL_FULL: Reason(
        "too many envelopes wait at the node to be ordered", "try again, or another --node"
    ),
    RefusalCode.OPAQUE_MALFORMED: Reason(
        "the bytes are no whole number of transactions of the given size", _REPORT_BUG
    ),
    RefusalCode.NODE_FOLLOWS: Reason(
        "the node follows the chain without a part in it: it orders nothing", "try another --node"
    ),
}
"""The whole envelope was turned away."""

OUTCOME_REASONS: Final = {
    ReasonCode.OK: Reason("done as asked", ""),
    ReasonCode.BUNDLE_MALFORMED: Reason("the body is no bundle of instructions", _REPORT_BUG),
    ReasonCode.BUNDLE_EMPTY: Reason("the bundle has no instruction", _REPORT_BUG),
    ReasonCode.BUNDLE_TOO_MANY_INSTRUCTIONS: Reason(
        "the bundle has more instructions than allowed", "split it into several"
    ),
    ReasonCode.ACCOUNT_UNKNOWN: Reason(
        "there is no such account", "an account exists from its first deposit on"
    ),
    ReasonCode.ORDER_UNKNOWN_MARKET: Reason("there is no such market", "see `rota market list`"),
    ReasonCode.ORDER_SIZE_NOT_POSITIVE: Reason(
        "the size is not above zero", "order at least a lot: rota market show"
    ),
    ReasonCode.ORDER_SIZE_OVERFLOW: Reason(
        "the size is above the market's largest order", "split it into several orders"
    ),
    ReasonCode.ORDER_PRICE_NOT_POSITIVE: Reason(
        "the price is not above zero", "choose at least a tick: rota market show"
    ),
    ReasonCode.ORDER_PRICE_OVERFLOW: Reason(
        "the price is above every price of the market", f"choose at most {PRICE_MAX_TICKS:,} ticks"
    ),
    ReasonCode.ORDER_NOTIONAL_OVERFLOW: Reason(
        "price times size is above the largest value of an order", "split it into several orders"
    ),
    ReasonCode.ORDER_POSITION_OVERFLOW: Reason(
        "the position could grow beyond the largest one", "cancel open orders, or order less"
    ),
    ReasonCode.ORDER_BALANCE_OVERFLOW: Reason(
        "the balance could grow beyond the largest one", "order less"
    ),
    ReasonCode.ORDER_PRICE_BAND: Reason(
        "the price is outside the market's price band", "choose a price nearer to the index"
    ),
    ReasonCode.ORDER_CLIENT_ID_INVALID: Reason(
        "the client's number of the order is out of range",
        f"choose one from 1 to {CLIENT_ID_MAX}, or none",
    ),
    ReasonCode.ORDER_DUPLICATE_CLIENT_ID: Reason(
        "another open order has this client's number", "choose another --client-id"
    ),
    ReasonCode.ORDER_GOOD_TIL_INVALID: Reason(
        "the order's end of validity is out of range, or it is of a kind that never rests",
        "give an order that is ioc or fok no end",
    ),
    ReasonCode.ORDER_EXPIRED: Reason(
        "the order's time was over", "place it again with a later end of validity"
    ),
    ReasonCode.ORDER_TOO_MANY_OPEN: Reason(
        "the account has as many open orders as are allowed",
        "cancel some: rota order cancel-all",
    ),
    ReasonCode.ORDER_MARKET_FULL: Reason(
        "the market has as many open orders as it can hold, and all of its side are as good",
        "offer a better price, or take instead of resting: --tif ioc",
    ),
    ReasonCode.ORDER_DISPLACED: Reason(
        "the market has as many open orders as it can hold, and this one, the last of its side, "
        "gave its place to another",
        "",
    ),
    ReasonCode.ORDER_POST_ONLY_WOULD_CROSS: Reason(
        "it would have traded at once, and a post-only order must not",
        "choose a price on your own side of the book: rota market book",
    ),
    ReasonCode.ORDER_FOK_UNFILLABLE: Reason(
        "the book could not fill the whole order at once", "order less, or use --tif ioc"
    ),
    ReasonCode.ORDER_REDUCE_ONLY_WOULD_INCREASE: Reason(
        "there is no position that it would make smaller", "see `rota account show`"
    ),
    ReasonCode.ORDER_REDUCE_ONLY_SHRUNK: Reason(
        "reduce-only: it was cut to what makes the position smaller", ""
    ),
    ReasonCode.ORDER_SELF_TRADE: Reason(
        "it met an order of the same account, and what was left was cancelled",
        "cancel your order on the other side first",
    ),
    ReasonCode.ORDER_IOC_REMAINDER: Reason("what could not trade at once was cancelled", ""),
    ReasonCode.ORDER_TOO_MANY_MATCHES: Reason(
        "it had met as many resting orders as one sender's may in one block, so the rest of it was "
        "cancelled",
        "send the rest again: it goes on in the next block",
    ),
    ReasonCode.ORDER_UNKNOWN: Reason(
        "the account has no such open order",
        "see `rota order list`; what became of an order: rota account watch --past",
    ),
    ReasonCode.ORDER_REFERENCE_INVALID: Reason(
        "an order is named by its number or by the client's, one of the two", _REPORT_BUG
    ),
    ReasonCode.ORDER_CANCELLED_BY_OWNER: Reason("its owner cancelled it", ""),
    ReasonCode.MARGIN_INSUFFICIENT: Reason(
        "the account's equity does not cover the margin that the order needs",
        "order less, or cancel open orders; see `rota account show`",
    ),
    ReasonCode.ORACLE_NOT_A_REPORTER: Reason(
        "only a member's oracle key may report prices", "sign with that key"
    ),
    ReasonCode.ORACLE_UNKNOWN_MARKET: Reason("there is no such market", _REPORTER),
    ReasonCode.ORACLE_PRICE_INVALID: Reason("the reported price is out of range", _REPORTER),
    ReasonCode.ORACLE_SEQUENCE: Reason(
        "the report's number is not above the one before", _REPORTER
    ),
    ReasonCode.ORACLE_SOURCE_TIME: Reason(
        "the report's time is too old, ahead of the chain's, or before the last one", _REPORTER
    ),
    ReasonCode.ORACLE_NO_INDEX: Reason(
        "the market has no index price yet: members of a quorum have not reported", _WAIT
    ),
    ReasonCode.ORACLE_STALE: Reason(
        "the market's index price is too old; only orders that close a position are taken", _WAIT
    ),
    ReasonCode.ORDER_NOT_AMENDABLE: Reason(
        "an order that waits for a price or a time cannot be amended", "cancel it and place another"
    ),
    ReasonCode.WAITING_TOO_MANY: Reason(
        "the account has as many waiting orders as are allowed, or its owner as many trailing "
        "stops in the market",
        "cancel some: rota order cancel-all",
    ),
    ReasonCode.WAITING_MARKET_FULL: Reason(
        "the market has as many orders of this kind waiting as it can hold", _WAIT
    ),
    ReasonCode.TRIGGER_PRICE_INVALID: Reason(
        "the trigger price is out of range", f"choose 1 to {PRICE_MAX_TICKS:,} ticks"
    ),
    ReasonCode.TRIGGER_OFFSET_INVALID: Reason(
        "the distance of the trailing stop, or how far beyond it may trade, is out of range",
        f"choose each up to {PRICE_MAX_TICKS:,} ticks, the distance at least one",
    ),
    ReasonCode.TRIGGER_POST_ONLY: Reason(
        "an order that fires takes, so it cannot be post-only", "choose another time in force"
    ),
    ReasonCode.OCO_MARKETS_DIFFER: Reason(
        "the two orders of a pair are in different markets", "place both in one market"
    ),
    ReasonCode.OCO_LEGS_INVALID: Reason(
        "a pair has at most one limit order, which must be post-only",
        "make it post-only, or let it wait for a trigger",
    ),
    ReasonCode.ORDER_PARTNER_ENDED: Reason(
        "the other order of its pair fired, traded or ended", ""
    ),
    ReasonCode.DEAD_MAN_TIMEOUT_INVALID: Reason(
        "the time to the deadline is out of range",
        f"choose at most {format_duration(DEAD_MAN_TIMEOUT_MAX_MS)}",
    ),
    ReasonCode.ORDER_DEAD_MAN: Reason(
        "its owner's dead man's switch was not set again in time",
        "place it again, and set the switch again in time",
    ),
    ReasonCode.TWAP_SCHEDULE_INVALID: Reason(
        "interval or duration is out of range, the duration is no multiple of the interval, or "
        "there are more slices than lots",
        f"choose an interval from {format_duration(TWAP_INTERVAL_MIN_MS)} to "
        f"{format_duration(TWAP_INTERVAL_MAX_MS)}, and a duration up to "
        f"{format_duration(TWAP_DURATION_MAX_MS)}",
    ),
    ReasonCode.TWAP_ENDED: Reason("its duration is over", ""),
    ReasonCode.OPTION_SURFACE_INVALID: Reason(
        "the volatilities are not as many as the market's surface has, or out of its bounds",
        "report one for each knot, by time to expiry and strike",
    ),
    ReasonCode.OPTION_NOT_TRADING: Reason(
        "the option has expired, or no volatilities have been reported yet",
        "see `rota market list`",
    ),
    ReasonCode.OPTION_EXPIRED: Reason("the option expired", ""),
    ReasonCode.COLLATERAL_AMOUNT_INVALID: Reason(
        "the amount is not above zero, or above all that can ever be deposited",
        f"choose more than 0, up to {DEPOSITS_TOTAL_MAX_MICROQUOTE // QUOTE_MICROQUOTE}",
    ),
    ReasonCode.COLLATERAL_ORACLE_STALE: Reason(
        "the index price of a market in which the account has a position or orders is too old",
        _WAIT,
    ),
    ReasonCode.COLLATERAL_INSUFFICIENT: Reason(
        "what is left would not cover the initial margin of positions and open orders",
        "choose less, close positions or cancel orders; see `rota account show`",
    ),
    ReasonCode.COLLATERAL_OUT_OF_RANGE: Reason(
        "a balance would grow beyond the largest one", "choose less"
    ),
    ReasonCode.WITHDRAW_DESTINATION_INVALID: Reason(
        f"the destination is no address on L1, which has {WITHDRAWAL_DESTINATION_BYTES} bytes that "
        "are not all zero",
        f"name one of {2 * WITHDRAWAL_DESTINATION_BYTES} hexadecimal digits that are not all 0",
    ),
    ReasonCode.WITHDRAW_TOO_SMALL: Reason(
        "the amount is below the smallest withdrawal of the chain",
        "withdraw at least its genesis' withdrawal_min_microquote: rota genesis show",
    ),
    ReasonCode.WITHDRAW_GATED: Reason(
        "no collateral may leave while accounts lack more than insurance fund and fees can pay",
        "try again once their liquidations are over",
    ),
    ReasonCode.WITHDRAW_TOO_MANY: Reason(
        "the account has as many withdrawals pending as are allowed",
        "wait until L1 has settled one; see `rota account show`",
    ),
    ReasonCode.WITHDRAW_FULL: Reason(
        "as many withdrawals are pending as the chain can hold", "wait until L1 has settled some"
    ),
    ReasonCode.TRANSFER_TO_ITSELF: Reason(
        "an account cannot give to itself", "name another account, or another sub-account"
    ),
    ReasonCode.TRANSFER_ACCOUNT_UNKNOWN: Reason(
        "there is no account that could receive", "an account exists from its first deposit on"
    ),
    ReasonCode.TRANSFER_DESTINATION_INVALID: Reason(
        "the transfer names both an account and one of the sender's sub-accounts",
        "name one of the two",
    ),
    ReasonCode.BUNDLE_SESSION_UNKNOWN: Reason(
        "the session key that signed was revoked or has expired",
        "authorise a new one: rota account session authorise",
    ),
    ReasonCode.SESSION_SCOPE: Reason(
        "the session key may not do this", "sign with the account's own key"
    ),
    ReasonCode.SESSION_SUB_ACCOUNT: Reason(
        "the session key may not act for this sub-account", "sign with the account's own key"
    ),
    ReasonCode.SESSION_MARKET: Reason(
        "the session key may not act in this market, or in all of them at once",
        "name a market that it was authorised for, or sign with the account's own key",
    ),
    ReasonCode.SESSION_SPENT: Reason(
        "the session key would spend more than it was authorised to",
        "authorise a new one with a larger cap: rota account session authorise",
    ),
    ReasonCode.SUB_ACCOUNT_NUMBER_INVALID: Reason(
        f"sub-accounts are numbered from 1 to {SUB_ACCOUNTS_MAX}", "choose one of these"
    ),
    ReasonCode.PORTFOLIO_UNAVAILABLE: Reason(
        "no market of this chain has rules for portfolio margin", "stay with cross margin"
    ),
    ReasonCode.PORTFOLIO_TOO_MANY_MARKETS: Reason(
        "an account with portfolio margin may be in so many markets only",
        "close a position or cancel the orders of a market",
    ),
    ReasonCode.LIQUIDATION_ORDER_CANCELLED: Reason(
        "its account is liquidated, which begins with its orders",
        "deposit, or close positions: rota account show",
    ),
    ReasonCode.AUCTION_UNKNOWN: Reason(
        "nothing of that account is for sale (any more)",
        "see who is in auction: rota market liquidations",
    ),
    ReasonCode.AUCTION_OWN: Reason(
        "an account cannot bid for what it has itself",
        "see who else is in auction: rota market liquidations",
    ),
    ReasonCode.AUCTION_PORTION_INVALID: Reason(
        f"the portion is not between 1 and {PPM:,} ppm, or weighs less than a lot of some position",
        "choose a larger --part, up to 100%",
    ),
    ReasonCode.AUCTION_PREMIUM_INVALID: Reason(
        f"the premium is not between 0 and {PPM:,} ppm", "choose a --premium from 0% to 100%"
    ),
    ReasonCode.AUCTION_PREMIUM_TOO_HIGH: Reason(
        "the auction does not offer so much yet", "ask for less, or bid again later"
    ),
    ReasonCode.AUCTION_SOLD: Reason(
        "others asked for less and took what was for sale",
        "see what is left: rota market liquidations",
    ),
    ReasonCode.AUCTION_UNINSURED: Reason(
        "the insurance fund cannot pay for any part of it", "ask for less"
    ),
    ReasonCode.AUCTION_TOO_MANY_BIDS: Reason(
        "a block looks at so many bids only", "bid again in the next block"
    ),
}
"""The envelope was ordered; this became of one of its instructions."""


_NO_ACCOUNT: Final = OUTCOME_REASONS[ReasonCode.ACCOUNT_UNKNOWN]

DOOR_REASONS: Final = {
    "account.unknown": Reason(_NO_ACCOUNT.meaning, f"{_NO_ACCOUNT.advice}: rota account list"),
    "block.unknown": Reason(
        "the node has committed no such block",
        "choose a height up to the committed one: rota localnet status",
    ),
    "checkpoint.unknown": Reason(
        "the height is no checkpoint of the node, or above what it has executed",
        "choose a height up to the executed one that ordered something, or a multiple of "
        f"{CHECKPOINT_INTERVAL}",
    ),
    "door.duplicate_request": Reason("a request of this number is still unanswered", _REPORT_BUG),
    "door.forgeries": Reason(
        "too many envelopes from this address had wrong signatures",
        "see that every client here signs with the right key, and try again later",
    ),
    "door.full": Reason("the node serves as many clients as it may", "try another --node"),
    "door.malformed": Reason("the bytes are no frame of this protocol", _REPORT_BUG),
    "door.no_hello": Reason("the client made a request before its greeting", _REPORT_BUG),
    "door.subscription": Reason("one too many, one twice, or one of a wrong form", _REPORT_BUG),
    "door.version": Reason("the node speaks another version of the protocol", _REPORT_BUG),
    "envelope.unknown": Reason(
        "the envelope was never received here, or so long ago that it is forgotten",
        "try another --node",
    ),
    "market.unknown": Reason("there is no such market", "see `rota market list`"),
    "order.unknown": Reason(
        "there is no such open order",
        "see `rota order list`; what became of an order: rota account watch --past",
    ),
    "query.failed": Reason(
        "the view broke: a bug of the node, which its log shows", "report it with that log"
    ),
    "query.malformed": Reason(
        "the arguments are not those of the view", "correct what the node names"
    ),
    "query.overloaded": Reason("too many queries wait at the node already", _WAIT),
    "query.unknown": Reason("the node has no such view", _REPORT_BUG),
    "solvency.damaged": Reason(
        "the node's file with the statement is damaged", "try another --node, or wait a minute"
    ),
    "solvency.unknown": Reason(
        "the node has no statement about that height; one is made a minute after the first block, "
        f"and then each minute, and the newest {STATEMENTS_KEPT} are kept",
        "wait a minute, or name no height",
    ),
}
"""A node refused a request; its own words for it say more of the case."""


def explain_refused_request(code: str) -> Reason:
    """A code of `DOOR_REASONS`; one of a newer node speaks for itself."""
    return DOOR_REASONS.get(code, Reason(_UNKNOWN, _NEWER_NODE))


def explain(code: str) -> Reason:
    """Why an envelope or instruction ended as it did; a code of a newer node speaks for itself."""
    return _BY_CODE.get(code, Reason(_UNKNOWN, _NEWER_NODE))


_BY_CODE: Final = {
    code.value: reason for code, reason in (*OUTCOME_REASONS.items(), *REFUSAL_REASONS.items())
}
"""A code that both have means the same in both."""
