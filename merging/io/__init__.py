"""Files, archives, pictures and the Hugging Face Hub."""
