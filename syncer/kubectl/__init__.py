"""
`kubectl ledger`: the operators' commands from outside of the cluster, run inside a pod of the controller.

Whoever may create `pods/exec` in the controller's namespace needs nothing else: no password of Redis, no
settings file, no port. The plugin finds the release by its labels, runs the command there, and hands
through what it says, its exit code, and the width and the colours of the terminal.

It uses the standard library alone and runs on every Python from 3.9 on, since it is installed on laptops
as one file (`scripts/plugin build`); so this package imports nothing of the rest, and nothing that is
newer.
"""
