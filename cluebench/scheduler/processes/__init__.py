"""Where trials run: engines, processes, locks."""
