"""The grid's scheduler: which trials there are, and the loop that runs them on the devices that are free.

    plan/        what to run: the grid's flags, trials, jobs, attempts, how long each takes, why an attempt failed
    processes/   where trials run: engines, a trial's command, its process, its lock
    allocation/  which trial has which device, what fits there, which job is next
    loop/        events in, processes out; how attempts end, and the cause of a failure
    run/         from a plan to its results: the run directory, displays, the tables at the end

A sub-room imports only from those above it. No Paddle here.
"""
