"""Exports networks to the formats of other runtimes, and compares each file with the network at once."""
