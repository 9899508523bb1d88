"""The float64 mathematics of one layer."""
