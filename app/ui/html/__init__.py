"""HTML that the page shows, built from data."""
