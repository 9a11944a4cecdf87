"""Many videos: a list of jobs, on this machine, on one of several, or on a Ray cluster."""
