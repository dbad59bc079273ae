"""The operators' command: it reads logs, appends facts and wakes their owners; it never claims a log."""
