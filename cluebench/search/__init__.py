"""A cheaper search of a grid: the rule by which trials go on or stop, and what it would have cost on finished runs.

Pure functions of curves: no file, no process, no task's name. A search that runs calls the same rule as the replay.
"""
