"""The published vectors: as the script writes them, and right by other libraries' account."""

import hashlib
import hmac
import importlib.util
import json
from math import factorial
from pathlib import Path

import pytest
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt
from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import compress_G1, decompress_G1, decompress_G2
from py_ecc.optimized_bls12_381 import FQ, G1, G2, add, curve_order, eq, multiply, pairing

import crypto
from crypto.threshold.key import ThresholdKey, validate_key
from crypto.threshold.lagrange import compute_coefficients
from crypto.threshold.opening import open_block
from crypto.threshold.proof import check_headers, find_header_fault
from crypto.threshold.shares import is_share_right

ROOT = Path(crypto.__file__).parents[1]
TEXT = (ROOT / "tests" / "vectors" / "threshold.json").read_text()
VECTORS = json.loads(TEXT)
SEALED = VECTORS["sealed"]
TAG = b"ROTA-TDH2-V1_BLS12381G1_XMD:SHA-256_SSWU_RO_"


def load_script():
    path = ROOT / "scripts" / "make_threshold_vectors.py"
    spec = importlib.util.spec_from_file_location("make_threshold_vectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(domain, *parts):
    """Written anew from the vectors' description."""
    data = bytes([len(domain)]) + domain
    for part in parts:
        data += len(part).to_bytes(8, "big") + part
    return hashlib.sha256(data).digest()


def point(hexadecimal):
    return decompress_G1(int(hexadecimal, 16))


def read_key():
    key = VECTORS["key"]
    return ThresholdKey(
        bytes.fromhex(key["public_key"]),
        bytes.fromhex(key["public_key_g2"]),
        key["threshold"],
        tuple(bytes.fromhex(each) for each in key["verification_keys"]),
    )


def test_the_script_writes_the_file_as_it_is():
    assert load_script().render() == TEXT


def test_constants_and_ids_are_as_described():
    assert compress_G1(hash_to_G1(b"second generator", TAG, hashlib.sha256)) == int(
        VECTORS["second_generator"], 16
    )
    key, chain_id = VECTORS["key"], bytes.fromhex(VECTORS["chain_id"])
    public_key = bytes.fromhex(key["public_key"])
    assert digest(b"rota/sealing-key/v1", chain_id, public_key).hex() == key["key_id"]


@pytest.mark.parametrize("vector", SEALED, ids=range(len(SEALED)))
def test_labels_and_challenges_are_as_described(vector):
    label, body = vector["label"], bytes.fromhex(vector["body"])
    sizes = {"namespace": 4, "nonce": 8, "expiry_height": 8, "fee": 8, "size_class": 1}
    parts = [
        value.to_bytes(sizes[name], "big") if name in sizes else bytes.fromhex(value)
        for name, value in label.items()
    ]
    label_digest = digest(b"rota/sealed-label/v1", *parts)
    assert label_digest.hex() == vector["label_digest"]
    hashed = hashlib.sha256(body[224:]).digest()
    assert hashed.hex() == vector["ciphertext_sha256"]
    bound = digest(b"rota/sealed-proof/v1", label_digest, hashed, body[:192])
    assert bound[:16].hex() == vector["challenge"]


def test_the_header_proof_holds_in_py_ecc():
    vector = SEALED[0]
    first, first_bar, commitment, commitment_bar = (
        point(vector["body"][start : start + 96]) for start in range(0, 384, 96)
    )
    challenge = int(vector["challenge"], 16)
    response = int(vector["body"][384:448], 16)
    for base, left, right in (
        (G1, commitment, first),
        (point(VECTORS["second_generator"]), commitment_bar, first_bar),
    ):
        assert eq(multiply(base, response), add(left, multiply(right, challenge)))


def test_keys_shares_and_coefficients_agree_with_py_ecc():
    vector = SEALED[0]
    secrets = [int(each, 16) for each in VECTORS["key"]["secrets"]]
    secret = (3 * secrets[0] - 3 * secrets[1] + secrets[2]) % curve_order
    assert compress_G1(multiply(G1, secret)) == int(VECTORS["key"]["public_key"], 16)
    first = point(vector["body"][:96])
    assert compress_G1(multiply(first, secret)) == int(vector["opened_key"], 16)
    scale = pow(factorial(3), -1, curve_order)
    total = None
    for number, coefficient in ((0, 3), (1, -3), (2, 1)):
        share = multiply(first, secrets[number] * scale % curve_order)
        written = vector["shares"][number]
        assert eq(share, (FQ(int(written[:96], 16)), FQ(int(written[96:], 16)), FQ(1)))
        product = multiply(share, coefficient % curve_order)
        total = product if total is None else add(total, product)
    multiplier = VECTORS["coefficients"][0]["multiplier"]
    assert compress_G1(multiply(total, multiplier)) == int(vector["opened_key"], 16)


def test_a_share_fits_its_verification_key_in_py_ecc():
    vector = SEALED[0]
    key = bytes.fromhex(VECTORS["key"]["verification_keys"][0])
    decoded = decompress_G2((int.from_bytes(key[:48], "big"), int.from_bytes(key[48:], "big")))
    share = vector["shares"][0]
    scaled = multiply((FQ(int(share[:96], 16)), FQ(int(share[96:], 16)), FQ(1)), factorial(3))
    assert pairing(G2, scaled) == pairing(decoded, point(vector["body"][:96]))


@pytest.mark.parametrize("vector", SEALED, ids=range(len(SEALED)))
def test_bodies_open_by_other_libraries(vector):
    body, label_digest = bytes.fromhex(vector["body"]), bytes.fromhex(vector["label_digest"])
    material = bytes.fromhex(vector["opened_key"]) + body[:48]
    extracted = hmac.digest(b"rota/sealed-key/v1", material, "sha256")
    body_key = hmac.digest(extracted, label_digest + b"\x01", "sha256")
    assert body_key.hex() == vector["body_key"]
    padded = crypto_aead_chacha20poly1305_ietf_decrypt(
        body[224:], label_digest, bytes(12), body_key
    )
    message = bytes.fromhex(vector["message"])
    assert padded == (message + b"\x80").ljust(len(body) - 240, b"\x00")


def test_the_key_and_every_body_are_accepted():
    key = read_key()
    validate_key(key)
    items = [(bytes.fromhex(each["label_digest"]), bytes.fromhex(each["body"])) for each in SEALED]
    points = check_headers(items, bytes(32))
    shares = {
        ticket: b"".join(bytes.fromhex(each["shares"][ticket - 1]) for each in SEALED)
        for ticket in range(1, 5)
    }
    opening = open_block(key, points, shares, bytes(32))
    assert [each.hex() for each in opening.keys] == [each["opened_key"] for each in SEALED]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["what"])
def test_what_must_be_refused_is(vector):
    label_digest, body = bytes.fromhex(vector["label_digest"]), bytes.fromhex(vector["body"])
    assert (find_header_fault(label_digest, body) or "") == vector["fault"]
    assert bool(vector["fault"]) is not vector["what"].startswith("accepted")


def test_shares_are_judged_as_written():
    key = read_key()
    for vector in VECTORS["shares"]:
        first, share = bytes.fromhex(vector["first"]), bytes.fromhex(vector["share"])
        assert is_share_right(key, vector["ticket"], first, share) is vector["is_right"]


def test_coefficients_are_as_written():
    for vector in VECTORS["coefficients"]:
        coefficients, multiplier = compute_coefficients(tuple(vector["chosen"]), vector["tickets"])
        assert list(coefficients) == vector["coefficients"]
        assert multiplier == vector["multiplier"]
