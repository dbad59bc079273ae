"""Tests, and the servers and stand-ins that they need."""
