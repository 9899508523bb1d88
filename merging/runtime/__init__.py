"""Progress, memory, phases, threads and seeds."""
