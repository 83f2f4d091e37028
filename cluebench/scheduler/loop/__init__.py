"""Events in, processes out."""
