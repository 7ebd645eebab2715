#!/usr/bin/env bash
# Two machines, as far as their processes can tell: two network namespaces with names and addresses of their own, joined by a cable.
#   sudo bash tests/faults/two_nodes.sh [FOLDER]     # needs iproute2 and vr1kit on the PATH; about three minutes; FOLDER: out/two_nodes
# One process on each, on the CPU, by configs/accelerate/multi_node.yaml without FSDP2 and bfloat16. Tried are:
#   whole      the log and the weights are those of two processes on one machine, byte for byte
#   killed     kill -9 of all processes of the second machine ends the first within a minute; the same command ends as `whole`
#   unshared   machines that do not share VR1KIT_RUNS are told so in one line
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
out=$(realpath -m "${1:-out/two_nodes}")
mkdir -p "$out" && cd "$out" && rm -rf runs elsewhere ./*.txt
export OMP_NUM_THREADS=1 VR1KIT_RUNS=$out/runs
sed -e '/^fsdp_config/,$d' -e 's/distributed_type: FSDP/distributed_type: MULTI_GPU/' -e 's/mixed_precision: bf16/mixed_precision: "no"/' \
  -e 's/num_processes: 16/num_processes: 2/' "$here/configs/accelerate/multi_node.yaml" > nodes.yaml
python -c "from pathlib import Path; from vr1kit.scenes import write_scenes; write_scenes(Path('scenes'), 'toybox', range(8))"
words=(train --profile tiny --data scenes -p steps 6 -p prompts_per_step 2 -p num_generations 2 -p save_steps 2)

clean() {
  for k in 0 1; do
    ip netns pids node$k 2>/dev/null | xargs -r kill -9 || true
    ip netns del node$k 2>/dev/null || true
    rm -rf /etc/netns/node$k
  done
}
trap clean EXIT
clean
for k in 0 1; do
  ip netns add node$k
  mkdir -p /etc/netns/node$k
  printf '127.0.0.1 localhost\n10.77.0.1 node0\n10.77.0.2 node1\n' > /etc/netns/node$k/hosts
done
ip link add cable0 type veth peer name cable1
for k in 0 1; do
  ip link set cable$k netns node$k
  ip -n node$k addr add 10.77.0.$((k + 1))/24 dev cable$k
  ip -n node$k link set cable$k up
  ip -n node$k link set lo up
done

node() { # node K LABEL: the command on machine K
  ip netns exec "node$1" unshare --uts sh -c "hostname node$1; exec \"\$@\"" _ accelerate launch --config_file nodes.yaml \
    --machine_rank "$1" --main_process_ip node0 -m vr1kit.cli "${words[@]}" --label "$2" >> "$2.$1.txt" 2>&1
}
both() { # both LABEL: on both machines, side by side
  node 1 "$1" & local second=$!
  node 0 "$1" && wait $second
}
rows() { wc -l 2> /dev/null < "runs/models/training/$1/log.jsonl" || echo 0; }
same() { # same LABEL: as on one machine
  for label in one "$1"; do sed 's/"seconds": [0-9.]*, //' "runs/models/training/$label/log.jsonl" > "$label.rows"; done
  cmp one.rows "$1.rows" && cmp "runs/models/training/"{one,"$1"}/model/model.safetensors && echo "$1: $(rows "$1") steps, log and weights as on one machine"
}

vr1kit "${words[@]}" --label one --processes 2 > one.txt 2>&1
both whole
same whole

node 1 killed & second=$!
node 0 killed & first=$!
while [ "$(rows killed)" -lt 3 ]; do sleep 0.1; done
ip netns pids node1 | xargs kill -9
began=$SECONDS
if wait $first; then echo "killed: the first machine did not notice" && exit 1; fi
wait $second || true
echo "killed: the first machine ended after $((SECONDS - began)) s: $(grep -m 1 -o 'vr1kit: .*' killed.0.txt)"
[ $((SECONDS - began)) -lt 60 ]
both killed
same killed

VR1KIT_RUNS=$out/elsewhere node 1 unshared & second=$!
if node 0 unshared; then echo "unshared: trained, and should not have" && exit 1; fi
wait $second || true
echo "unshared: $(grep -m 1 -o 'vr1kit: .*' unshared.0.txt)"
[ ! -e runs/models/training/unshared/model ]
