"""What every room stands on: errors, flags, whole files, JSON, lines for people."""
