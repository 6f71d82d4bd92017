"""Findings as files: the input, small and as it was found, and the command that repeats it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from localnet.fuzz.campaign import Finding
from localnet.sim.bundle import writing

KEEP_DEFAULT: Final = Path("fuzz-failures")
SAVED_MAX_BYTES: Final = 64 << 20


class Saved(Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a finding's file."""

    target: Annotated[str, Meta(max_length=64)]
    seed: int
    kind: str
    code: str
    where: str
    detail: str
    minimal: bytes
    """Both in base64."""
    found: bytes


class SavedError(ValueError):
    """A file that holds no finding."""


def save_findings(directory: Path, findings: Sequence[Finding]) -> list[Path]:
    """Write a file for each; an earlier one of the same fault is written over. Raises
    `localnet.sim.bundle.KeepError`."""
    paths = []
    with writing(directory):
        for each in findings:
            directory.mkdir(parents=True, exist_ok=True)
            words = "-".join((each.target, each.result.kind, each.result.code, each.result.where))
            path = directory / f"{re.sub(r'[^a-zA-Z0-9_-]+', '-', words).strip('-')[:120]}.json"
            path.write_bytes(encode_saved(each))
            paths.append(path)
    return paths


def encode_saved(finding: Finding) -> bytes:
    """A finding as JSON for people."""
    result = finding.result
    saved = Saved(
        finding.target,
        finding.seed,
        result.kind,
        result.code,
        result.where,
        result.detail,
        finding.minimal,
        finding.data,
    )
    return msgspec.json.format(msgspec.json.encode(saved), indent=2) + b"\n"


def decode_saved(data: bytes) -> Saved:
    """Read a finding's file. Raises `SavedError`."""
    if len(data) > SAVED_MAX_BYTES:
        raise SavedError("too large for a finding")
    try:
        return msgspec.json.decode(data, type=Saved)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SavedError(f"not a finding: {error}") from error
