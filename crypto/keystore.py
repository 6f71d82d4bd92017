"""Secret keys at rest: EIP-2335 keystores, version 4, one 32-byte secret a file.

A password becomes a 32-byte key by scrypt (RFC 7914) or PBKDF2 (RFC 8018); its first half encrypts
the secret with AES-128-CTR (RFC 3686), its second half and the ciphertext hash to a checksum that
tells a wrong password. The checksum does not cover the initialisation vector, so opening also
derives the public key again and compares it with the one in the file.

The same file serves BLS and Ed25519 secrets: the caller passes the function that derives a public
key. Everything read is taken as hostile: sizes and the cost of key derivation are bounded before
any work is done.
"""

import hmac
import json
import os
import secrets
import unicodedata
import uuid
from collections.abc import Callable
from enum import Enum
from hashlib import pbkdf2_hmac, scrypt, sha256
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from crypto.scheme import SECRET_SIZE_BYTES, SchemeError

KEYSTORE_VERSION: Final = 4
"""EIP-2335 starts at 4, to be told from Ethereum's older keystores."""

KEYSTORE_SIZE_MAX_BYTES: Final = 16_384
"""A keystore is about 1 KB."""

SCRYPT_MEMORY_MAX_BYTES: Final = 2**29 + 2**20
"""Memory that a file may make us use, 128 * r * (n + p): twice what the strong setting needs."""

SCRYPT_WORK_MAX: Final = 2**23
"""Work that a file may make us do, n * r * p: four times the strong setting, some 3 seconds."""

PBKDF2_ROUNDS_MAX: Final = 2**22
"""Rounds that a file may make us do: sixteen times the strong setting, some 2 seconds."""

_SCRYPT_STRONG = {"n": 2**18, "r": 8, "p": 1}
_SCRYPT_STRONG_WORK = 2**18 * 8
_PBKDF2_STRONG_ROUNDS = 2**18
_SCRYPT_LOCALNET = {"n": 2**4, "r": 8, "p": 1}

_DERIVED_KEY_SIZE_BYTES = 32
_IV_SIZE_BYTES = 16
_CHECKSUM_SIZE_BYTES = 32
_SALT_SIZE_MIN_BYTES = 8
_SALT_SIZE_BYTES = 32
_SALT_SIZE_MAX_BYTES = 128
_PUBLIC_KEY_SIZE_MAX_BYTES = 128

_LOCALNET_MARK = "LOCALNET ONLY, weak key derivation"

PublicKeyDeriver = Callable[[bytes], bytes]
"""`BLS.public_key` or `ED25519.public_key`: from secret to public key."""


class KdfStrength(Enum):
    """How much work one guess of the password costs."""

    STRONG = "strong"
    """scrypt with 256 MB and about 0.7 s a guess, as Ethereum validators use."""
    LOCALNET = "localnet"
    """Under a millisecond, for throw-away keys; the file says so in its description."""


