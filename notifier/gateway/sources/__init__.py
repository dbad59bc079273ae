"""
Kinds of sources: a file for each program, which reads its requests; groups of alerts are `alertgroups`.

They do not know each other.
"""
