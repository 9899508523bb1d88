"""What stands in front of Gradio: who may ask, how much, and how browsers treat the answers."""
