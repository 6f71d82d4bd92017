"""What a user makes of a node's statement of solvency, trusting nothing but the genesis.

    state certificate    a quorum of the genesis committee signed the state root of the height
    totals               under that root: deposits, withdrawals, insurance, fees
    statement            liabilities - deficit + insurance + reserved == held, of these totals
    proof of equity      what the account is owed is part of the liabilities

What no proof can show is that every *other* account is part of them as well, and that all users are
shown one tree: each user checks his own account, and whoever asks several members for the statement
about one height gets the same bytes from all that are honest.
"""

from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from committee.committee import Committee
from crypto.scheme import SignatureScheme
from engine.commitment.solvency import (
    SolvencyStatement,
    decode_statement,
    validate_equity_proof,
    validate_totals,
)
from engine.errors import ProofError, SolvencyError
from node.exit_codes import ExitCode, OperatorError
from node.leaf_proofs import verify_state_certificate


class RefutedError(OperatorError):
    """A node's statement of solvency does not hold."""

    code = "solvency.refuted"
    exit_code = ExitCode.SAFETY


class SolvencyAnswer(Struct, frozen=True):
    """A node's answer to the query `solvency`; anybody may have written it."""

    statement: Annotated[bytes, Meta(max_length=1024)]
    """`engine.commitment.solvency.encode_statement`."""
    totals_proof: bytes
    certificate: bytes | None
    """An encoded `StateCertificate`."""
    proof: bytes | None
    """Of what the account that was named is owed."""


class SolvencyVerdict(NamedTuple):
    """A statement that holds."""

    statement: SolvencyStatement
    signers: tuple[int, ...]
    """Members who certified its state."""
    power: int
    owed_microquote: int | None
    """What the account is owed; None if none was named."""


def verify_solvency(
    answer: SolvencyAnswer,
    account_id: bytes | None,
    *,
    chain_id: bytes,
    committee: Committee,
    scheme: SignatureScheme,
) -> SolvencyVerdict:
    """Check an answer to the end. Raises `RefutedError`."""
    try:
        statement = decode_statement(answer.statement)
        signers = _verify_certificate(answer.certificate, statement, chain_id, committee, scheme)
        validate_totals(statement, answer.totals_proof)
        owed = None
        if account_id is not None:
            if answer.proof is None:
                raise ProofError("proof.malformed", "the proof of what the account is owed lacks")
            owed = validate_equity_proof(statement, account_id, answer.proof)
    except (SolvencyError, ProofError) as error:
        raise _refuted(f"{error.code}: {error}") from error
    return SolvencyVerdict(statement, signers, committee.power_of(signers), owed)


def _verify_certificate(
    encoded: bytes | None,
    statement: SolvencyStatement,
    chain_id: bytes,
    committee: Committee,
    scheme: SignatureScheme,
) -> tuple[int, ...]:
    """Who certified the state that the statement is about. Raises `RefutedError`."""
    if encoded is None:
        raise RefutedError(
            f"no certificate for the state of height {statement.height} is there",
            advice="ask again in a minute, or another node with --node",
            code="solvency.uncertified",
            exit_code=ExitCode.TIMED_OUT,
        )
    return verify_state_certificate(
        encoded, statement.height, statement.state_root, chain_id, committee, scheme
    )


def _refuted(detail: str) -> RefutedError:
    return RefutedError(
        f"the statement does not hold: {detail}",
        advice="keep the answer (--json), and ask another node with --node",
    )
