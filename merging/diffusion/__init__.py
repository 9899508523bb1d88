"""Where the model lives: loading it, running it, drawing with it. The only importer of diffusers."""
