"""
Kinds of sources: a module for each program, which reads its requests; `alertgroups` reads groups of alerts.

The modules do not depend on each other.
"""
