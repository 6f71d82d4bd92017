"""The state root, what it says of orders, proofs under it, and the statement of solvency."""

import rota_build

__path__ = rota_build.extend("engine/commitment", __path__)
