"""Orders outside the books: triggers, pairs, slices of TWAPs, dead man's switches."""

import rota_build

__path__ = rota_build.extend("engine/waiting", __path__)
