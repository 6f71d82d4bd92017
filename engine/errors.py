"""What may stop the engine. Users' mistakes never do: they become receipts."""


class InvariantViolation(Exception):  # noqa: N818 - the glossary's word; it is no input error
    """The books do not balance: a bug of ours. The node must halt, never retry."""

    code = "engine.invariant_violated"


class SnapshotError(Exception):
    """The bytes are no snapshot of this version, or do not have the root that they claim."""

    code = "engine.snapshot_invalid"
