"""Where the model lives: loading, running and drawing. The only importer of diffusers."""
