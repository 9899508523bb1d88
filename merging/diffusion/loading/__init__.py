"""How the pipeline of a base model is loaded: from a folder, the Hub or a single file."""
