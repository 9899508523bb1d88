"""What a merge or an adapter is like: summary, conflicts, rank curve, plots."""
