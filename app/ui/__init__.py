"""The page and its public endpoints: the only importer of Gradio."""
