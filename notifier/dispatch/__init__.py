"""Which notifications are reconciled next, which attempts run now, and when to try again."""
