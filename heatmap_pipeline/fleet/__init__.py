"""Many workers over one store of objects: each computes some symbols in a home of its own, and commits them whole."""
