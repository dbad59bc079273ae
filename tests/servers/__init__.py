"""
Real servers for tests: kube-apiserver with etcd, and Redis or Valkey.

``recipe`` and ``ports`` use the standard library alone, because ``scripts/controlplane`` runs them
outside any virtual environment; keep this file free of imports for the same reason.
"""
