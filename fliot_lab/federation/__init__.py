"""Federations: who talks to whom, the simulator, Flower, and peers without a server."""
