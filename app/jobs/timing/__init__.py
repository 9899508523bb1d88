"""How long jobs take: what is left of a running one, and what the next one will need."""
