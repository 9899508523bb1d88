"""Pictures that LoRAs draw, what of a LoRA is in them, and a merge trained on such pictures."""
