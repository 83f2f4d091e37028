#!/usr/bin/env bash
# `scancel --signal=USR1 JOB` signals no process of a batch job, and with --full only one process group.
#
# Expected: a running batch job, or at least its script, gets the signal; with --full all of its processes do.
# Happens: without --full no process gets the signal, because there are no job steps; the exit code is 0 and there is no
#   message. With --full the process group of the script gets it, but not a child in a new session (setsid,
#   start_new_session=True). A plain `scancel JOB` sends SIGTERM to that child, too (proctrack/linuxproc).
# Matters: "checkpoint on USR1" that works in one script does not work in another. If a parent passes SIGTERM on, its
#   children get it twice.
#
# Needs root on Debian 12; installs slurm-wlm and munge where they are missing, and starts them on loopback only.
set -euo pipefail
version=22.05.8
if ! slurmctld -V 2>/dev/null | grep -q "$version"; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "slurm-wlm=$version-*" munge >/dev/null
fi
slurmctld -V | grep "$version"
there=$(mktemp -d)
daemons=()
end() {
    for _ in $(seq 40); do squeue -h 2>/dev/null | grep -q . || break; sleep 0.5; done # jobs that are being ended
    for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null || true; done
    sleep 1
    for pid in "${daemons[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    rm -rf "$there"
}
trap end EXIT
export SLURM_CONF=$there/slurm.conf
host=$(hostname)
read -r controller node < <(python3 -c 'import socket
s = [socket.socket() for _ in "ab"]
[one.bind(("127.0.0.1", 0)) for one in s]
print(*(one.getsockname()[1] for one in s))')
mkdir "$there/state" "$there/spool"
head -c 1024 /dev/urandom >"$there/key" && chmod 600 "$there/key"
cat >"$SLURM_CONF" <<CONF
ClusterName=finding
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
SlurmUser=root
SlurmdUser=root
AuthInfo=socket=$there/munge
StateSaveLocation=$there/state
SlurmdSpoolDir=$there/spool
SlurmctldPidFile=$there/slurmctld.pid
SlurmdPidFile=$there/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=5
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$node CPUs=3 CoresPerSocket=3 RealMemory=100
PartitionName=all Nodes=n1 Default=YES MaxTime=INFINITE State=UP
SlurmdParameters=config_overrides
CONF
munged --foreground --force --socket="$there/munge" --key-file="$there/key" --pid-file="$there/munge.pid" \
    --log-file="$there/munge.log" --seed-file="$there/seed" 2>/dev/null & daemons+=($!)
until [ -S "$there/munge" ]; do sleep 0.1; done
slurmctld -D -c >"$there/slurmctld.log" 2>&1 & daemons+=($!)
slurmd -D -N n1 >"$there/slurmd.log" 2>&1 & daemons+=($!)
until sinfo -h -o %T 2>/dev/null | grep -q idle; do sleep 0.2; done

cat >"$there/listen.py" <<'PY'
import signal, subprocess, sys, time
name, log = sys.argv[1], sys.argv[2]
def heard(number, frame):
    with open(log, "a") as stream:
        stream.write(f"{name} {signal.Signals(number).name}\n")
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, heard)
if name == "child":
    subprocess.Popen([sys.executable, __file__, "own-session", log], start_new_session=True)
else:
    open(log + ".ready", "w")
while True:
    time.sleep(0.1)
PY
cat >"$there/job.sh" <<'JOB'
#!/bin/bash
trap 'echo "shell SIGUSR1" >>"$THERE/heard"' USR1
trap 'echo "shell SIGTERM" >>"$THERE/heard"' TERM
python3 "$THERE/listen.py" child "$THERE/heard" &
while kill -0 $! 2>/dev/null; do wait $!; done
JOB
job=$(sbatch --parsable --output=/dev/null --export=ALL,THERE="$there" "$there/job.sh")
until [ -e "$there/heard.ready" ]; do sleep 0.2; done
sleep 1
tell() { # what the processes of the job have heard of a command
    : >"$there/heard"
    "$@"
    sleep 1.5
    sort -u "$there/heard" | tr '\n' ';'
}
plain=$(tell scancel --signal=USR1 "$job") full=$(tell scancel --full --signal=USR1 "$job") end=$(tell scancel "$job")
echo "scancel --signal=USR1:        ${plain:-nobody}"
echo "scancel --full --signal=USR1: $full"
echo "scancel:                      $end"
[ -z "$plain" ] && [ "$full" = "child SIGUSR1;shell SIGUSR1;" ] || { echo "changed: who hears USR1" >&2; exit 1; }
[ "$end" = "child SIGTERM;own-session SIGTERM;shell SIGTERM;" ] || { echo "changed: who hears SIGTERM" >&2; exit 1; }
