"""
The deed: deciding what to send, sending it, and saying truthfully what happened.

Everything that must survive goes through `syncer`; this package keeps no state that matters.
"""
