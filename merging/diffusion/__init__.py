"""Where the model lives: loading, running and drawing. The only importer of diffusers."""

import os

# Read by transformers when it is imported: else it tells every user that torchvision, which
# nothing here needs, is missing.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