class KeystoreError(Exception):
    """A keystore cannot be read, opened or written; `code` says why.

    `keystore.missing`, `keystore.exists`, `keystore.unreadable`, `keystore.unwritable`,
    `keystore.malformed`, `keystore.kdf_too_expensive`, `keystore.kdf_too_weak`,
    `keystore.password_invalid`, `keystore.wrong_password`, `keystore.key_mismatch`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class _Module(msgspec.Struct):
    function: str
    message: str
    params: dict[str, int | str]


class _Crypto(msgspec.Struct):
    kdf: _Module
    checksum: _Module
    cipher: _Module


class _Keystore(msgspec.Struct):
    crypto: _Crypto
    pubkey: str
    path: str
    uuid: str
    version: int
    description: str = ""


def seal_keystore(
    secret: bytes,
    password: str,
    *,
    derive_public_key: PublicKeyDeriver,
    description: str = "",
    key_path: str = "",
    strength: KdfStrength = KdfStrength.STRONG,
) -> bytes:
    """Return the JSON file that holds `secret` under `password`.

    `key_path` is the EIP-2334 path that the secret was derived along, empty when it was not.
    Raises `KeystoreError` for an empty password, `SchemeError` for a secret that is none.
    """
    assert len(secret) == SECRET_SIZE_BYTES, "a secret has 32 bytes"
    public_key = derive_public_key(secret)
    parameters = _SCRYPT_STRONG
    if strength is KdfStrength.LOCALNET:
        parameters = _SCRYPT_LOCALNET
        description = f"{_LOCALNET_MARK}: {description}" if description else _LOCALNET_MARK
    salt = secrets.token_bytes(_SALT_SIZE_BYTES)
    iv = secrets.token_bytes(_IV_SIZE_BYTES)
    key = _derive_scrypt(_encode_password(password), salt, **parameters)
    ciphertext = _apply_cipher(key, iv, secret)
    kdf_parameters = {"dklen": _DERIVED_KEY_SIZE_BYTES, **parameters, "salt": salt.hex()}
    document: dict[str, Any] = {
        "crypto": {
            "kdf": {"function": "scrypt", "params": kdf_parameters, "message": ""},
            "checksum": {
                "function": "sha256",
                "params": {},
                "message": _compute_checksum(key, ciphertext).hex(),
            },
            "cipher": {
                "function": "aes-128-ctr",
                "params": {"iv": iv.hex()},
                "message": ciphertext.hex(),
            },
        },
        "description": description,
        "pubkey": public_key.hex(),
        "path": key_path,
        "uuid": str(uuid.uuid4()),
        "version": KEYSTORE_VERSION,
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def open_keystore(
    data: bytes,
    password: str,
    *,
    derive_public_key: PublicKeyDeriver,
    strength: KdfStrength = KdfStrength.STRONG,
) -> bytes:
    """Return the secret in a keystore file.

    A file with cheaper key derivation than `strength` is refused, so that a localnet key cannot
    end up guarding real stake. Raises `KeystoreError`.
    """
    keystore = _parse(data)
    modules = keystore.crypto
    iv = _read_hex(modules.cipher.params.get("iv"), _IV_SIZE_BYTES, _IV_SIZE_BYTES)
    ciphertext = _read_hex(modules.cipher.message, SECRET_SIZE_BYTES, SECRET_SIZE_BYTES)
    checksum = _read_hex(modules.checksum.message, _CHECKSUM_SIZE_BYTES, _CHECKSUM_SIZE_BYTES)
    public_key = _read_hex(keystore.pubkey, 1, _PUBLIC_KEY_SIZE_MAX_BYTES)
    key = _derive_key(modules.kdf, _encode_password(password), strength)
    if not hmac.compare_digest(_compute_checksum(key, ciphertext), checksum):
        raise KeystoreError("keystore.wrong_password", "wrong password, or the file is damaged")
    secret = _apply_cipher(key, iv, ciphertext)
    try:
        derived = derive_public_key(secret)
    except SchemeError as error:
        raise KeystoreError("keystore.key_mismatch", f"no key of this kind: {error}") from error
    if derived != public_key:
        raise KeystoreError(
            "keystore.key_mismatch", "the secret does not belong to the public key in the file"
        )
    return secret


def write_keystore(
    path: Path,
    secret: bytes,
    password: str,
    *,
    derive_public_key: PublicKeyDeriver,
    description: str = "",
    key_path: str = "",
    strength: KdfStrength = KdfStrength.STRONG,
    replace: bool = False,
) -> None:
    """Write a keystore that only its owner can read, and prove that it opens.

    The bytes are synced, read back and opened before they take their name, and the name is synced
    too: after a crash there is the whole file or none. An existing file is refused unless
    `replace`, for it may be the only copy of a key. Raises `KeystoreError`.
    """
    if not replace and path.exists():
        raise KeystoreError("keystore.exists", f"{path} exists already")
    data = seal_keystore(
        secret,
        password,
        derive_public_key=derive_public_key,
        description=description,
        key_path=key_path,
        strength=strength,
    )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        try:
            _write_synced(temporary, data)
            reread = open_keystore(
                _read_file(temporary),
                password,
                derive_public_key=derive_public_key,
                strength=strength,
            )
            if reread != secret:
                raise KeystoreError("keystore.unwritable", f"{path} does not read back")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise KeystoreError("keystore.unwritable", f"cannot write {path}: {error}") from error


def read_keystore(
    path: Path,
    password: str,
    *,
    derive_public_key: PublicKeyDeriver,
    strength: KdfStrength = KdfStrength.STRONG,
) -> bytes:
    """Return the secret in the keystore at `path`. Raises `KeystoreError` as `open_keystore`."""
    return open_keystore(
        _read_file(path), password, derive_public_key=derive_public_key, strength=strength
    )


def read_public_key(path: Path) -> bytes:
    """Return the public key that a keystore claims, without its password.

    Anybody who can write the file can change it. Raises `KeystoreError`.
    """
    return _read_hex(_parse(_read_file(path)).pubkey, 1, _PUBLIC_KEY_SIZE_MAX_BYTES)


def _parse(data: bytes) -> _Keystore:
    if len(data) > KEYSTORE_SIZE_MAX_BYTES:
        raise KeystoreError("keystore.malformed", "too long for a keystore")
    try:
        keystore = msgspec.json.decode(data, type=_Keystore)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise KeystoreError("keystore.malformed", f"not a keystore: {error}") from error
    if keystore.version != KEYSTORE_VERSION:
        raise KeystoreError("keystore.malformed", f"version {keystore.version} is not known")
    functions = (keystore.crypto.checksum.function, keystore.crypto.cipher.function)
    if functions != ("sha256", "aes-128-ctr"):
        raise KeystoreError("keystore.malformed", "unknown checksum or cipher function")
    return keystore


def _read_hex(value: object, size_min_bytes: int, size_max_bytes: int) -> bytes:
    if isinstance(value, str):
        try:
            data = bytes.fromhex(value)
        except ValueError as error:
            raise KeystoreError("keystore.malformed", "not hexadecimal") from error
        if size_min_bytes <= len(data) <= size_max_bytes:
            return data
    raise KeystoreError("keystore.malformed", "a field is missing or has the wrong length")


def _read_int(module: _Module, name: str) -> int:
    value = module.params.get(name)
    if not isinstance(value, int) or value < 1:
        raise KeystoreError("keystore.malformed", f"{name} is missing or not positive")
    return value


def _encode_password(password: str) -> bytes:
    """NFKD, without C0, C1 and Delete, in UTF-8: EIP-2335, "Password requirements"."""
    normal = unicodedata.normalize("NFKD", password)
    kept = "".join(character for character in normal if unicodedata.category(character) != "Cc")
    try:
        encoded = kept.encode()
    except UnicodeEncodeError as error:
        raise KeystoreError("keystore.password_invalid", "the password is not Unicode") from error
    if not encoded:
        raise KeystoreError("keystore.password_invalid", "the password is empty")
    return encoded


def _derive_key(kdf: _Module, password: bytes, strength: KdfStrength) -> bytes:
    """Run the file's key derivation, after checking that its cost is neither too high nor low."""
    salt = _read_hex(kdf.params.get("salt"), _SALT_SIZE_MIN_BYTES, _SALT_SIZE_MAX_BYTES)
    if _read_int(kdf, "dklen") != _DERIVED_KEY_SIZE_BYTES:
        raise KeystoreError("keystore.malformed", "the derived key must have 32 bytes")
    if kdf.function == "scrypt":
        n, r, p = (_read_int(kdf, name) for name in ("n", "r", "p"))
        if n < 2 or n & (n - 1):
            raise KeystoreError("keystore.malformed", "n is not a power of two")
        too_expensive = 128 * r * (n + p) > SCRYPT_MEMORY_MAX_BYTES or n * r * p > SCRYPT_WORK_MAX
        _validate_cost(too_expensive, n * r * p < _SCRYPT_STRONG_WORK, strength)
        return _derive_scrypt(password, salt, n, r, p)
    if kdf.function == "pbkdf2" and kdf.params.get("prf") == "hmac-sha256":
        rounds = _read_int(kdf, "c")
        _validate_cost(rounds > PBKDF2_ROUNDS_MAX, rounds < _PBKDF2_STRONG_ROUNDS, strength)
        return pbkdf2_hmac("sha256", password, salt, rounds, _DERIVED_KEY_SIZE_BYTES)
    raise KeystoreError("keystore.malformed", "unknown key derivation function")


