"""Level-triggered delivery: from a version of an object to attempts and their outcomes."""
