#!/usr/bin/env bash
# Does what an application does: writes notifications into the outbox, one transaction each.
# relay.py then moves them to Bongsu.
#
#   ./publish.sh --database postgres://localhost/shop --sender shop-1 --url http://127.0.0.1:7401/hook/1
set -euo pipefail

database='' sender=example count=1 start=1 url=''
while [ $# -gt 1 ]; do
    case $1 in
        --database) database=$2 ;;
        --bootstrap | --topic-prefix) ;; # the relay knows them
        --sender) sender=$2 ;;
        --count) count=$2 ;;
        --start-seq) start=$2 ;;
        --url) url=$2 ;;
        *) echo "unknown argument $1" >&2; exit 64 ;;
    esac
    shift 2
done

export PGOPTIONS=--client-min-messages=warning
psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 "$database" -f "$(dirname "$0")/outbox.sql"
for ((seq = start; seq < start + count; seq++)); do
    echo "INSERT INTO notification_outbox (sender, event) VALUES (:'sender', jsonb_build_object(
        'target', jsonb_build_object('recipients', jsonb_build_array(jsonb_build_object('id', 'user-1', 'addresses',
            jsonb_build_array(jsonb_build_object('channel', 'webhook', 'address', :'url'::text))))),
        'plan', jsonb_build_object('channels', jsonb_build_array('webhook')),
        'content', jsonb_build_object('title', 'Hello', 'data', jsonb_build_object('seq', '$seq'))));"
done | psql --quiet --no-psqlrc -v ON_ERROR_STOP=1 -v sender="$sender" -v url="$url" "$database"
