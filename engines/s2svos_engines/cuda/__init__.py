"""What runs on an NVIDIA GPU."""
