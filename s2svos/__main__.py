"""``python -m s2svos``."""

from s2svos.cli import main

main()
