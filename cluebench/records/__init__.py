"""What a run leaves on the disk: file names, log, result, dev predictions, the identity of a trial."""
