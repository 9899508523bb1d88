"""Scorers, and the figures they give of the embedded base and of merges."""
