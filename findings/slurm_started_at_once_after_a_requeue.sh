#!/usr/bin/env bash
# A requeued Slurm job that is started at once can fail for good without a run.
#
# Expected: `scontrol requeue JOB` lets the job wait for 2 minutes (Reason=BeginTime). `scontrol update JobId=JOB StartTime=now`
#   ends this wait, and the job runs again.
# Happens: if the job starts on its old node within the second in which the node revoked its credential, slurmd refuses it.
#   slurmctld logs "Killing non-startable batch JobId=N: Job credential revoked"; the job is FAILED and is not queued again.
# Matters: the wait is `cred_expire` of AuthInfo, and exists for this reason. A script that shortens the wait loses jobs,
#   and more often on a busy machine. Setting a smaller cred_expire is safe.
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

array=$(sbatch --parsable --requeue --output=/dev/null --wrap "sleep 300")
revoked() { grep -c "Job credential revoked" "$there/slurmctld.log" || true; }
state() { scontrol show job -o "$array" | sed 's/.*JobState=\([A-Z]*\).*/\1/'; }
for attempt in $(seq 20); do
    until [ "$(state)" = RUNNING ]; do sleep 0.1; done
    scontrol requeue "$array"
    until [ "$(state)" = PENDING ]; do sleep 0.02; done
    scontrol update JobId="$array" StartTime=now
    until [ "$(state)" = RUNNING ] || [ "$(state)" = FAILED ]; do sleep 0.1; done
    sleep 1
    [ "$(state)" != FAILED ] || break
done
echo "start $attempt after a requeue: $(state); times revoked: $(revoked)"
scontrol show job "$array" | grep -E "JobState|Restarts|ExitCode"
ended=$(state)
scancel "$array" 2>/dev/null || true
[ "$ended" = FAILED ] && [ "$(revoked)" = 1 ] || { echo "changed: the job was started again each time" >&2; exit 1; }
