"""Attacks on the app and on the readers: ``python -m tests.attack`` runs all of them."""
