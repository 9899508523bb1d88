"""Prompts as text: A1111's syntax, and where they name trigger phrases."""
