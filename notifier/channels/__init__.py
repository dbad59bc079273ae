"""One file per channel; channels do not know each other. `http` is the only outbound HTTP client."""
