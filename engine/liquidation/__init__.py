"""Liquidation: who is in distress, closing, bids for slices, deleveraging."""

import rota_build

__path__ = rota_build.extend("engine/liquidation", __path__)
