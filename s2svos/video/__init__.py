"""Videos in, masks and overlays out."""
