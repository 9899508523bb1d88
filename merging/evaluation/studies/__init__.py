"""Questions that the embedded base and its LoRAs answer by pictures."""
