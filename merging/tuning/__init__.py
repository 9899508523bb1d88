"""Strengths by search: for a merge by any method, against a judge."""
