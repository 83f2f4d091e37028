"""The grid's scheduler: which trials there are, and the loop that carries them out on whatever devices are free.

    plan/        what is to run: the grid's flags, trials, jobs, how long each takes, why an attempt failed
    processes/   where trials run: engines, a trial's command, its process, its lock
    allocation/  who holds which device, what fits there, whose turn it is
    loop/        events in, processes out; whose failure it is; how healthy the devices are
    run/         from a plan to its results: the run directory, what people see meanwhile, the tables at the end

A sub-room imports only from those above it. No Paddle here.
"""
