"""What a run's masks are saved as for other programs: editors, annotators, tables."""
