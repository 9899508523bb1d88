"""Where the model lives: loading, running and drawing. The only importer of diffusers."""

import logging

# Importing diffusers makes transformers log that torchvision is missing. Nothing here needs it.
logging.getLogger("transformers.utils.import_utils").addFilter(
    lambda record: "requires torchvision" not in record.getMessage()
)
