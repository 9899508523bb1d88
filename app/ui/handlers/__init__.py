"""What happens when a widget is used."""
