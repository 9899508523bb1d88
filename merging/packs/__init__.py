"""Packs: many LoRAs of one base in one file; each can be had back."""
