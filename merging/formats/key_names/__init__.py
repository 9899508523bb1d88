"""How the keys of a file name its layers: one file per naming scheme."""
