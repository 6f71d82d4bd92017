"""What may stop the engine. Users' mistakes never do: they become receipts."""


class InvariantViolation(Exception):  # noqa: N818 - the glossary's word; it is no input error
    """The books do not balance: a bug of ours. The node must halt, never retry."""

    code = "engine.invariant"


class SnapshotError(Exception):
    """The bytes are no snapshot of this version, or do not have the root that they claim."""

    code = "engine.snapshot_invalid"


class ProofError(Exception):
    """What somebody showed proves nothing under the root that it was checked against.

    | code | meaning |
    |---|---|
    | `proof.too_large` | more bytes than any proof has |
    | `proof.malformed` | the bytes are no canonical proof |
    | `proof.invalid` | the proof does not lead from what is asked to the root |
    | `proof.certificate` | the root is not certified, or another one is |
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SolvencyError(Exception):
    """A statement of solvency that cannot be true.

    | code | meaning |
    |---|---|
    | `solvency.malformed` | the bytes are no statement of this version |
    | `solvency.out_of_range` | an amount is negative, or larger than any true one |
    | `solvency.unbalanced` | what is owed and what is held do not add up |
    | `solvency.other_totals` | it is not of the totals that its state root commits to |
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ChunkError(Exception):
    """A manifest that is none, or not of the state that is wanted.

    | code | meaning |
    |---|---|
    | `manifest.too_large` | more bytes, chunks or content than any manifest has |
    | `manifest.version` | a manifest or a snapshot of another version |
    | `manifest.malformed` | the bytes are no canonical manifest, or it contradicts itself |
    | `manifest.other_state` | a manifest of another height or state root than asked for |
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
