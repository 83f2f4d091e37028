"""The embedded model and synthetic data: with them the whole tool runs anywhere in minutes."""
