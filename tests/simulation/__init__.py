"""Deterministic simulation: the real code on a seeded loop, between servers that misbehave."""
