"""Redis, behind one door: client, codec, the log of a notification, the scripts."""
