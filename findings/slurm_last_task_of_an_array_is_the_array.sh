#!/usr/bin/env bash
# The last task of a Slurm array has the number of the whole array.
#
# Expected: in a task of an array SLURM_JOB_ID is the task's own number, so a script may call
#   `scontrol requeue "$SLURM_JOB_ID"` to queue itself again near its time limit.
# Happens: in the last task it is the number of the array. There `scontrol show job $SLURM_JOB_ID` prints all tasks, and
#   `scontrol requeue $SLURM_JOB_ID` ends and requeues every task that runs, with exit code 0 and no message.
# Matters: one task of eight near its time limit ends the other seven, too. Only
#   ${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID} names one task.
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
KillWait=2
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

touch "$there/seen"
cat >"$there/job.sh" <<'JOB'
#!/bin/bash
echo "$SLURM_ARRAY_TASK_ID $SLURM_JOB_ID" >>"$THERE/seen"
sleep 60
JOB
array=$(sbatch --parsable --array=1-3 --output=/dev/null --export=ALL,THERE="$there" "$there/job.sh")
until [ "$(wc -l <"$there/seen" 2>/dev/null)" = 3 ]; do sleep 0.2; done
echo "array $array; task and its SLURM_JOB_ID:"
sort "$there/seen"
own=$(awk '$1 == 3 {print $2}' "$there/seen")
[ "$own" = "$array" ] || { echo "changed: the last task has a number of its own" >&2; exit 1; }
shown=$(scontrol show job -o "$own" | wc -l)
echo "scontrol show job of the last task's SLURM_JOB_ID: $shown jobs"
scontrol requeue "$own"
sleep 1
requeued=$(scontrol show job -o "$array" | grep -c "Restarts=1")
echo "scontrol requeue of the last task's SLURM_JOB_ID: $requeued tasks requeued"
scancel "$array"
[ "$shown" = 3 ] && [ "$requeued" = 3 ] || { echo "changed: no more than the one task was meant" >&2; exit 1; }
