"""How good masks are: DAVIS's measures and protocol."""
