"""From a plan to its results: the run directory, what people see meanwhile, the tables."""
