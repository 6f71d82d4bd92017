"""The answer to the query `solvency`: a kept statement, with the certificate of its state."""

from typing import Any, Final

from consensus.effects import compute_key
from node.door import QueryError
from node.recovery import CERTIFICATE_BY_HEIGHT_TABLE, Archive
from node.workers.statements import StatementStore, StoredStatement


class CertifiedStatements:
    """Reads both; blocking."""

    def __init__(self, statements: StatementStore, archive: Archive) -> None:
        self._statements: Final = statements
        self._archive: Final = archive

    def describe(self, account_id: bytes | None, height: int | None) -> dict[str, Any]:
        """What `node.solvency.SolvencyAnswer` reads. Raises `QueryError` and `StorageError`."""
        found = self._find(height)
        if found is None:
            raise QueryError(
                "solvency.unknown", "there is no statement of solvency about this height here"
            )
        stored, certificate = found
        height = stored.statement.height
        proof = None
        if account_id is not None:
            proof = self._statements.prove(height, account_id)
            if proof is None:
                raise QueryError("account.unknown", f"no account had this id at height {height}")
        return {
            "height": height,
            "statement": stored.encoded,
            "totals_proof": stored.totals_proof,
            "certificate": certificate,
            "account": account_id,
            "proof": proof,
        }

    def _find(self, height: int | None) -> tuple[StoredStatement, bytes | None] | None:
        """The statement about a height, by default the newest that is certified if one is, and the
        certificate of its state if there is one."""
        uncertified = None
        for each in self._statements.heights() if height is None else (height,):
            stored = self._statements.load(each)
            if stored is None:
                continue
            certificate = self._archive.read(CERTIFICATE_BY_HEIGHT_TABLE, compute_key(each))
            if certificate is not None:
                return stored, certificate
            uncertified = uncertified or (stored, None)
        return uncertified
