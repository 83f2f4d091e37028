"""Who holds which device, and what fits there."""
