"""The Redis adapter: client, codec, the attempt log of a notification, the scripts."""
