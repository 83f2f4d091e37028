"""What this machine has: its NVIDIA cards."""
