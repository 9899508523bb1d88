"""What can be set from outside: the model, its loading, its saving."""
