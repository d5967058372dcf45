"""A speech recognition toolkit: transducers, weighted finite-state transducers, and recipes that tie them together."""

__version__ = "0.1.0"
