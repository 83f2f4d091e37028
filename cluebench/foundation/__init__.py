"""What every room uses: errors, flags, whole files, JSON, lines for people."""
