"""The header proof: each of its checks is needed, and a batch says what single checks say."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from crypto.group import (
    ORDER,
    G,
    decode_curve_point,
    decode_g1,
    encode_g1,
    encode_scalar,
    is_torsion,
    multiply,
)
from crypto.threshold import proof
from crypto.threshold.mock_dealer import derive_test_scalar
from crypto.threshold.proof import (
    SECOND_GENERATOR,
    SINGLE_CHECKS_MAX,
    check_headers,
    compute_challenge,
    find_header_fault,
)
from crypto.threshold.sealed import (
    HEADER_SIZE_BYTES,
    POINTS_SIZE_BYTES,
    SIZE_CLASSES_BYTES,
    SealFault,
)
from crypto.threshold.sealing import open_body

FAULT_OF_LENGTH = {
    0: SealFault.SIZE,
    224: SealFault.SIZE,
    511: SealFault.SIZE,
    513: SealFault.SIZE,
    SIZE_CLASSES_BYTES[-1] + 1: SealFault.SIZE,
    2 * SIZE_CLASSES_BYTES[-1]: SealFault.SIZE,
}


def judge(label, body):
    """The verdict of the single check, having seen that the batch's is the same."""
    single = find_header_fault(label, body)
    (batch,) = check_headers([(label, body)], bytes(32))
    assert (batch if isinstance(batch, SealFault) else None) == single
    return single


def prove(
    label, ciphertext, exponent, exponent_bar=None, *, shift=G - G, shift_bar=G - G, blinding=5
):
    """A header by the book, but for another exponent under Gbar or shifted commitments."""
    points = encode_g1(multiply(G, exponent))
    points += encode_g1(multiply(SECOND_GENERATOR, exponent_bar or exponent))
    points += encode_g1(multiply(G, blinding) + shift)
    points += encode_g1(multiply(SECOND_GENERATOR, blinding) + shift_bar)
    challenge = compute_challenge(label, points, ciphertext)
    return points + encode_scalar(blinding + challenge * exponent) + ciphertext


def change_label(block, **changes):
    return replace(block.label, **changes).compute_digest()


def test_honest_bodies_pass_and_yield_their_points(block):
    verdicts = check_headers(block.items, block.seed)
    assert verdicts == block.points
    for body, point in zip(block.bodies, block.points, strict=True):
        assert proof.encode_g1_wide(decode_g1(body[:48])) == point


def test_nothing_to_check_is_no_fault():
    assert check_headers([], bytes(32)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"chain_id": b"\x99" * 32},
        {"key_id": b"\x99" * 32},
        {"namespace": 1},
        {"sender": b"\x99" * 32},
        {"signer": b"\x99" * 32},
        {"nonce": 8},
        {"expiry_height": 901},
        {"fee": 1_001},
        {"size_class": 1},
    ],
)
def test_a_body_copied_under_another_label_is_refused(block, changes):
    """Another sender's copy, a replay on another chain or in another epoch, a later expiry."""
    body = block.seal(b"order")
    assert judge(block.label.compute_digest(), body) is None
    assert judge(change_label(block, **changes), body) is SealFault.PROOF


def test_the_label_has_no_field_that_its_digest_leaves_out(block):
    """A field added to the label must come into the test above."""
    assert len(block.label.__struct_fields__) == 9


