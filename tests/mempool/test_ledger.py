"""The header ledger's rules, one by one."""

import pytest

from crypto.codec import decode, encode
from mempool.account import CREDIT_MAX_MICROQUOTE, SESSION_KEY_LIFETIME_MAX_MS, SESSION_KEYS_MAX
from mempool.keys import AuthorizeKey, KeyScope, RevokeKey
from mempool.ledger import (
    EXPIRY_AHEAD_MAX_HEIGHTS,
    KEY_ACTIVATION_DELAY_HEIGHTS,
    NONCE_FUTURE_MAX_MS,
    NONCE_PAST_MAX_MS,
    FeeSchedule,
    HeaderLedger,
    LedgerError,
    LedgerSnapshot,
)
from mempool.nonce import NONCE_WINDOW
from mempool.refusal import RefusalCode


def apply(ledger: HeaderLedger, *envelopes, time_ms: int | None = None):
    return ledger.apply_block(ledger.height + 1, time_ms or ledger.time_ms + 1, envelopes)


def advance(ledger: HeaderLedger, heights: int) -> None:
    for _ in range(heights):
        apply(ledger)


def test_an_envelope_counts_once_at_its_first_position(alice, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    envelope, other = alice.summary(time_ms), alice.summary(time_ms + 1)
    assert apply(ledger, envelope, other, envelope) == (None, None, RefusalCode.NONCE_DUPLICATE)
    assert apply(ledger, other) == (RefusalCode.NONCE_DUPLICATE,)


def test_another_envelope_with_a_spent_nonce_is_refused(alice, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    first, second = alice.summary(time_ms, b"buy"), alice.summary(time_ms, b"sell")
    assert apply(ledger, second, first) == (None, RefusalCode.NONCE_DUPLICATE)


def test_a_nonce_that_fell_out_of_the_window_is_too_low(alice, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    assert set(apply(ledger, *(alice.summary(time_ms + n) for n in range(NONCE_WINDOW + 1)))) == {
        None
    }
    assert apply(ledger, alice.summary(time_ms)) == (RefusalCode.NONCE_TOO_LOW,)


def test_nonces_keep_near_the_time_of_the_block(alice, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    block_ms = time_ms + 1
    nonces = (
        block_ms - NONCE_PAST_MAX_MS - 1,
        block_ms - NONCE_PAST_MAX_MS,
        block_ms + NONCE_FUTURE_MAX_MS,
        block_ms + NONCE_FUTURE_MAX_MS + 1,
    )
    verdicts = apply(ledger, *map(alice.summary, nonces), time_ms=block_ms)
    assert verdicts == (RefusalCode.NONCE_TOO_OLD, None, None, RefusalCode.NONCE_TOO_FAR)


def test_an_envelope_is_refused_from_its_expiry_height_on(alice, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    advance(ledger, 4)
    late, in_time = (alice.summary(time_ms + n, expiry_height=5 + n) for n in range(2))
    assert apply(ledger, late, in_time) == (RefusalCode.EXPIRED, None)


def test_expiry_may_not_lie_too_far_ahead(alice, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    fits, too_far = (
        alice.summary(time_ms + n, expiry_height=1 + EXPIRY_AHEAD_MAX_HEIGHTS + n) for n in range(2)
    )
    assert apply(ledger, fits, too_far) == (None, RefusalCode.EXPIRY_TOO_FAR)


def test_passing_costs_base_and_bytes_exactly(alice, make_ledger, time_ms):
    ledger = HeaderLedger(time_ms, FeeSchedule(1000, 10, 5000))
    ledger.apply_credit(alice.key, 10_000)
    assert apply(ledger, alice.summary(time_ms, b"x" * 30)) == (None,)
    assert ledger.credit_of(alice.key) == 10_000 - 1300
    change = AuthorizeKey(bytes(32), time_ms + 1000, KeyScope.TRADE)
    keys = alice.key_summary(time_ms + 1, change)
    fee = 1000 + 10 * keys.header.body_size_bytes + 5000
    assert apply(ledger, keys) == (None,)
    assert ledger.credit_of(alice.key) == 10_000 - 1300 - fee
    assert ledger.fees_collected_microquote == 1300 + fee


def test_credit_must_cover_the_fee_and_may_be_used_up(alice, time_ms):
    ledger = HeaderLedger(time_ms, FeeSchedule(100, 0, 0))
    ledger.apply_credit(alice.key, 250)
    envelopes = [alice.summary(time_ms + n) for n in range(3)]
    assert apply(ledger, *envelopes) == (None, None, RefusalCode.FEE_INSUFFICIENT)
    assert ledger.credit_of(alice.key) == 50
    ledger.apply_credit(alice.key, 50)
    assert apply(ledger, envelopes[2]) == (None,)


def test_a_refused_envelope_changes_nothing(alice, bob, make_ledger, time_ms):
    ledger, twin = make_ledger(alice.key), make_ledger(alice.key)
    refused = (
        alice.summary(time_ms, expiry_height=1),
        alice.summary(1),
        alice.summary(time_ms, signer=bob.key),
        alice.key_summary(time_ms, RevokeKey(bob.key)),
        bob.summary(time_ms),
    )
    assert None not in apply(ledger, *refused)
    apply(twin)
    assert ledger.root() == twin.root()
    assert ledger.snapshot() == twin.snapshot()
    assert apply(ledger, alice.summary(time_ms)) == (None,)


def test_a_stranger_without_credit_leaves_no_trace(alice, make_trader, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    strangers = [make_trader(number) for number in range(100, 150)]
    verdicts = apply(ledger, *(each.summary(time_ms) for each in strangers))
    assert set(verdicts) == {RefusalCode.ACCOUNT_UNKNOWN}
    assert len(ledger) == 1
    ledger.apply_credit(strangers[0].key, 0)
    assert len(ledger) == 1


def test_credit_stays_in_range(alice, time_ms):
    ledger = HeaderLedger(time_ms)
    ledger.apply_credit(alice.key, CREDIT_MAX_MICROQUOTE)
    for amount in (1, -1):
        with pytest.raises(LedgerError) as raised:
            ledger.apply_credit(alice.key, amount)
        assert raised.value.code == "ledger.credit_out_of_range"


def test_oracle_keys_report_without_credit_until_they_are_replaced(alice, bob, time_ms):
    ledger = HeaderLedger(time_ms)
    ledger.apply_oracle_keys([alice.key])
    assert apply(ledger, alice.summary(time_ms), bob.summary(time_ms)) == (
        None,
        RefusalCode.ACCOUNT_UNKNOWN,
    )
    change = AuthorizeKey(bob.key, time_ms + 1000, KeyScope.TRADE)
    assert apply(ledger, alice.key_summary(time_ms + 1, change)) == (RefusalCode.FEE_INSUFFICIENT,)
    ledger.apply_oracle_keys([bob.key])
    assert apply(ledger, alice.summary(time_ms + 2), bob.summary(time_ms)) == (
        RefusalCode.FEE_INSUFFICIENT,
        None,
    )
    assert apply(ledger, alice.summary(time_ms)) == (RefusalCode.NONCE_DUPLICATE,)


# ---- session keys --------------------------------------------------------------------------


def authorize(ledger, alice, key, nonce, lifetime_ms=10_000, scope=KeyScope.TRADE):
    change = AuthorizeKey(key, ledger.time_ms + lifetime_ms, scope)
    return apply(ledger, alice.key_summary(nonce, change))


def test_a_session_key_signs_only_after_the_delay(alice, bob, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    assert authorize(ledger, alice, bob.key, time_ms) == (None,)
    assert ledger.scope_of(alice.key, bob.key) is None
    for _ in range(KEY_ACTIVATION_DELAY_HEIGHTS - 1):
        early = alice.summary(time_ms, signer=bob.key)
        assert apply(ledger, early) == (RefusalCode.KEY_UNAUTHORISED,)
    assert apply(ledger, alice.summary(time_ms, signer=bob.key)) == (None,)
    assert ledger.scope_of(alice.key, bob.key) is KeyScope.TRADE
    assert ledger.scope_of(alice.key, alice.key) is KeyScope.FULL
    assert ledger.scope_of(bob.key, bob.key) is None


def test_each_signing_key_has_a_window_of_its_own(alice, bob, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    authorize(ledger, alice, bob.key, time_ms)
    advance(ledger, KEY_ACTIVATION_DELAY_HEIGHTS)
    by_session = alice.summary(time_ms, signer=bob.key)
    assert apply(ledger, by_session, by_session) == (None, RefusalCode.NONCE_DUPLICATE)
    assert apply(ledger, alice.summary(time_ms)) == (RefusalCode.NONCE_DUPLICATE,)


def test_a_session_key_of_one_account_signs_for_no_other(alice, bob, make_trader, make_ledger):
    ledger = make_ledger(alice.key, bob.key)
    session = make_trader(9).key
    authorize(ledger, alice, session, ledger.time_ms)
    advance(ledger, KEY_ACTIVATION_DELAY_HEIGHTS)
    assert apply(ledger, bob.summary(ledger.time_ms, signer=session)) == (
        RefusalCode.KEY_UNAUTHORISED,
    )


def test_an_expired_key_is_dead_for_ever(alice, bob, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    authorize(ledger, alice, bob.key, time_ms, lifetime_ms=10_000)
    advance(ledger, KEY_ACTIVATION_DELAY_HEIGHTS)
    used = alice.summary(time_ms, signer=bob.key)
    expires_ms = time_ms + 10_000
    assert apply(ledger, used, time_ms=expires_ms - 1) == (None,)
    fresh = alice.summary(time_ms + 1, signer=bob.key)
    assert apply(ledger, fresh, time_ms=expires_ms) == (RefusalCode.KEY_UNAUTHORISED,)
    assert authorize(ledger, alice, bob.key, time_ms + 1) == (RefusalCode.KEY_DEAD,)
    advance(ledger, KEY_ACTIVATION_DELAY_HEIGHTS)
    assert apply(ledger, used) == (RefusalCode.KEY_UNAUTHORISED,)


def test_a_revoked_key_signs_until_the_delay_is_over_and_never_again(
    alice, bob, make_ledger, time_ms
):
    ledger = make_ledger(alice.key)
    authorize(ledger, alice, bob.key, time_ms)
    advance(ledger, KEY_ACTIVATION_DELAY_HEIGHTS)
    revoke = RevokeKey(bob.key)
    assert apply(ledger, alice.key_summary(time_ms + 1, revoke)) == (None,)
    assert apply(ledger, alice.key_summary(time_ms + 2, revoke)) == (RefusalCode.KEY_UNKNOWN,)
    advance(ledger, KEY_ACTIVATION_DELAY_HEIGHTS - 3)
    first, second = (alice.summary(time_ms + n, signer=bob.key) for n in range(2))
    assert apply(ledger, first) == (None,)
    assert apply(ledger, second) == (RefusalCode.KEY_UNAUTHORISED,)
    assert authorize(ledger, alice, bob.key, time_ms + 2) == (RefusalCode.KEY_DEAD,)


def test_a_key_may_be_revoked_before_it_ever_became_active(alice, bob, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    authorize(ledger, alice, bob.key, time_ms)
    assert apply(ledger, alice.key_summary(time_ms + 1, RevokeKey(bob.key))) == (None,)
    advance(ledger, 2 * KEY_ACTIVATION_DELAY_HEIGHTS)
    assert ledger.scope_of(alice.key, bob.key) is None
    assert authorize(ledger, alice, bob.key, time_ms + 2) == (RefusalCode.KEY_DEAD,)


def test_key_changes_are_all_or_nothing(alice, bob, make_trader, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    good = AuthorizeKey(bob.key, time_ms + 10_000, KeyScope.FULL)
    bad = RevokeKey(make_trader(3).key)
    assert apply(ledger, alice.key_summary(time_ms, good, bad)) == (RefusalCode.KEY_UNKNOWN,)
    advance(ledger, KEY_ACTIVATION_DELAY_HEIGHTS)
    assert ledger.scope_of(alice.key, bob.key) is None


def test_keys_that_cannot_be_authorised_are_refused(alice, bob, make_ledger, time_ms):
    ledger = make_ledger(alice.key)
    now_ms = ledger.time_ms + 1
    for nonce, (key, expires_ms, code) in enumerate(
        (
            (alice.key, now_ms + 10, RefusalCode.KEY_EXISTS),
            (bob.key, now_ms, RefusalCode.KEY_EXPIRY_INVALID),
            (bob.key, now_ms + SESSION_KEY_LIFETIME_MAX_MS + 1, RefusalCode.KEY_EXPIRY_INVALID),
            (bob.key, now_ms + SESSION_KEY_LIFETIME_MAX_MS, None),
            (bob.key, now_ms + 10, RefusalCode.KEY_EXISTS),
        )
    ):
        change = AuthorizeKey(key, expires_ms + nonce, KeyScope.TRADE)
        assert apply(ledger, alice.key_summary(time_ms + nonce, change)) == (code,)


def test_living_keys_are_limited_and_a_full_account_can_still_revoke(
    alice, make_trader, make_ledger, time_ms
):
    ledger = make_ledger(alice.key)
    keys = [make_trader(number).key for number in range(10, 11 + SESSION_KEYS_MAX)]
    for nonce, key in enumerate(keys[:-1]):
        assert authorize(ledger, alice, key, time_ms + nonce) == (None,)
    full = RefusalCode.KEY_TOO_MANY
    assert authorize(ledger, alice, keys[-1], time_ms + 50) == (full,)
    assert apply(ledger, alice.key_summary(time_ms + 50, RevokeKey(keys[0]))) == (None,)
    assert authorize(ledger, alice, keys[-1], time_ms + 51) == (full,)
    advance(ledger, KEY_ACTIVATION_DELAY_HEIGHTS)
    assert authorize(ledger, alice, keys[-1], time_ms + 51) == (None,)


# ---- snapshots -----------------------------------------------------------------------------


def test_a_snapshot_is_refused_unless_it_is_exactly_of_the_root(alice, bob, make_ledger, time_ms):
    ledger = make_ledger(alice.key, bob.key)
    apply(ledger, alice.summary(time_ms))
    data, root = ledger.snapshot(), ledger.root()
    assert HeaderLedger.restore(data, root).root() == root
    other = make_ledger(alice.key)
    for bad_data, bad_root in (
        (data, bytes(32)),
        (other.snapshot(), root),
        (data[:-1], root),
        (data + b"\x00", root),
        (b"", root),
    ):
        with pytest.raises(LedgerError) as raised:
            HeaderLedger.restore(bad_data, bad_root)
        assert raised.value.code == "ledger.snapshot_invalid"


def test_a_snapshot_that_repeats_an_account_is_refused(alice, make_ledger):
    ledger = make_ledger(alice.key)
    snapshot = decode(LedgerSnapshot, ledger.snapshot())
    repeated = encode(LedgerSnapshot(snapshot.meta, snapshot.accounts * 2))
    with pytest.raises(LedgerError):
        HeaderLedger.restore(repeated, ledger.root())


def test_the_root_covers_height_time_fees_credit_and_nonces(alice, bob, make_ledger, time_ms):
    def build(change):
        ledger = make_ledger(alice.key)
        change(ledger)
        return ledger.root()

    roots = [
        build(lambda ledger: None),
        build(lambda ledger: apply(ledger)),
        build(lambda ledger: apply(ledger, time_ms=time_ms + 2)),
        build(lambda ledger: apply(ledger, alice.summary(time_ms))),
        build(lambda ledger: apply(ledger, alice.summary(time_ms + 1))),
        build(lambda ledger: ledger.apply_credit(alice.key, 1)),
        build(lambda ledger: ledger.apply_oracle_keys([alice.key])),
        build(lambda ledger: authorize(ledger, alice, bob.key, time_ms)),
        build(lambda ledger: authorize(ledger, alice, bob.key, time_ms, scope=KeyScope.FULL)),
        HeaderLedger(time_ms, FeeSchedule(base_microquote=1)).root(),
        HeaderLedger(time_ms).root(),
    ]
    assert len(set(roots)) == len(roots)
