"""Keystores: EIP-2335's own vectors, round trips, tampering, hostile parameters, files."""

import json
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto import keystore
from crypto.bls import BLS
from crypto.ed25519 import ED25519
from crypto.keystore import (
    KEYSTORE_SIZE_MAX_BYTES,
    PBKDF2_ROUNDS_MAX,
    SCRYPT_WORK_MAX,
    KdfStrength,
    KeystoreError,
    open_keystore,
    read_keystore,
    read_public_key,
    seal_keystore,
    write_keystore,
)
from crypto.mock import derive_test_secret
from crypto.scheme import SchemeError

PASSWORD = "correct horse"
SECRET = derive_test_secret("keystore")
LOCALNET = KdfStrength.LOCALNET

# EIP-2335, "Test Cases".
VECTOR_PASSWORD = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑"
VECTOR_SECRET = bytes.fromhex("000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f")
VECTOR_PUBLIC_KEY = (
    "9612d7a727c9d0a22e185a1c768478dfe919cada9266988cb32359c11f2b7b27"
    "f4ae4040902382ae2910c15e2b420d07"
)
VECTOR_SALT = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"
VECTOR_KDFS = {
    "scrypt": (
        {"dklen": 32, "n": 262144, "p": 1, "r": 8, "salt": VECTOR_SALT},
        "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
        "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
    ),
    "pbkdf2": (
        {"dklen": 32, "c": 262144, "prf": "hmac-sha256", "salt": VECTOR_SALT},
        "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1",
        "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad",
    ),
}


def make_vector(function: str) -> dict:
    parameters, checksum, ciphertext = VECTOR_KDFS[function]
    return {
        "crypto": {
            "kdf": {"function": function, "params": dict(parameters), "message": ""},
            "checksum": {"function": "sha256", "params": {}, "message": checksum},
            "cipher": {
                "function": "aes-128-ctr",
                "params": {"iv": "264daa3f303d7259501c93d997d84fe6"},
                "message": ciphertext,
            },
        },
        "description": "This is a test keystore.",
        "pubkey": VECTOR_PUBLIC_KEY,
        "path": "m/12381/60/0/0",
        "uuid": "64625def-3331-4eea-ab6f-782f3ed16a83",
        "version": 4,
    }


def seal(secret: bytes = SECRET, password: str = PASSWORD) -> dict:
    data = seal_keystore(
        secret, password, derive_public_key=BLS.public_key, strength=LOCALNET, description="node 0"
    )
    return json.loads(data)


def open_document(document: object, password: str = PASSWORD) -> bytes:
    data = json.dumps(document).encode()
    return open_keystore(data, password, derive_public_key=BLS.public_key, strength=LOCALNET)


@pytest.mark.parametrize("function", ["scrypt", "pbkdf2"])
def test_the_vectors_of_eip_2335_open(function):
    data = json.dumps(make_vector(function)).encode()
    secret = open_keystore(data, VECTOR_PASSWORD, derive_public_key=BLS.public_key)
    assert secret == VECTOR_SECRET
    assert BLS.public_key(secret).hex() == VECTOR_PUBLIC_KEY


def test_passwords_are_normalised_as_eip_2335_says():
    encoded = bytes.fromhex("7465737470617373776f7264f09f9491")
    assert keystore._encode_password(VECTOR_PASSWORD) == encoded
    with_controls = "\x00\x1ftest\x7fpass\x80word\x9f🔑\n"
    assert keystore._encode_password(with_controls) == encoded
    assert keystore._encode_password("a b") == b"a b", "space stays"


@pytest.mark.parametrize("password", ["", "\n", "\x7f\x80", "\ud800"])
def test_a_password_that_says_nothing_is_refused(password):
    with pytest.raises(KeystoreError) as caught:
        seal(password=password)
    assert caught.value.code == "keystore.password_invalid"


def test_the_default_is_strong_and_writes_a_private_file(tmp_path):
    path = tmp_path / "consensus.json"
    write_keystore(path, SECRET, PASSWORD, derive_public_key=BLS.public_key)
    document = json.loads(path.read_bytes())
    assert document["crypto"]["kdf"]["params"]["n"] == 2**18
    assert document["description"] == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["consensus.json"]
    assert read_public_key(path) == BLS.public_key(SECRET)
    assert read_keystore(path, PASSWORD, derive_public_key=BLS.public_key) == SECRET


