"""CLIP scores of pictures."""
