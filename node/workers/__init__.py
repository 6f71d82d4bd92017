"""Work that must not run on the node's event loop: the engine process, crypto processes, BLS threads."""
