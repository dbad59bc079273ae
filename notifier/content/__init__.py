"""What is said: the message, its sanitising, its conversion. Pure."""
