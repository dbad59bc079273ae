"""The gateway: webhooks of other programs become notifications, by `create` and `get` alone."""
