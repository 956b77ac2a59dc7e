#!/usr/bin/env bash
# Publishes notification events to Bongsu over HTTP, one request per event.
#
#   ./publish.sh --gateway http://127.0.0.1:7400 --sender shop-1 --url http://127.0.0.1:7401/hook/1
#
# BONGSU_API_KEY, when set, is sent as the bearer token.
set -euo pipefail

client=curl gateway=http://127.0.0.1:7400 sender=example count=1 start=1 url=''
while [ $# -gt 1 ]; do
    case $1 in
        --gateway) gateway=$2 ;;
        --bootstrap | --topic-prefix) ;; # the gateway knows them
        --sender) sender=$2 ;;
        --count) count=$2 ;;
        --start-seq) start=$2 ;;
        --url) url=$2 ;;
        *) echo "unknown argument $1" >&2; exit 64 ;;
    esac
    shift 2
done

key=()
if [ -n "${BONGSU_API_KEY:-}" ]; then key=(-H "authorization: Bearer $BONGSU_API_KEY"); fi

# The answer 202 means: Kafka has it. Anything else may be sent again: the id makes a repeat harmless.
for ((seq = start; seq < start + count; seq++)); do
    printf '{"id":"%s-%d","sender":"%s","target":{"recipients":[{"id":"user-1","addresses":[{"channel":"webhook","address":"%s"}]}]},"plan":{"channels":["webhook"]},"content":{"title":"Hello","data":{"seq":"%d"}}}' \
        "$client" "$seq" "$sender" "$url" "$seq" |
        curl --silent --show-error --fail-with-body --retry 5 --retry-all-errors \
            -H 'content-type: application/json' "${key[@]}" --data-binary @- "$gateway/v1/events"
    echo
done
