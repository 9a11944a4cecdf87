"""Online learning: a bundle's network tuned to the first frame of one video."""