@pytest.mark.parametrize("derive", [BLS.public_key, ED25519.public_key])
def test_secrets_of_both_kinds_survive_the_round_trip(tmp_path, derive):
    path = tmp_path / "key.json"
    write_keystore(
        path,
        SECRET,
        PASSWORD,
        derive_public_key=derive,
        description="node 3",
        key_path="m/12381/60/0/0",
        strength=LOCALNET,
    )
    assert read_keystore(path, PASSWORD, derive_public_key=derive, strength=LOCALNET) == SECRET
    document = json.loads(path.read_bytes())
    assert document["description"] == "LOCALNET ONLY, weak key derivation: node 3"
    assert document["path"] == "m/12381/60/0/0"
    assert document["version"] == 4


def test_a_localnet_keystore_does_not_open_where_a_strong_one_is_expected():
    data = json.dumps(seal()).encode()
    with pytest.raises(KeystoreError) as caught:
        open_keystore(data, PASSWORD, derive_public_key=BLS.public_key)
    assert caught.value.code == "keystore.kdf_too_weak"


def test_a_wrong_password_says_so():
    for password in ("Correct horse", "x", PASSWORD + " "):
        with pytest.raises(KeystoreError) as caught:
            open_document(seal(), password)
        assert caught.value.code == "keystore.wrong_password"


def flip_hex(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        (("crypto", "cipher", "message"), "keystore.wrong_password"),
        (("crypto", "checksum", "message"), "keystore.wrong_password"),
        (("crypto", "kdf", "params", "salt"), "keystore.wrong_password"),
        (("crypto", "cipher", "params", "iv"), "keystore.key_mismatch"),
        (("pubkey",), "keystore.key_mismatch"),
    ],
)
def test_tampering_is_noticed(keys, code):
    document = seal()
    place = document
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = flip_hex(place[keys[-1]])
    with pytest.raises(KeystoreError) as caught:
        open_document(document)
    assert caught.value.code == code


def test_a_key_of_one_kind_does_not_open_as_another():
    data = json.dumps(seal()).encode()
    with pytest.raises(KeystoreError) as caught:
        open_keystore(data, PASSWORD, derive_public_key=ED25519.public_key, strength=LOCALNET)
    assert caught.value.code == "keystore.key_mismatch"
    large = seal_keystore(
        b"\xff" * 32, PASSWORD, derive_public_key=ED25519.public_key, strength=LOCALNET
    )
    with pytest.raises(KeystoreError) as caught:
        open_keystore(large, PASSWORD, derive_public_key=BLS.public_key, strength=LOCALNET)
    assert caught.value.code == "keystore.key_mismatch"
    with pytest.raises(SchemeError):
        seal(secret=b"\xff" * 32)


def set_kdf(**changes: object) -> dict:
    document = seal()
    document["crypto"]["kdf"]["params"].update(changes)
    return document


def set_pbkdf2(**changes: object) -> dict:
    document = make_vector("pbkdf2")
    document["crypto"]["kdf"]["params"].update(changes)
    return document


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (set_kdf(n=2**40), "keystore.kdf_too_expensive"),
        (set_kdf(n=2**20), "keystore.kdf_too_expensive"),
        (set_kdf(r=2**30), "keystore.kdf_too_expensive"),
        (set_kdf(p=2**40), "keystore.kdf_too_expensive"),
        (set_kdf(n=2, r=1, p=SCRYPT_WORK_MAX), "keystore.kdf_too_expensive"),
        (set_kdf(n=2, r=SCRYPT_WORK_MAX // 2, p=1), "keystore.kdf_too_expensive"),
        (set_kdf(n=2**17, r=1), "keystore.malformed"),
        (set_kdf(n=3), "keystore.malformed"),
        (set_kdf(n=1), "keystore.malformed"),
        (set_kdf(n=-4), "keystore.malformed"),
        (set_kdf(n="16"), "keystore.malformed"),
        (set_kdf(n=True), "keystore.malformed"),
        (set_kdf(n=16.0), "keystore.malformed"),
        (set_kdf(p=0), "keystore.malformed"),
        (set_kdf(dklen=16), "keystore.malformed"),
        (set_kdf(salt=""), "keystore.malformed"),
        (set_kdf(salt="00" * 200), "keystore.malformed"),
        (set_kdf(salt="zz" * 32), "keystore.malformed"),
        (set_pbkdf2(c=PBKDF2_ROUNDS_MAX + 1), "keystore.kdf_too_expensive"),
        (set_pbkdf2(c=0), "keystore.malformed"),
        (set_pbkdf2(prf="hmac-md5"), "keystore.malformed"),
    ],
)
def test_hostile_key_derivation_parameters_are_refused_before_any_work(document, code):
    with pytest.raises(KeystoreError) as caught:
        open_document(document)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"version": "4"},
        {"crypto": {}},
        {"pubkey": ""},
        {"pubkey": "00" * 200},
        {"pubkey": None},
        {"uuid": 7},
    ],
)
def test_documents_that_are_no_keystores_are_malformed(change):
    with pytest.raises(KeystoreError) as caught:
        open_document({**seal(), **change})
    assert caught.value.code == "keystore.malformed"


