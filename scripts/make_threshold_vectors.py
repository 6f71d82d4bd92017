"""Write `tests/vectors/threshold.json`: what another implementation of the sealed mempool can check
itself against. `tests/vectors/README.md` describes it.

    python scripts/make_threshold_vectors.py

Everything in it follows from constants here, so that two runs give the same bytes.
"""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from msgspec.structs import asdict, replace

from crypto.group import (
    ORDER,
    G,
    decode_curve_point,
    decode_curve_point_wide,
    decode_g1,
    encode_g1,
    encode_g1_wide,
    encode_scalar,
    multiply,
)
from crypto.threshold.lagrange import compute_coefficients
from crypto.threshold.mock_dealer import deal_test_key
from crypto.threshold.opening import open_block
from crypto.threshold.proof import (
    SECOND_GENERATOR,
    check_headers,
    compute_challenge,
    find_header_fault,
)
from crypto.threshold.sealed import (
    HEADER_SIZE_BYTES,
    POINTS_SIZE_BYTES,
    CheckedPoint,
    Label,
    SealFault,
)
from crypto.threshold.sealing import derive_body_key, open_body, seal
from crypto.threshold.shares import compute_shares, is_share_right

PATH: Final = Path(__file__).parents[1] / "tests" / "vectors" / "threshold.json"
CHAIN_ID: Final = bytes(range(32))
SEED: Final = bytes(range(32, 64))
KEY, SECRETS = deal_test_key("vectors", 3, 4)
LABEL: Final = Label(
    CHAIN_ID,
    KEY.key_id(CHAIN_ID),
    0,
    bytes(range(64, 96)),
    bytes(range(96, 128)),
    1_700_000_000_000,
    5_000,
    712,
    0,
)
TORSION: Final = decode_curve_point(b"\x80" + bytes(47))
"""The point (0, 2), of order three."""


def main() -> None:
    """Write the file."""
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render())


def render() -> str:
    """The text of the file."""
    return json.dumps(make_vectors(), indent=1) + "\n"


def make_vectors() -> dict[str, Any]:
    """All vectors; bytes are in hexadecimal."""
    sealed = [
        make_sealed(LABEL, b"buy 1 BTC-PERP at 60000"),
        make_sealed(replace(LABEL, nonce=LABEL.nonce + 1), b""),
        make_sealed(replace(LABEL, fee=1_224, size_class=1), bytes(783)),
    ]
    return {
        "version": 1,
        "second_generator": encode_g1(SECOND_GENERATOR).hex(),
        "chain_id": CHAIN_ID.hex(),
        "key": {
            "key_id": KEY.key_id(CHAIN_ID).hex(),
            "public_key": KEY.public_key.hex(),
            "public_key_g2": KEY.public_key_g2.hex(),
            "threshold": KEY.threshold,
            "verification_keys": [each.hex() for each in KEY.verification_keys],
            "secrets": [each.hex() for each in SECRETS],
        },
        "sealed": sealed,
        "refused": make_refused(bytes.fromhex(sealed[0]["body"])),
        "shares": make_shares(bytes.fromhex(sealed[0]["body"])),
        "coefficients": [
            make_coefficients((1, 2, 3), 4),
            make_coefficients((2, 3, 4), 4),
            make_coefficients((1, 3, 4, 5, 6, 8, 9, 11, 13, 14, 16), 16),
        ],
    }


def make_sealed(label: Label, message: bytes) -> dict[str, Any]:
    """One message on its way through sealing, shares, key and opening."""
    label_digest = label.compute_digest()
    body = seal(KEY.public_key, label, message, SEED)
    (point,) = check_headers([(label_digest, body)], SEED)
    assert not isinstance(point, SealFault)
    shares = compute_shares(SECRETS, KEY.tickets, [point])
    opening = open_block(KEY, [point], dict(enumerate(shares, start=1)), SEED)
    (key,) = opening.keys
    assert open_body(label_digest, body, key) == message
    points, ciphertext = body[:POINTS_SIZE_BYTES], body[HEADER_SIZE_BYTES:]
    fields = asdict(label).items()
    return {
        "label": {name: each.hex() if isinstance(each, bytes) else each for name, each in fields},
        "label_digest": label_digest.hex(),
        "message": message.hex(),
        "seed": SEED.hex(),
        "body": body.hex(),
        "ciphertext_sha256": sha256(ciphertext).hexdigest(),
        "challenge": compute_challenge(label_digest, points, ciphertext).to_bytes(16, "big").hex(),
        "shares": [each.hex() for each in shares],
        "opened_key": key.hex(),
        "body_key": derive_body_key(key, body[:48], label_digest).hex(),
    }


