"""The version, for the package and for the recipe of every merge."""

__version__ = "0.1.0"
