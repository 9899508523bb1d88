"""How the layers of a file are named, one file per spelling."""
