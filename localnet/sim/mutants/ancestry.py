"""What binds a block to its ancestors: each condition of `validate_child`."""

from typing import Final

from localnet.sim.mutants.plant import Mutant, make_mutant

_CHILD: Final = "consensus.payload:validate_child"
_LIE: Final = ("liar:wrong_parent+long",)

ANCESTRY: Final[tuple[Mutant, ...]] = (
    make_mutant(
        "time_not_above_parent_unchecked",
        "B2, block.time_not_above_parent: a block is later than its parent",
        r"Ancestry: .* no later than its parent",
        _CHILD,
        "if block.time_ms <= parent.time_ms:",
        "if block.time_ms < parent.time_ms:",
        first=_LIE,
    ),
    make_mutant(
        "lane_not_above_cursor_unchecked",
        "B2, block.lane_not_above_cursor: what is ordered is not ordered again",
        r"Ancestry: .* orders lane \d+ up to \d+ again",
        _CHILD,
        "if certificate.data.sequence <= parent.cursors.get(certificate.data.author, 0):",
        "if False:",
        first=_LIE,
    ),
    make_mutant(
        "state_not_newer_unchecked",
        "B2, block.state_not_newer: a result is newer than the last one of the chain",
        r"Ancestry: .* result that is no newer",
        _CHILD,
        "if state.header.height <= certified_height:",
        "if False:",
        first=_LIE,
    ),
    make_mutant(
        "state_below_the_root_refused",
        "B2: a result of a height that is committed and forgotten is of this chain",
        r"Innocence: .* block\.state_of_another_chain",
        _CHILD,
        "if state.header.height >= tree.root.height:",
        "if True:",
        first=("quiet", "delays"),
    ),
    make_mutant(
        "execution_lag_unbounded",
        "B2, block.execution_lag: without certified results nothing more is ordered for long",
        r"Ancestry: .* heights after the last certified result",
        "consensus.payload:is_lagging",
        "height - certified_height > config.execution_lag_max_blocks",
        "False",
        _CHILD,
        "if block.lanes and is_lagging(config, block.height, certified_height):",
        "if False:",
        first=("no_results",),
    ),
)
