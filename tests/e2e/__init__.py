"""End to end: the controller as a real process, on real servers, seen from outside."""
