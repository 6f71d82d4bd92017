"""The whole state as canonical bytes, and back: a file for each part that has a form of its own."""

import rota_build

__path__ = rota_build.extend("engine/snapshots", __path__)
