"""Accounts: balances and exposures, fee tiers, what may leave, sub-accounts, session keys."""

import rota_build

__path__ = rota_build.extend("engine/accounts", __path__)
