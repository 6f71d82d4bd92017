"""What a market is worth: index, mark, funding, and margin that grows with open interest."""

import rota_build

__path__ = rota_build.extend("engine/prices", __path__)