@pytest.mark.parametrize("module", ["checksum", "cipher", "kdf"])
def test_unknown_functions_are_malformed(module):
    document = seal()
    document["crypto"][module]["function"] = "rot13"
    with pytest.raises(KeystoreError) as caught:
        open_document(document)
    assert caught.value.code == "keystore.malformed"


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[" * 10_000, b"\xff\xfe", b'{"version":4}', b" " * KEYSTORE_SIZE_MAX_BYTES],
)
def test_bytes_that_are_no_keystore_are_malformed(data, tmp_path):
    path = tmp_path / "key.json"
    path.write_bytes(data)
    with pytest.raises(KeystoreError) as caught:
        read_keystore(path, PASSWORD, derive_public_key=BLS.public_key)
    assert caught.value.code == "keystore.malformed"


def test_a_file_that_is_too_long_is_malformed_whatever_it_holds():
    data = json.dumps(seal()).encode() + b" " * KEYSTORE_SIZE_MAX_BYTES
    with pytest.raises(KeystoreError) as caught:
        open_keystore(data, PASSWORD, derive_public_key=BLS.public_key, strength=LOCALNET)
    assert caught.value.code == "keystore.malformed"


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200), position=st.integers(0, 700), inserted=st.binary(max_size=4))
def test_random_bytes_raise_nothing_but_keystore_errors(data, position, inserted):
    whole = FIXED_KEYSTORE
    for candidate in (data, whole[:position] + inserted + whole[position + len(inserted) :]):
        try:
            secret = open_keystore(
                candidate, PASSWORD, derive_public_key=BLS.public_key, strength=LOCALNET
            )
        except KeystoreError as error:
            assert_known(error)
        else:
            assert secret == SECRET


def assert_known(error: KeystoreError) -> None:
    assert error.code in (KeystoreError.__doc__ or "")


def test_missing_and_unreadable_files_have_codes_of_their_own(tmp_path):
    for path, code in ((tmp_path / "no.json", "keystore.missing"), (tmp_path, "unreadable")):
        with pytest.raises(KeystoreError) as caught:
            read_keystore(path, PASSWORD, derive_public_key=BLS.public_key)
        assert caught.value.code.endswith(code)
        with pytest.raises(KeystoreError) as caught:
            read_public_key(path)
        assert caught.value.code.endswith(code)


def write(path, **options):
    write_keystore(
        path, SECRET, PASSWORD, derive_public_key=BLS.public_key, strength=LOCALNET, **options
    )


def test_an_existing_keystore_is_kept_unless_replacing_is_asked_for(tmp_path):
    path = tmp_path / "key.json"
    write(path)
    before = path.read_bytes()
    with pytest.raises(KeystoreError) as caught:
        write(path)
    assert caught.value.code == "keystore.exists"
    assert path.read_bytes() == before
    write(path, replace=True)
    assert path.read_bytes() != before


def test_a_folder_that_is_not_there_is_unwritable(tmp_path):
    with pytest.raises(KeystoreError) as caught:
        write(tmp_path / "no" / "key.json")
    assert caught.value.code == "keystore.unwritable"


def test_a_keystore_that_does_not_read_back_leaves_no_file(tmp_path, monkeypatch):
    real_read = keystore._read_file
    monkeypatch.setattr(keystore, "_read_file", lambda path: real_read(path)[:-100])
    with pytest.raises(KeystoreError):
        write(tmp_path / "key.json")
    assert list(tmp_path.iterdir()) == []


def test_a_crash_before_the_rename_leaves_the_old_keystore(tmp_path, monkeypatch):
    path = tmp_path / "key.json"
    write(path)
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError("disk gone")

    monkeypatch.setattr(keystore.os, "fsync", fail)
    with pytest.raises(KeystoreError) as caught:
        write(path, replace=True)
    assert caught.value.code == "keystore.unwritable"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


FIXED_KEYSTORE = json.dumps(seal()).encode()
