"""Publication of the attempt log: claim, append, merge, write; and the loops that check again."""
