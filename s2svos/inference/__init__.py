"""Follow a video from the mask of its first frame: the run and what it writes."""
