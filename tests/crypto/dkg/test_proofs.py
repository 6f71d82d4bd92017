"""Proofs of knowledge hold for their context and statement alone."""

import pytest

from crypto.digest import Domain
from crypto.dkg import proofs
from crypto.dkg.encryption_key import is_encryption_key_right, make_encryption_key
from crypto.dkg.proofs import is_proof_right, prove
from crypto.group import ORDER, G, encode_g1, encode_scalar, hash_to_g1, multiply

DOMAIN = Domain.DKG_COMPLAINT
BASE = hash_to_g1(b"base", b"test")


def make_statement(first=7, second=7):
    return [(G, multiply(G, first), 0), (BASE, multiply(BASE, second), 0)]


def test_a_proof_of_equal_logarithms_holds_for_equal_ones_alone():
    proof = prove(DOMAIN, b"here", make_statement(), [7])
    assert is_proof_right(DOMAIN, b"here", make_statement(), proof)
    assert not is_proof_right(DOMAIN, b"there", make_statement(), proof)
    assert not is_proof_right(Domain.DKG_DEALING, b"here", make_statement(), proof)
    assert not is_proof_right(DOMAIN, b"here", make_statement()[:1], proof)
    assert not is_proof_right(DOMAIN, b"here", make_statement(8, 8), proof)
    for statement in (make_statement(7, 8), make_statement(8, 7)):
        lie = prove(DOMAIN, b"here", statement, [7])
        assert not is_proof_right(DOMAIN, b"here", statement, lie)


def test_the_challenge_depends_on_the_statement():
    """Or a point could be made to fit a proof that was there before it."""
    commitments = [G, BASE]
    challenges = {
        proofs._compute_challenge(DOMAIN, b"", statement, commitments)
        for statement in (make_statement(), make_statement(7, 8), make_statement(8, 7))
    }
    assert len(challenges) == 3


def test_several_secrets_are_each_proven():
    statement = [(G, multiply(G, 7), 0), (G, multiply(G, 8), 1)]
    proof = prove(DOMAIN, b"", statement, [7, 8])
    assert is_proof_right(DOMAIN, b"", statement, proof)
    for wrong in ([7, 9], [9, 8]):
        assert not is_proof_right(DOMAIN, b"", statement, prove(DOMAIN, b"", statement, wrong))


@pytest.mark.parametrize("length", [0, 15, 16, 47, 49, 80])
def test_a_proof_of_another_length_is_none(length):
    proof = prove(DOMAIN, b"", make_statement(), [7])
    assert not is_proof_right(DOMAIN, b"", make_statement(), (proof * 2)[:length])


def test_a_response_that_is_not_reduced_is_refused():
    proof = prove(DOMAIN, b"", make_statement(), [7])
    response = int.from_bytes(proof[16:], "big")
    for other in (ORDER, min(response + ORDER, 2**256 - 1), 2**256 - 1):
        changed = proof[:16] + other.to_bytes(32, "big")
        assert not is_proof_right(DOMAIN, b"", make_statement(), changed)


def test_no_nonce_serves_two_proofs():
    """Two responses with one nonce and different challenges would tell the secret."""
    nonces = set()
    for context in (b"one", b"two"):
        for secret in (7, 8):
            for statement in (make_statement(secret, secret), make_statement(secret, secret)[:1]):
                proof = prove(DOMAIN, context, statement, [secret])
                challenge, response = (
                    int.from_bytes(each, "big") for each in (proof[:16], proof[16:])
                )
                nonces.add((response - challenge * secret) % ORDER)
    assert len(nonces) == 8


def test_an_encryption_key_is_its_owners_alone():
    secret, public_key, proof = make_encryption_key(b"alice", bytes(32))
    assert encode_g1(multiply(G, int.from_bytes(secret, "big"))) == public_key
    assert is_encryption_key_right(b"alice", public_key, proof)
    assert not is_encryption_key_right(b"bob", public_key, proof)
    assert not is_encryption_key_right(b"alice", encode_g1(G), proof)
    assert make_encryption_key(b"alice", b"\x01" * 32)[0] != secret
    for malformed in (b"", b"\xc0" + bytes(47), b"\x80" + bytes(47), b"\xff" * 48):
        assert not is_encryption_key_right(b"alice", malformed, proof)
    for malformed in (b"", proof[:-1], proof + b"\x00", encode_scalar(1)):
        assert not is_encryption_key_right(b"alice", public_key, malformed)
