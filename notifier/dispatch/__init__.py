"""Deciding what to send and when (`plan`, `retry`, `outcome`: pure), and doing it in order."""
