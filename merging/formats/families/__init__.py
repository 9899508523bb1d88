"""How the tensors of a layer give its change Δ: one file per family of adapters."""
