"""The behaviour of the page: what happens when a widget is used."""
