"""The one language of templates: the gateway reads with it, and what receivers get is worded in it."""
