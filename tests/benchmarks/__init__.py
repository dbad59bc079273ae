"""Loads and the writers that fail under them; run by hand, or from the tests they justify."""
