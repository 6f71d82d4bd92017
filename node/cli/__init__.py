"""The `rota` command. Every package brings its own groups by entry point; the node's are here."""
