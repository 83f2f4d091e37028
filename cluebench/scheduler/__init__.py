"""The grid's scheduler: which trials there are, and the loop that carries them out on whatever devices are free.

    flags, plan, grid          what is to run: trials, their identities, what is done already
    estimates, forecast        how long a trial takes, the memory it needs, what a plan will cost
    search                     from a grid to its results: warm-up, the loop, the tables at the end
    loop, engine               events in, processes out; what an engine is to the loop
    jobs, roll                 a trial on its way, and whose turn it is
    ledger, room, promises     who holds which device, what fits there, what other schedulers have promised
    cards, devices             which card is asked when, and how: NVML
    failures, blame            why an attempt failed, and when nobody is to blame
    halving_search             which trials pause at a rung, and which are stopped there
    commands, runner, launch   a trial's command, its processes, its lock
    local_engine, ray_engine   where trials run
    state, recorder            the run directory: locks, grid.json, grid.log, the report, kept models
    progress, status           what people see meanwhile, and what --dry_run, --status and the end print

No Paddle here.
"""
