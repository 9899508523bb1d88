"""Prompts as the users of A1111 write them: emphasis, BREAK, any length, and clip skip."""
