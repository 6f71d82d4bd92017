"""What holds of the header ledger under any sequence of blocks whatsoever."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mempool.keys import AuthorizeKey, KeyScope, RevokeKey
from mempool.ledger import KEY_ACTIVATION_DELAY_HEIGHTS, FeeSchedule, HeaderLedger

ACCOUNTS = 3
SIGNERS = 5
"""The accounts' own keys, and two that are session keys at times."""
CREDIT_MICROQUOTE = 60_000
FEES = FeeSchedule(100, 1, 500)

plain = st.tuples(
    st.just("plain"),
    st.integers(0, ACCOUNTS),  # One account more than there is.
    st.integers(0, SIGNERS - 1),
    st.integers(0, 200),
    st.integers(0, 60),
)
key_change = st.tuples(
    st.sampled_from(["authorize", "revoke"]),
    st.integers(0, ACCOUNTS),
    st.integers(ACCOUNTS, SIGNERS - 1),
    st.integers(0, 200),
    st.integers(1, 30),
)
blocks = st.lists(st.lists(st.one_of(plain, plain, key_change), max_size=12), max_size=40)


def build_envelope(make_trader, time_ms, item):
    kind, account, other, nonce, extra = item
    trader, signer = make_trader(account), make_trader(other)
    if kind == "plain":
        key = signer.key if other >= ACCOUNTS else trader.key
        return trader.summary(time_ms + nonce, bytes(10), signer=key, expiry_height=extra)
    if kind == "authorize":
        change = AuthorizeKey(signer.key, time_ms + extra, KeyScope.TRADE)
    else:
        change = RevokeKey(signer.key)
    return trader.key_summary(time_ms + nonce, change)


def genesis(make_trader, time_ms) -> HeaderLedger:
    ledger = HeaderLedger(time_ms, FEES)
    for number in range(ACCOUNTS):
        ledger.apply_credit(make_trader(number).key, CREDIT_MICROQUOTE)
    return ledger


def apply(ledger, envelopes):
    return ledger.apply_block(ledger.height + 1, ledger.time_ms + 1, envelopes)


@given(blocks)
@settings(max_examples=120, deadline=None)
def test_no_nonce_counts_twice_and_no_fee_is_lost(make_trader, time_ms, plan):
    ledger = genesis(make_trader, time_ms)
    seen = set()
    for block in plan:
        envelopes = [build_envelope(make_trader, time_ms, item) for item in block]
        for envelope, verdict in zip(envelopes, apply(ledger, envelopes), strict=True):
            header = envelope.header
            if verdict is None:
                place = (header.sender, header.signer, header.nonce)
                assert place not in seen
                assert ledger.height < header.expiry_height
                seen.add(place)
        credits_left = sum(ledger.credit_of(make_trader(n).key) for n in range(ACCOUNTS))
        assert credits_left + ledger.fees_collected_microquote == ACCOUNTS * CREDIT_MICROQUOTE
        assert len(ledger) == ACCOUNTS


@given(blocks, st.integers(0, 40), st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_a_snapshot_and_the_tail_equal_the_live_ledger(
    make_trader, time_ms, plan, cut, roots_every
):
    live, tail = genesis(make_trader, time_ms), genesis(make_trader, time_ms)
    for number, block in enumerate(plan):
        envelopes = [build_envelope(make_trader, time_ms, item) for item in block]
        if number == cut:
            tail = HeaderLedger.restore(live.snapshot(), live.root())
        assert apply(tail, envelopes) == apply(live, envelopes)
        # How often the root is asked for must not change what it is.
        if roots_every and number % roots_every == 0:
            live.root()
    assert tail.root() == live.root()
    assert tail.snapshot() == live.snapshot()


@given(st.lists(plain, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_independent_envelopes_pass_in_any_order(make_trader, time_ms, plan, random):
    """Distinct nonces, enough credit and no full window: then order decides nothing."""
    items = list({(item[1], item[3]): item for item in plan}.values())
    envelopes = [build_envelope(make_trader, time_ms, item) for item in items]
    shuffled = list(envelopes)
    random.shuffle(shuffled)
    first, second = genesis(make_trader, time_ms), genesis(make_trader, time_ms)
    by_id = dict(zip((e.envelope_id for e in envelopes), apply(first, envelopes), strict=True))
    verdicts = apply(second, shuffled)
    assert [by_id[each.envelope_id] for each in shuffled] == list(verdicts)
    assert first.root() == second.root()


@given(st.lists(st.integers(1, 600), min_size=300, max_size=700))
@settings(max_examples=25, deadline=None)
def test_no_nonce_counts_twice_when_windows_overflow(make_trader, time_ms, nonces):
    ledger, trader = genesis(make_trader, time_ms), make_trader(0)
    half = len(nonces) // 2
    accepted = []
    for part in (nonces[:half], nonces[half:], nonces):
        verdicts = apply(ledger, [trader.summary(time_ms + nonce) for nonce in part])
        accepted += [n for n, verdict in zip(part, verdicts, strict=True) if verdict is None]
        ledger = HeaderLedger.restore(ledger.snapshot(), ledger.root())
    assert len(accepted) == len(set(accepted))


key_life = st.lists(st.sampled_from(["authorize", "revoke", "use"]), max_size=30)


@given(key_life)
@settings(max_examples=100, deadline=None)
def test_no_nonce_of_a_session_key_counts_twice_through_death_and_return(
    make_trader, time_ms, plan
):
    """Key changes are given time to take effect, so that the key lives, dies and asks again."""
    ledger, root, session = genesis(make_trader, time_ms), make_trader(0), make_trader(4)
    ledger.apply_credit(root.key, 10**9)
    passed = 0
    for number, action in enumerate(plan):
        if action == "use":
            envelope = root.summary(time_ms, signer=session.key, expiry_height=1000)
            passed += apply(ledger, [envelope]) == (None,)
            continue
        change = (
            AuthorizeKey(session.key, ledger.time_ms + 50, KeyScope.TRADE)
            if action == "authorize"
            else RevokeKey(session.key)
        )
        apply(ledger, [root.key_summary(time_ms + number, change, expiry_height=1000)])
        for _ in range(KEY_ACTIVATION_DELAY_HEIGHTS):
            apply(ledger, ())
    assert passed <= 1