def _validate_cost(too_expensive: bool, weak: bool, strength: KdfStrength) -> None:
    if too_expensive:
        raise KeystoreError("keystore.kdf_too_expensive", "key derivation would cost too much")
    if weak and strength is KdfStrength.STRONG:
        raise KeystoreError(
            "keystore.kdf_too_weak", "key derivation is too cheap for anything but a localnet"
        )


def _derive_scrypt(password: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    # OpenSSL counts a little more than the 128 * r * (n + p) bytes of the two main buffers.
    memory_bytes = 128 * r * (n + p + 2) + 2**20
    try:
        return scrypt(
            password, salt=salt, n=n, r=r, p=p, maxmem=memory_bytes, dklen=_DERIVED_KEY_SIZE_BYTES
        )
    except ValueError as error:  # RFC 7914 ties n to r: n < 2**(16 * r)
        raise KeystoreError("keystore.malformed", f"scrypt parameters: {error}") from error


def _compute_checksum(key: bytes, ciphertext: bytes) -> bytes:
    return sha256(key[16:] + ciphertext).digest()


def _apply_cipher(key: bytes, iv: bytes, data: bytes) -> bytes:
    """AES-128-CTR under the first half of the derived key; encrypting is decrypting."""
    context = Cipher(algorithms.AES128(key[:16]), modes.CTR(iv)).encryptor()
    return context.update(data) + context.finalize()


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(KEYSTORE_SIZE_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise KeystoreError("keystore.missing", f"there is no keystore at {path}") from error
    except OSError as error:
        raise KeystoreError("keystore.unreadable", f"cannot read {path}: {error}") from error


def _write_synced(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
