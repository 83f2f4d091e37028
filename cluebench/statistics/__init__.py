"""How certain a difference between scores is: errors, paired tests, shared ranks, selection. Only numpy and scipy.

Everything is a pure function of arrays. Each row has a score in any unit, for example 1 for right and 0 for wrong, and
results are in this unit. Rows that share a passage or a record are not independent: ``clusters`` [rows] names the
cluster of each row; None means that every row is its own cluster. Only whole clusters are resampled, left out or cut in
halves. A score is always the mean over rows.
"""
