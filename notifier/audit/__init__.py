"""The audit feed, read from the log."""
