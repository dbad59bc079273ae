"""What the operators' command does: it looks, it appends facts, it pokes the owner; it never claims."""
