"""What is to run: the grid's flags, trials, jobs, estimates."""
