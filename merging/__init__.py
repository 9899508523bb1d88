"""IterIS Studio's library: several Stable Diffusion 1.5 LoRAs in, one merged adapter out."""

__version__ = "0.1.0"
