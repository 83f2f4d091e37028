"""Which trial has which device, what fits there, which job is next."""
