"""The content of a message: composing, sanitising, converting. Pure."""