def make_refused(body: bytes) -> list[dict[str, str]]:
    """Bodies that no implementation may let through, and one that looks as if it should not."""
    digest = LABEL.compute_digest()
    response = int.from_bytes(body[POINTS_SIZE_BYTES:HEADER_SIZE_BYTES], "big")
    first = decode_g1(body[:48])
    cases = {
        "of no size class": body + b"\x00",
        "U is the identity": b"\xc0" + bytes(47) + body[48:],
        "U is the identity, not canonically": b"\xff" * 48 + body[48:],
        "U without the flag of compression": bytes([body[0] & 0x7F]) + body[1:],
        "U with a part of order three": encode_g1(first + TORSION) + body[48:],
        "Ubar of order three": body[:48] + encode_g1(TORSION) + body[96:],
        "A is the identity": body[:96] + b"\xc0" + bytes(47) + body[144:],
        "z is not reduced": (
            body[:POINTS_SIZE_BYTES] + ORDER.to_bytes(32, "big") + body[HEADER_SIZE_BYTES:]
        ),
        "z + 1": (
            body[:POINTS_SIZE_BYTES] + encode_scalar(response + 1) + body[HEADER_SIZE_BYTES:]
        ),
        "U + G, a related ciphertext": encode_g1(first + G) + body[48:],
        "U and Ubar swapped": body[48:96] + body[:48] + body[96:],
        "another ciphertext": body[:-1] + bytes([body[-1] ^ 1]),
        "accepted: A with a part of order three": make_lax(digest, body[HEADER_SIZE_BYTES:]),
    }
    rows = [make_verdict(what, digest, each) for what, each in cases.items()]
    for name, value in {
        "chain_id": bytes(32),
        "key_id": bytes(32),
        "namespace": 1,
        "sender": LABEL.signer,
        "signer": LABEL.sender,
        "nonce": LABEL.nonce + 1,
        "expiry_height": LABEL.expiry_height + 1,
        "fee": LABEL.fee + 1,
        "size_class": 1,
    }.items():
        other = replace(LABEL, **{name: value}).compute_digest()
        rows.append(make_verdict(f"another {name}", other, body))
    return rows


def make_lax(label_digest: bytes, ciphertext: bytes) -> bytes:
    """A header whose A has a small-order part, proven by who knows its exponents 7 and 5."""
    points = b"".join(
        encode_g1(each)
        for each in (
            multiply(G, 7),
            multiply(SECOND_GENERATOR, 7),
            multiply(G, 5) + TORSION,
            multiply(SECOND_GENERATOR, 5),
        )
    )
    challenge = compute_challenge(label_digest, points, ciphertext)
    return points + encode_scalar(5 + 7 * challenge) + ciphertext


def make_verdict(what: str, label_digest: bytes, body: bytes) -> dict[str, str]:
    fault = find_header_fault(label_digest, body)
    return {
        "what": what,
        "label_digest": label_digest.hex(),
        "body": body.hex(),
        "fault": fault.value if fault else "",
    }


def make_shares(body: bytes) -> list[dict[str, Any]]:
    """Shares to judge one by one, as evidence is."""
    point = CheckedPoint(encode_g1_wide(decode_g1(body[:48])))
    right = compute_shares(SECRETS, KEY.tickets, [point])
    shifted = encode_g1_wide(decode_curve_point_wide(right[0]) + TORSION)
    cases = [
        ("right", 1, right[0]),
        ("right", 4, right[3]),
        ("of another ticket", 1, right[1]),
        ("with a part of order three", 1, shifted),
        ("the identity", 1, bytes(96)),
        ("of no ticket", 5, right[0]),
        ("compressed", 1, encode_g1(decode_curve_point_wide(right[0]))),
    ]
    return [
        {
            "what": what,
            "ticket": ticket,
            "first": body[:48].hex(),
            "share": share.hex(),
            "is_right": is_share_right(KEY, ticket, body[:48], share),
        }
        for what, ticket, share in cases
    ]


def make_coefficients(chosen: tuple[int, ...], tickets: int) -> dict[str, Any]:
    coefficients, multiplier = compute_coefficients(chosen, tickets)
    return {
        "tickets": tickets,
        "chosen": chosen,
        "coefficients": coefficients,
        "multiplier": multiplier,
    }


if __name__ == "__main__":
    main()
