#!/bin/sh
# Writes survive a dead node: five nodes, kill -9 of one, a write meanwhile, and the node has it after all.
#
#     sh examples/dead_node.sh [PORT]     # needs curl, and `dynamo` installed; ports PORT to PORT+4, PORT+100 to PORT+104
set -eu
port=${1:-9098}
node=http://127.0.0.1:$port last=http://127.0.0.1:$((port + 4)) data=$(mktemp -d)
dynamo() { ${DYNAMO:-dynamo} "$@"; }
${DYNAMO:-dynamo} cluster --nodes 5 --http-port "$port" --rpc-port $((port + 100)) --json \
    --data-dir "$data" >"$data/told" 2>"$data/said" &
cluster=$!
trap 'kill $cluster ${again:-}; wait; rm -rf "$data"' EXIT
put() { curl -sS -f -o "$data/reply" -D - -X PUT -H 'Content-Type: text/plain' -d "$2" "$node/buckets/carts/keys/$1?w=3"; }
for try in $(seq 300); do
  [ -s "$data/told" ] && break
  sleep 0.2
done
