"""Running a job: progress, memory, phases, threads and seeds."""
