"""Results of a grid as tables for terminals, scripts and browsers. Reads result files; starts nothing."""
