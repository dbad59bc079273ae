"""Which channels a notification goes to: the routing file (pure) and its reload (shell)."""
