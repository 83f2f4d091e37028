"""The grid's scheduler: plan, estimates, devices, runner, state, and the event loop that joins them. No Paddle here."""
