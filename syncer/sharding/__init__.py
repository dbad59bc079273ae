"""Which replica works on what: one Lease a shard, and the map that all replicas agree on."""
