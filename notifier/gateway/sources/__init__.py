"""Kinds of sources: a file for each program, which reads its requests. They do not know each other."""
