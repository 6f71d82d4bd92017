"""The published ceremony: as the script writes it, and right by another library's account."""

import hashlib
import importlib.util
import json
from pathlib import Path

from py_ecc.bls.hash_to_curve import hash_to_G1
from py_ecc.bls.point_compression import compress_G1, decompress_G1
from py_ecc.optimized_bls12_381 import G1, curve_order, multiply

import crypto
from crypto.codec import decode
from crypto.dkg.acknowledgement import is_acknowledgement_right
from crypto.dkg.dealing import Dealing, find_dealing_fault
from crypto.dkg.encryption_key import is_encryption_key_right
from crypto.dkg.outcome import form_keys
from crypto.dkg.receiving import Blame, Complaint, judge_complaint, open_dealing
from crypto.dkg.sharing import Keys, Sharing
from crypto.threshold.beacon import BEACON_TAG, derive_seed, is_beacon_right
from crypto.threshold.key import validate_key

ROOT = Path(crypto.__file__).parents[1]
TEXT = (ROOT / "tests" / "vectors" / "dkg.json").read_text()
VECTORS = json.loads(TEXT)


def read(type_, text):
    return decode(type_, bytes.fromhex(text))


def test_the_script_writes_the_file_as_it_is():
    path = ROOT / "scripts" / "make_dkg_vectors.py"
    spec = importlib.util.spec_from_file_location("make_dkg_vectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.render() == TEXT


def test_dealings_open_to_the_keys_and_secrets_as_written():
    for name in ("fresh", "reshared"):
        vectors = VECTORS[name]
        sharing = read(Sharing, vectors["sharing"])
        assert sharing.context.hex() == vectors["context"]
        dealings = [read(Dealing, each["dealing"]) for each in vectors["dealings"]]
        for dealing, written in zip(dealings, vectors["dealings"], strict=True):
            assert find_dealing_fault(sharing, dealing) is None
            assert dealing.compute_digest().hex() == written["digest"]
            for i, secret in enumerate(vectors["encryption_secrets"]):
                opened = open_dealing(sharing, dealing, i, bytes.fromhex(secret))
                assert [[each.hex() for each in pair] for pair in opened] == written["opened"][i]
        keys = form_keys(sharing, dealings)
        assert keys == read(Keys, vectors["keys"])
        for key in keys.both:
            validate_key(key)
        for i, proof in enumerate(vectors["acknowledgements"]):
            assert is_acknowledgement_right(sharing, keys, i, bytes.fromhex(proof))
    fresh, again = (read(Keys, VECTORS[name]["keys"]) for name in ("fresh", "reshared"))
    assert again.sealing.public_key == fresh.sealing.public_key


def test_encryption_keys_are_proven():
    context = bytes.fromhex(VECTORS["encryption_key_context"])
    for name in ("fresh", "reshared"):
        vectors = VECTORS[name]
        recipients = read(Sharing, vectors["sharing"]).recipients
        for recipient, proof in zip(recipients, vectors["encryption_key_proofs"], strict=True):
            key = recipient.encryption_key
            assert is_encryption_key_right(context, key, bytes.fromhex(proof))


def test_complaints_are_judged_as_written():
    sharing = read(Sharing, VECTORS["fresh"]["sharing"])
    spoiled = read(Dealing, VECTORS["complaint"]["dealing"])
    blames = []
    for case in VECTORS["complaint"]["cases"]:
        blame = judge_complaint(sharing, spoiled, read(Complaint, case["complaint"]))
        assert blame == case["blame"]
        blames.append(blame)
    assert blames == [Blame.DEALER, Blame.COMPLAINER, Blame.COMPLAINER]


def test_shares_pads_and_secrets_agree_with_py_ecc():
    """A recipient's shares from the published bytes, by the description alone."""
    vectors = VECTORS["fresh"]
    written = vectors["dealings"][1]
    dealing = read(Dealing, written["dealing"])
    secret = int(vectors["encryption_secrets"][0], 16)
    ephemeral = decompress_G1(int.from_bytes(dealing.ephemeral, "big"))
    shared = compress_G1(multiply(ephemeral, secret)).to_bytes(48, "big")
    material = b"rota/dkg-pads/v1" + shared + dealing.ephemeral
    material += bytes.fromhex(written["context"]) + b"\x00\x00"
    stream = hashlib.shake_256(material).digest(4 * 48)
    for i in range(4):
        padded = int.from_bytes(dealing.encrypted[0][32 * i : 32 * i + 32], "big")
        pad = int.from_bytes(stream[48 * i : 48 * i + 48], "big")
        share = (padded - pad) % curve_order
        assert share.to_bytes(32, "big").hex() == written["opened"][0][i // 2][i % 2]
    opened = [int(each["opened"][0][0][0], 16) for each in vectors["dealings"]]
    assert sum(opened) % curve_order == int(vectors["secrets"][0][0][0], 16)


def test_the_public_key_is_that_of_the_secret_in_py_ecc():
    vectors = VECTORS["fresh"]
    held = [int(pair[0], 16) for pairs in vectors["secrets"] for pair in pairs]
    secret = (3 * held[0] - 3 * held[1] + held[2]) % curve_order
    public_key = compress_G1(multiply(G1, secret)).to_bytes(48, "big")
    assert read(Keys, vectors["keys"]).sealing.public_key == public_key


def test_the_beacon_is_the_secrets_signature_in_py_ecc():
    vectors, keys = VECTORS["beacon"], read(Keys, VECTORS["fresh"]["keys"])
    message, beacon = (bytes.fromhex(vectors[name]) for name in ("block_message", "beacon"))
    assert is_beacon_right(keys.beacon, message, beacon)
    assert derive_seed(beacon).hex() == vectors["seed"]
    held = [int(pair[1], 16) for pairs in VECTORS["fresh"]["secrets"] for pair in pairs]
    secret = (3 * held[0] - 3 * held[1] + held[2]) % curve_order
    hashed = hash_to_G1(message, BEACON_TAG, hashlib.sha256)
    assert compress_G1(multiply(hashed, secret)).to_bytes(48, "big") == beacon
