"""The embedded model and synthetic data, with which the whole tool runs anywhere in minutes."""
