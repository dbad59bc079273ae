"""Stand-ins: small, stateful, and asked the same questions as the real thing."""
