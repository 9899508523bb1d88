"""Files of visits, the library and the history."""
