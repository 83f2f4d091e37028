"""What a difference between scores can carry: errors, paired tests, shared ranks, selection. numpy and scipy alone.

Everything is a pure function of arrays. A score is a number a row in any unit, such as 1 for right and 0 for wrong, and
results are in its unit. Rows that share a passage or a record are not independent: ``clusters`` [rows] names the one
each row belongs to, None says that every row stands for itself. What is resampled, left out or cut in halves is always
a whole cluster, and a score is always the mean over rows.
"""
