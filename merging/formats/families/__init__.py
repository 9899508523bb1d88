"""What the numbers of a file mean, one file per family of adapters."""
