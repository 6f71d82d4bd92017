"""The rules that mutants switch off: one entry a conjunct, a record, a check."""

from typing import Final

from localnet.sim.mutants import Mutant
from localnet.sim.mutants_of_certificates import CERTIFICATES
from localnet.sim.mutants_of_lanes import LANES
from localnet.sim.mutants_of_members import MEMBERS

MUTANTS: Final[tuple[Mutant, ...]] = (*MEMBERS, *CERTIFICATES, *LANES)
