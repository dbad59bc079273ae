"""The operators' command: it reads, it appends facts, it wakes the owner; it never claims."""
