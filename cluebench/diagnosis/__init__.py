"""What the doctor finds out about a machine (facts), and what it makes of it (checks)."""
