"""All mutants, by the family of rules that they switch off."""

from typing import Final

from localnet.sim.mutants.ancestry import ANCESTRY
from localnet.sim.mutants.certificates import CERTIFYING, COLLECTING
from localnet.sim.mutants.delivery import CONVICTING, DELIVERING, LANES
from localnet.sim.mutants.durability import PERSISTING, RESTARTING
from localnet.sim.mutants.forms import FORMS
from localnet.sim.mutants.plant import Mutant
from localnet.sim.mutants.signing import COMMITTING, PROPOSING, TIMING_OUT, VOTING

MUTANTS: Final[tuple[Mutant, ...]] = (
    *VOTING,
    *TIMING_OUT,
    *PROPOSING,
    *COMMITTING,
    *PERSISTING,
    *RESTARTING,
    *CERTIFYING,
    *FORMS,
    *ANCESTRY,
    *COLLECTING,
    *CONVICTING,
    *LANES,
    *DELIVERING,
)
