"""The protocol as explicit-state models, checked exhaustively."""
