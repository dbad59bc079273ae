"""The Kubernetes adapter: client, reflector, leases, status writes, Events, the CRD."""
