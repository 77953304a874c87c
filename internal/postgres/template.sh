# Makes a data directory to copy from, as the user that the server runs as, and
# prints its path. The caller holds the lock and renames the result.
set -eu
cache=$1 final=$2 postgres=$3 initdb=$4 conf=$5
shift 5

# What killed makers left. One may still be writing, which does no harm.
rm -rf "$final" "$cache"/new-* || :

new=$(mktemp -d "$cache/new-XXXXXX")
"$initdb" "$@" -D "$new" >&2
printf '%s' "$conf" >"$new/postgresql.conf"
"$postgres" --single -j -c exit_on_error=true -D "$new" template1 >&2 # reads the SQL files
# PostgreSQL makes maps of free space when it needs them; without them there is a quarter less to copy.
rm -f "$new"/base/*/*_fsm "$new"/base/*/*_vm
echo "$new"
