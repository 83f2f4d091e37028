"""A finished grid in one file that others can check: packed, verified against the official files, merged."""
