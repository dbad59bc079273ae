"""
Delivery: deciding what to send, sending it, and recording what happened.

Everything that must survive goes through `syncer`; this package keeps no state that matters.
"""
