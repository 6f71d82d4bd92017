"""Markets: books, placing, matching, cancelling, and auctions at one price."""

import rota_build

__path__ = rota_build.extend("engine/trading", __path__)
