#!/usr/bin/env bash
# Publishes notification events to Bongsu as JSON lines, with kcat.
#
#   ./publish.sh --bootstrap localhost:9092 --sender shop-1 --url http://127.0.0.1:7401/hook/1
set -euo pipefail

client=kcat bootstrap='' prefix=bongsu. sender=example count=1 start=1 url=''
while [ $# -gt 1 ]; do
    case $1 in
        --bootstrap) bootstrap=$2 ;;
        --topic-prefix) prefix=$2 ;;
        --sender) sender=$2 ;;
        --count) count=$2 ;;
        --start-seq) start=$2 ;;
        --url) url=$2 ;;
        *) echo "unknown argument $1" >&2; exit 64 ;;
    esac
    shift 2
done

# One event per line. The key (-k) is the sender, the partitioner is Java's.
for ((seq = start; seq < start + count; seq++)); do
    printf '{"id":"%s-%d","sender":"%s","target":{"recipients":[{"id":"user-1","addresses":[{"channel":"webhook","address":"%s"}]}]},"plan":{"channels":["webhook"]},"content":{"title":"Hello","data":{"seq":"%d"}}}\n' \
        "$client" "$seq" "$sender" "$url" "$seq"
done | kcat -P -b "$bootstrap" -t "${prefix}events" -k "$sender" -H "bongsu-client-id=$client" \
    -X partitioner=murmur2_random -X enable.idempotence=true
