"""IterIS Studio's library: several Stable Diffusion 1.5 LoRAs in, one merged adapter out."""

import os

__version__ = "0.1.0"

# Read by transformers when it is imported, by whichever module that is: else it tells every user
# that torchvision, which diffusers asks for and nothing here needs, is missing.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
