"""The contract shared by every other room. Pure: no I/O, no clock, no randomness."""
