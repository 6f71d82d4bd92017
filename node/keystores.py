"""The secrets of a node, the keystores that hold them, and the passwords that open those."""

import sys
from collections.abc import Callable
from enum import StrEnum
from getpass import getpass
from pathlib import Path
from typing import Final

from msgspec import Struct

from crypto.bls import BLS
from crypto.ed25519 import ED25519
from crypto.keystore import (
    KdfStrength,
    KeystoreError,
    read_keystore,
    read_public_key,
    write_keystore,
)
from node.exit_codes import ExitCode, OperatorError

PASSWORD_SIZE_MAX_BYTES: Final = 4096
"""First line of a password file, its end included."""


class NodeKeyError(OperatorError):
    """A key or its password is missing or wrong."""

    code = "key.unusable"
    exit_code = ExitCode.KEY


class KeyKind(StrEnum):
    """The keys of a node, by the name of their keystore."""

    IDENTITY = "identity"
    """Ed25519: connections to other members and batch headers."""
    CONSENSUS = "consensus"
    """BLS12-381: votes, timeouts, proposals, acknowledgements, state votes."""
    ORACLE = "oracle"
    """Ed25519: oracle reports, sent as ordinary envelopes."""


def public_key_deriver(kind: KeyKind) -> Callable[[bytes], bytes]:
    """Return the function from secret to public key of this kind."""
    return BLS.public_key if kind is KeyKind.CONSENSUS else ED25519.public_key


class NodeKeys(Struct, frozen=True):
    """A node's opened secrets, 32 bytes each. Never logged: `repr` does not show them."""

    identity: bytes
    consensus: bytes
    oracle: bytes

    def __repr__(self) -> str:
        return "NodeKeys(...)"


class Keystores:
    """The keystores in one folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, kind: KeyKind) -> Path:
        """Where the keystore of one key is."""
        return self.directory / f"{kind.value}.json"

    def public_key(self, kind: KeyKind) -> bytes:
        """The public key that a keystore claims; needs no password. Raises `NodeKeyError`."""
        path = self.path(kind)
        try:
            return read_public_key(path)
        except KeystoreError as error:
            raise _key_error(path, error) from error

    def load(self, password: str, *, accept_weak: bool = False) -> NodeKeys:
        """Open all keystores; raises `NodeKeyError`.

        `accept_weak` admits the cheap key derivation of localnet keystores.
        """
        strength = KdfStrength.LOCALNET if accept_weak else KdfStrength.STRONG
        secrets: dict[str, bytes] = {}
        for kind in KeyKind:
            path = self.path(kind)
            try:
                secrets[kind.value] = read_keystore(
                    path, password, derive_public_key=public_key_deriver(kind), strength=strength
                )
            except KeystoreError as error:
                raise _key_error(path, error) from error
        return NodeKeys(**secrets)

    def write(
        self,
        kind: KeyKind,
        secret: bytes,
        password: str,
        *,
        strength: KdfStrength = KdfStrength.STRONG,
    ) -> None:
        """Write one keystore; refuses to replace one. Raises `NodeKeyError`."""
        path = self.path(kind)
        try:
            write_keystore(
                path,
                secret,
                password,
                derive_public_key=public_key_deriver(kind),
                description=f"Rota {kind.value} key",
                strength=strength,
            )
        except KeystoreError as error:
            raise _key_error(path, error) from error


def _key_error(path: Path, error: KeystoreError) -> NodeKeyError:
    advice = {
        "keystore.missing": "restore it from the backup, or make a home with `rota node init`",
        "keystore.exists": "nothing was changed; move the old keystore away first",
        "keystore.wrong_password": "check --password-file, or the file that "
        "ROTA_PASSWORD_FILE names",
        "keystore.kdf_too_weak": "weak keystores are for localnets: make this key anew, or set "
        "node.accept_weak_keystores on a localnet",
    }.get(error.code, "restore the keystore from the backup")
    return NodeKeyError(f"{path}: {error}", advice=advice, code=error.code)


def read_password(path: Path) -> str:
    """Return a password file's first line; raises `NodeKeyError`."""
    try:
        with path.open("rb") as file:
            line = file.readline(PASSWORD_SIZE_MAX_BYTES + 1)
        if len(line) > PASSWORD_SIZE_MAX_BYTES:
            raise NodeKeyError(
                f"the first line of {path} is longer than {PASSWORD_SIZE_MAX_BYTES} bytes",
                advice="is this really a password file?",
                code="key.password_file",
            )
        password = line.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise NodeKeyError(
            f"cannot read the password file {path}: {error}",
            advice="name a readable text file whose first line is the password",
            code="key.password_file",
        ) from error
    if not password:
        raise NodeKeyError(
            f"the password file {path} is empty",
            advice="its first line must be the password",
            code="key.password_file",
        )
    return password


def find_password(
    password_file: Path | None, *, prompt: str, fallback: Path | None = None, confirm: bool = False
) -> str:
    """Return a password: from the file named, else from `fallback` if it exists, else by asking.

    `confirm` asks twice, for a password that is new. Raises `NodeKeyError` if there is neither a
    file nor a terminal to ask at.
    """
    if password_file is not None:
        return read_password(password_file)
    if fallback is not None and fallback.exists():
        return read_password(fallback)
    if not sys.stdin.isatty():
        raise NodeKeyError(
            "a password is needed, and there is no terminal to ask for it",
            advice="name a file with --password-file or ROTA_PASSWORD_FILE",
            code="key.no_password",
        )
    password = getpass(f"{prompt}: ")
    if confirm and getpass("The same again: ") != password:
        raise NodeKeyError(
            "the two passwords differ",
            advice="nothing was changed; try again",
            code="key.password_differs",
        )
    return password
