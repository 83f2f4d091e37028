"""Events in, processes out; how attempts end, and the cause of a failure."""
