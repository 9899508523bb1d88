"""How fast: merges, pictures, growth with the number of LoRAs."""
