"""Kubernetes, behind one door: transport, reflector, leases, status writes, CRD."""
