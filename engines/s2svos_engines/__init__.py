"""Engines that stream frames through a bundle's graphs. Needs no torch."""
