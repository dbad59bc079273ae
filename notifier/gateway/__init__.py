"""The gateway: turns other programs' webhooks into notifications; it only creates, gets and lists them."""
