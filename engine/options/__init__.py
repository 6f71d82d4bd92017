"""Options: chains and series, surfaces, listing, marks, expiry and settlement."""

import rota_build

__path__ = rota_build.extend("engine/options", __path__)
