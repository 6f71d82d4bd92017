"""The nonce window lets every nonce through at most once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mempool.nonce import NONCE_WINDOW, NonceWindow
from mempool.refusal import RefusalCode


def offer(window: NonceWindow, nonce: int) -> bool:
    if window.check(nonce) is not None:
        return False
    window.apply_nonce(nonce)
    return True


@given(st.lists(st.integers(min_value=0, max_value=400), max_size=900))
@settings(max_examples=150)
def test_no_nonce_passes_twice_however_often_the_window_overflows(nonces):
    window = NonceWindow()
    passed = [nonce for nonce in nonces if offer(window, nonce)]
    assert len(passed) == len(set(passed))
    assert len(window) <= NONCE_WINDOW


@given(st.permutations(range(1, NONCE_WINDOW + 1)))
@settings(max_examples=20)
def test_a_window_full_of_nonces_passes_in_any_order(nonces):
    window = NonceWindow()
    assert all(offer(window, nonce) for nonce in nonces)
    assert window.watermark == 0


def test_rising_nonces_pass_without_end_and_old_ones_are_too_low():
    window = NonceWindow()
    assert all(offer(window, nonce) for nonce in range(1, 1000))
    assert window.watermark == 999 - NONCE_WINDOW
    assert window.check(window.watermark) is RefusalCode.NONCE_TOO_LOW
    assert window.check(window.watermark + 1) is RefusalCode.NONCE_DUPLICATE
    assert window.check(1000) is None


def test_a_nonce_below_a_full_window_passes_once_and_closes_what_lies_below():
    window = NonceWindow()
    assert all(offer(window, nonce) for nonce in range(1000, 1000 + NONCE_WINDOW))
    assert offer(window, 500)
    assert not offer(window, 500)
    assert window.check(499) is RefusalCode.NONCE_TOO_LOW
    assert offer(window, 501)


def test_nonce_zero_never_passes():
    assert NonceWindow().check(0) is RefusalCode.NONCE_TOO_LOW


@given(st.lists(st.integers(min_value=1, max_value=2**63 - 1), max_size=200))
@settings(max_examples=50)
def test_a_window_survives_packing(nonces):
    window = NonceWindow()
    for nonce in nonces:
        offer(window, nonce)
    packed = window.pack()
    again = NonceWindow.unpack(window.watermark, packed)
    assert (again.watermark, again.pack(), len(again)) == (window.watermark, packed, len(window))
    assert all(again.check(nonce) == window.check(nonce) for nonce in nonces)


def test_the_packed_form_is_big_endian():
    window = NonceWindow()
    window.apply_nonce(258)
    assert window.pack() == bytes([0, 0, 0, 0, 0, 0, 1, 2])


@pytest.mark.parametrize(
    ("watermark", "packed"),
    [
        (0, bytes(7)),
        (0, bytes(8)),
        (9, (9).to_bytes(8, "big")),
        (0, (2).to_bytes(8, "big") + (1).to_bytes(8, "big")),
        (0, (2).to_bytes(8, "big") * 2),
        (0, b"".join(n.to_bytes(8, "big") for n in range(1, NONCE_WINDOW + 2))),
    ],
)
def test_bytes_that_no_window_packs_are_refused(watermark, packed):
    with pytest.raises(ValueError, match=r"nonces|multiple"):
        NonceWindow.unpack(watermark, packed)
