"""Chaos on real parts: replicas, servers and connections fail at random, and a checker judges."""