@pytest.mark.parametrize("length", FAULT_OF_LENGTH)
def test_a_body_of_no_class_is_refused(block, length):
    body = (block.bodies[0] * (length // 512 + 1))[:length]
    assert judge(block.labels[0], body) is FAULT_OF_LENGTH[length]


@pytest.mark.parametrize("offset", [0, 48, 96, 144])
def test_points_that_are_none_are_refused(block, offset):
    label, body = block.items[0]
    for point in (b"\xc0" + bytes(47), bytes(48), b"\xff" * 48, b"\x80" + bytes(46) + b"\x01"):
        changed = body[:offset] + point + body[offset + 48 :]
        assert judge(label, changed) is SealFault.POINT


def test_a_response_that_is_not_reduced_is_refused(block):
    label, body = block.items[0]
    response = int.from_bytes(body[POINTS_SIZE_BYTES:HEADER_SIZE_BYTES], "big")
    for other in (response + ORDER, ORDER, 2**256 - 1):
        data = min(other, 2**256 - 1).to_bytes(32, "big")
        changed = body[:POINTS_SIZE_BYTES] + data + body[HEADER_SIZE_BYTES:]
        assert judge(label, changed) is SealFault.SCALAR


@pytest.mark.parametrize(("first", "second"), [(0, 48), (0, 96), (48, 144), (96, 144), (0, 144)])
def test_swapped_points_are_refused(block, first, second):
    label, body = block.items[0]
    changed = bytearray(body)
    changed[first : first + 48] = body[second : second + 48]
    changed[second : second + 48] = body[first : first + 48]
    assert judge(label, bytes(changed)) is SealFault.PROOF


@pytest.mark.parametrize("offset", [192, 223, 224, 511])
def test_a_changed_response_or_ciphertext_is_refused(block, offset):
    label, body = block.items[0]
    changed = body[:offset] + bytes([body[offset] ^ 1]) + body[offset + 1 :]
    assert judge(label, changed) in (SealFault.PROOF, SealFault.SCALAR)


def test_the_challenge_depends_on_every_point_the_ciphertext_and_the_label(block):
    label, body = block.items[0]
    points, ciphertext = body[:POINTS_SIZE_BYTES], body[HEADER_SIZE_BYTES:]
    challenge = compute_challenge(label, points, ciphertext)
    others = {
        compute_challenge(block.labels[1], points, ciphertext),
        compute_challenge(label, points, ciphertext[:-1]),
        *(
            compute_challenge(label, points[:at] + b"\x00" + points[at + 1 :], ciphertext)
            for at in (20, 68, 116, 164)
        ),
    }
    assert len(others | {challenge}) == 7
    assert challenge < 2**128


def test_a_related_ciphertext_is_refused_and_would_have_opened_its_victim(block):
    """Without the proof: U + dG, opened under another account, gives the victim's key."""
    label, body = block.items[0]
    shift = derive_test_scalar("shift")
    related = encode_g1(decode_g1(body[:48]) + multiply(G, shift)) + body[48:]
    related_bar = encode_g1(decode_g1(body[48:96]) + multiply(SECOND_GENERATOR, shift))
    assert judge(block.labels[1], related) is SealFault.PROOF
    both = related[:48] + related_bar + body[96:]
    assert judge(block.labels[1], both) is SealFault.PROOF
    opened = multiply(decode_g1(related[:48]), block.secret_key())
    stolen = encode_g1(opened - multiply(decode_g1(block.key.public_key), shift))
    assert open_body(label, body, stolen) == block.messages[0]


def test_different_exponents_under_the_two_generators_are_refused(block):
    """Whoever knows both still cannot answer for both: TDH2's proof needs Ubar to be like U."""
    label, body = block.items[0]
    ciphertext = body[HEADER_SIZE_BYTES:]
    assert judge(label, prove(label, ciphertext, 7)) is None
    assert judge(label, prove(label, ciphertext, 7, 8)) is SealFault.PROOF


def test_the_second_generator_is_hashed_to_the_curve():
    assert SECOND_GENERATOR not in (G, G - G)
    assert not is_torsion(SECOND_GENERATOR)


def test_each_of_the_two_equations_is_checked(block):
    label, body = block.items[0]
    ciphertext = body[HEADER_SIZE_BYTES:]
    assert judge(label, prove(label, ciphertext, 7, shift=G)) is SealFault.PROOF
    assert judge(label, prove(label, ciphertext, 7, shift_bar=G)) is SealFault.PROOF


def test_errors_that_cancel_between_the_equations_of_one_header_are_found(block):
    label, body = block.items[0]
    forged = prove(label, body[HEADER_SIZE_BYTES:], 7, shift=G, shift_bar=-G)
    assert judge(label, forged) is SealFault.PROOF
    items = [*block.items, (label, forged)]
    assert check_headers(items, block.seed) == [*block.points, SealFault.PROOF]


def test_errors_that_cancel_between_two_headers_are_found(block):
    """z + 1 in the one and z - 1 in the other: without weights their sum would be right."""
    items = list(block.items)
    for index, change in ((1, 1), (3, -1)):
        label, body = items[index]
        response = int.from_bytes(body[POINTS_SIZE_BYTES:HEADER_SIZE_BYTES], "big") + change
        body = body[:POINTS_SIZE_BYTES] + encode_scalar(response) + body[HEADER_SIZE_BYTES:]
        items[index] = (label, body)
    verdicts = check_headers(items, block.seed)
    assert [i for i, each in enumerate(verdicts) if each is SealFault.PROOF] == [1, 3]


def test_a_small_order_part_of_u_or_ubar_is_refused_whatever_the_proof_says(block, torsion):
    """x times such a U would tell x modulo the small order."""
    label, body = block.items[0]
    ciphertext = body[HEADER_SIZE_BYTES:]
    for offset in (0, 48):
        changed = bytearray(prove(label, ciphertext, 7))
        point = decode_curve_point(bytes(changed[offset : offset + 48])) + torsion
        changed[offset : offset + 48] = encode_g1(point)
        points = bytes(changed[:POINTS_SIZE_BYTES])
        response = 5 + 7 * compute_challenge(label, points, ciphertext)
        changed[POINTS_SIZE_BYTES:HEADER_SIZE_BYTES] = encode_scalar(response)
        assert judge(label, bytes(changed)) is SealFault.POINT


def test_a_small_order_part_of_a_commitment_passes_alone_and_in_every_batch(
    block, torsion, monkeypatch
):
    """Equations without the cofactor would pass it in a third of all batches and never alone. Nor
    may it make a batch fail that is then judged one by one: anybody can send it."""
    label, body = block.items[0]
    ciphertext = body[HEADER_SIZE_BYTES:]
    for shifts in ({"shift": torsion}, {"shift_bar": torsion}, {"shift": -torsion}):
        lax = prove(label, ciphertext, 7, **shifts)
        assert judge(label, lax) is None
        monkeypatch.setattr(proof, "_is_proof_right", lambda header: pytest.fail("judged alone"))
        for number in range(6):
            items = [*block.items[:2], (label, lax)]
            verdicts = check_headers(items, sha256(bytes([number])).digest())
            assert not any(isinstance(each, SealFault) for each in verdicts)
        monkeypatch.undo()


HONEST, LATER, RESPONSE, LABELLED, LENGTH, POINT, LAX, FORGED = range(8)


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 7), max_size=3 * SINGLE_CHECKS_MAX), st.binary(min_size=32, max_size=32)
)
def test_a_batch_says_what_single_checks_say(block, torsion, kinds, seed):
    items = []
    for index, kind in enumerate(kinds):
        label, body = block.items[index % len(block.items)]
        ciphertext = body[HEADER_SIZE_BYTES:]
        if kind == RESPONSE:
            body = body[:200] + bytes([body[200] ^ 1]) + body[201:]
        elif kind == LABELLED:
            label = block.label.compute_digest()
        elif kind == LENGTH:
            body = body[:-1]
        elif kind == POINT:
            body = body[48:96] + b"\x80" + body[49:]
        elif kind == LAX:
            body = prove(label, ciphertext, 7, shift=torsion)
        elif kind == FORGED:
            body = prove(label, ciphertext, 7, shift=G + torsion, shift_bar=-G)
        items.append((label, body))
    verdicts = check_headers(items, seed)
    singles = [find_header_fault(*item) for item in items]
    assert [each if isinstance(each, SealFault) else None for each in verdicts] == singles


@settings(max_examples=40)
@given(st.binary(max_size=600), st.booleans())
def test_no_bytes_bring_an_exception_out_of_the_check(block, data, is_sized):
    body = (data + block.bodies[0])[:512] if is_sized else data
    judge(block.labels[0], body)
