"""The widgets of the page, section by section."""
