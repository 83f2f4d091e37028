"""What CLUE is: the task table and the published facts."""
