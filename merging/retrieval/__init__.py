"""LoRAs that fit a prompt."""
