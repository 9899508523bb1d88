"""A LoRA of one base model carried to another of the same architecture."""
