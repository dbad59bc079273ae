"""Looking at one notification, deciding, and having it done."""
