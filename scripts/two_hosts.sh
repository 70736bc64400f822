#!/bin/sh
# Two hosts on one machine: two network namespaces joined by a cable of the kernel's (veth), each with its own address, a
# torchrun in each, one process each. Needs root and iproute2.
#
#   scripts/two_hosts.sh dataset=synthetic trainer.max_epochs=2 run_dir=/tmp/two_hosts
#
# KILL=1 kills the second host's process -9 after the first checkpoint; torchrun starts both anew, from the last one.
set -eu
A=seqrec-a B=seqrec-b
for word in "$@"; do case $word in run_dir=*) run=${word#run_dir=} ;; esac; done
: "${run:?give run_dir=FOLDER}"

end() {
    for host in $A $B; do
        ip netns pids $host 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns del $host 2>/dev/null || true
    done
}
trap end EXIT INT TERM
for host in $A $B; do
    ip netns add $host
    ip -n $host link set lo up
done
ip link add cable-a netns $A type veth peer name cable-b netns $B
ip -n $A addr add 10.77.0.1/24 dev cable-a
ip -n $B addr add 10.77.0.2/24 dev cable-b
ip -n $A link set cable-a up
ip -n $B link set cable-b up

host() { # namespace, its end of the cable, its address, whether the others meet there, the words of train
    namespace=$1 cable=$2 address=$3 meeting=$4
    shift 4
    ip netns exec "$namespace" env GLOO_SOCKET_IFNAME="$cable" \
        torchrun --nnodes 2 --nproc-per-node 1 --max-restarts 2 --rdzv-backend c10d --rdzv-endpoint 10.77.0.1:29400 \
        --rdzv-conf is_host="$meeting" --rdzv-id two-hosts --local-addr "$address" -m seqrec_cli train hardware.threads=1 "$@"
}
host $A cable-a 10.77.0.1 1 "$@" &
first=$!
host $B cable-b 10.77.0.2 0 "$@" &
second=$!
if [ -n "${KILL:-}" ]; then
    until [ -s "$run/last.pt" ]; do sleep 0.2; done
    for pid in $(ip netns pids $B); do
        if tr '\0' '\n' <"/proc/$pid/environ" | grep -qx LOCAL_RANK=0; then
            echo "two_hosts: kill -9 $pid on the second host"
            kill -9 "$pid"
        fi
    done
fi
wait $first
wait $second
