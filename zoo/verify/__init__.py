"""Weights checked from their bytes to the outputs of the network."""
