"""Exception groups: one cause often ends several tasks, and what caused it lies inside."""

from collections.abc import Iterator


def walk_leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions of a group at any depth, in order; of anything else, itself."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from walk_leaves(each)
    else:
        yield error
