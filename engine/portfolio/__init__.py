"""Portfolio margin: functions of numbers, and the accounts that choose it."""

import rota_build

__path__ = rota_build.extend("engine/portfolio", __path__)
