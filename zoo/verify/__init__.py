"""Verifies weights, from their bytes to the outputs of the network."""
