"""Which channels a notification goes to: the routing file (pure functions) and its reload (I/O)."""
